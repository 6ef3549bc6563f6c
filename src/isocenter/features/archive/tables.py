"""The index: what the archive knows of each object without opening it.

``fragments`` hold a level's attributes as ready DICOM JSON (PS3.18 F.2), one attribute a line, ascending by
tag: ``"00100010":{"vr":"PN","Value":[…]}``. Since each line begins with its tag, merging two levels is
sorting their lines, and a query's answer is those lines joined by commas.

``…_key`` columns are folded for case- and accent-insensitive matching (``dicom.person_name.search_key``).
"""

from __future__ import annotations

import sqlalchemy as sa

from isocenter.platform.db.types import (
    BigInt,
    Flag,
    Text,
    count,
    instant,
    metadata,
    organization,
    primary_key,
    text,
)

organization_table = sa.Table(
    "organization",
    metadata,
    primary_key(),
    sa.Column("slug", Text, nullable=False, unique=True),
    text("name"),
    sa.Column("settings", Text, nullable=False, server_default="{}"),
    instant("created_at_us"),
)

patient = sa.Table(
    "patient",
    metadata,
    primary_key(),
    organization(),
    text("patient_id"),
    text("issuer"),
    sa.Column("generated", Flag, nullable=False, server_default="0"),
    text("name_key"),
    text("birth_date"),
    text("sex"),
    text("fragments"),
    sa.Column("corrected", Flag, nullable=False, server_default="0"),  # a person set demographics here
    # Merged (``patients/``): into whom, and who is left when merges follow one another. NULL: nobody else.
    sa.Column("merged_into_pk", BigInt, sa.ForeignKey("patient.id")),
    sa.Column("survivor_pk", BigInt, sa.ForeignKey("patient.id")),
    sa.Column("merged_at_us", BigInt),
    text("merged_by"),
    text("merge_reason"),
    instant("created_at_us"),
    instant("updated_at_us"),
    sa.UniqueConstraint("organization_id", "issuer", "patient_id"),
    sa.Index(None, "organization_id", "survivor_pk"),
    sa.Index(None, "organization_id", "patient_id"),
    sa.Index(None, "organization_id", "name_key"),
    sa.Index(None, "organization_id", "birth_date"),
)

patient_conflict = sa.Table(
    "patient_conflict",
    metadata,
    primary_key(),
    organization(),
    sa.Column("public_id", Text, nullable=False),  # random: a number would count all organisations' conflicts
    sa.Column("patient_pk", BigInt, sa.ForeignKey("patient.id", ondelete="CASCADE"), nullable=False),
    sa.Column("tag", Text, nullable=False),
    text("kept"),
    text("other"),
    text("sop_instance_uid"),
    instant("seen_at_us"),
    sa.Column("state", Text, nullable=False, server_default="open"),  # open | kept | taken
    sa.Column("settled_at_us", BigInt),
    text("settled_by"),
    text("settled_note"),
    sa.UniqueConstraint("organization_id", "patient_pk", "tag", "other"),
    sa.UniqueConstraint("public_id"),
    sa.Index(None, "organization_id", "state", "id"),
)

patient_link = sa.Table(  # the same person under two identities that both stay; the smaller row number first
    "patient_link",
    metadata,
    organization(),
    sa.Column("patient_pk", BigInt, sa.ForeignKey("patient.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("other_pk", BigInt, sa.ForeignKey("patient.id", ondelete="CASCADE"), primary_key=True),
    instant("linked_at_us"),
    text("linked_by"),
    sa.Index(None, "organization_id", "other_pk"),
)

study = sa.Table(
    "study",
    metadata,
    primary_key(),
    organization(),
    sa.Column("patient_pk", BigInt, sa.ForeignKey("patient.id"), nullable=False),
    # Whom its objects name; where that patient was merged, ``patient_pk`` is who is left.
    sa.Column("told_patient_pk", BigInt, sa.ForeignKey("patient.id"), nullable=False),
    sa.Column("study_instance_uid", Text, nullable=False),
    text("study_date"),
    text("study_time"),
    text("accession_number"),
    text("study_id"),
    text("description_key"),
    text("referring_physician_key"),
    text("timezone"),
    text("modalities"),  # distinct, ascending, separated by a backslash as in (0008,0061)
    count("series_count"),
    count("instance_count"),
    text("fragments"),
    instant("created_at_us"),
    instant("updated_at_us"),
    sa.UniqueConstraint("organization_id", "study_instance_uid"),
    sa.Index(None, "organization_id", "patient_pk"),
    sa.Index(None, "organization_id", "told_patient_pk"),
    sa.Index(None, "organization_id", "study_date"),
    sa.Index(None, "organization_id", "accession_number"),
    sa.Index(None, "organization_id", "created_at_us"),
)

series = sa.Table(
    "series",
    metadata,
    primary_key(),
    organization(),
    sa.Column("study_pk", BigInt, sa.ForeignKey("study.id"), nullable=False),
    sa.Column("series_instance_uid", Text, nullable=False),
    text("modality"),
    sa.Column("series_number", BigInt),
    text("series_date"),
    text("series_time"),
    text("description_key"),
    text("body_part_examined"),
    text("station_name"),
    text("performing_physician_key"),
    text("pps_start_date"),
    text("pps_start_time"),
    count("instance_count"),
    text("sop_classes"),  # distinct, ascending, separated by a blank
    text("fragments"),
    text("merged_digest"),  # of the last patient, study and series attributes merged: equal means nothing new
    instant("created_at_us"),
    instant("updated_at_us"),
    sa.UniqueConstraint("organization_id", "study_pk", "series_instance_uid"),
    sa.Index(None, "organization_id", "series_instance_uid"),
)

instance = sa.Table(
    "instance",
    metadata,
    primary_key(),
    organization(),
    sa.Column("series_pk", BigInt, sa.ForeignKey("series.id"), nullable=False),
    sa.Column("sop_instance_uid", Text, nullable=False),
    sa.Column("sop_class_uid", Text, nullable=False),
    sa.Column("transfer_syntax_uid", Text, nullable=False),
    sa.Column("instance_number", BigInt),
    text("content_date"),
    text("content_time"),
    sa.Column("number_of_frames", BigInt, nullable=False, server_default="1"),
    text("fragments"),
    # The object: ``header_size`` bytes of preamble and file meta information, then the data set;
    # ``sha256`` is the data set's, so that the same image by another door is known as the same.
    sa.Column("object_key", Text, nullable=False),
    sa.Column("size", BigInt, nullable=False),
    sa.Column("header_size", BigInt, nullable=False),
    sa.Column("sha256", Text, nullable=False),
    # What it was when it was received, where the archive has compressed it since (``recompressing.py``).
    text("received_sha256"),
    text("received_transfer_syntax_uid"),
    # Where Pixel Data lies in the object (NULL: none); ``frame_offsets`` for compressed frames.
    sa.Column("pixel_offset", BigInt),
    sa.Column("pixel_length", BigInt),
    text("frame_offsets"),
    sa.Column("version", BigInt, nullable=False, server_default="1"),
    sa.Column("current", Flag, nullable=False, server_default="1"),
    count("duplicate_count"),
    text("door"),
    text("peer"),
    instant("received_at_us"),
    sa.Index(
        "uq_instance_current_sop_instance_uid",
        "organization_id",
        "sop_instance_uid",
        unique=True,
        sqlite_where=sa.text("current = 1"),
        postgresql_where=sa.text("current = 1"),
    ),
    sa.Index(  # earlier versions, looked up by UID
        "uq_instance_earlier_sop_instance_uid_version",
        "organization_id",
        "sop_instance_uid",
        "version",
        unique=True,
        sqlite_where=sa.text("current = 0"),
        postgresql_where=sa.text("current = 0"),
    ),
    sa.Index(None, "series_pk", "instance_number"),
    sa.Index(None, "object_key"),
    # All that statistics count. The condition, always true, keeps it out of every other statement's plans.
    sa.Index(
        "ix_instance_statistics",
        "organization_id",
        "current",
        "sop_class_uid",
        "transfer_syntax_uid",
        "received_at_us",
        "size",
        sqlite_where=sa.text("size >= 0"),
        postgresql_where=sa.text("size >= 0"),
    ),
)


def _values_of(level: str) -> sa.Table:
    """What is matched on by rows of its own (``indexed_values.py``); they go with their entity."""
    pk = f"{level}_pk"
    return sa.Table(
        f"{level}_value",
        metadata,
        organization(),
        sa.Column(pk, BigInt, sa.ForeignKey(f"{level}.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("path", Text, primary_key=True),
        sa.Column("item", BigInt, primary_key=True),
        sa.Column("inner_item", BigInt, primary_key=True),
        sa.Column("value", Text, primary_key=True),
        sa.Index(None, "organization_id", "path", "value", pk),
    )


patient_value = _values_of("patient")
study_value = _values_of("study")
series_value = _values_of("series")
instance_value = _values_of("instance")

quarantine = sa.Table(
    "quarantine",
    metadata,
    primary_key(),
    organization(),
    sa.Column("public_id", Text, nullable=False),  # random: a number would count all organisations' entries
    sa.Column("object_key", Text, nullable=False),
    sa.Column("size", BigInt, nullable=False),
    sa.Column("header_size", BigInt, nullable=False),
    sa.Column("sha256", Text, nullable=False),
    text("transfer_syntax_uid"),
    sa.Column("problems", Text, nullable=False),  # JSON: [{code, tag, detail, remedy}]
    sa.Column("known", Text, nullable=False, server_default="{}"),  # DICOM JSON of what could be read
    text("door"),
    text("peer"),
    instant("received_at_us"),
    count("times_seen"),
    sa.Column("state", Text, nullable=False, server_default="waiting"),  # waiting | accepted | discarded
    sa.Column("settled_at_us", BigInt),
    text("settled_note"),
    sa.Index(
        "uq_quarantine_waiting_object_key",
        "organization_id",
        "object_key",
        unique=True,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    ),
    sa.UniqueConstraint("public_id"),
    sa.Index(None, "object_key"),
)

deletion = sa.Table(  # what somebody deleted, until its grace is over (``deletion/``)
    "deletion",
    metadata,
    primary_key(),
    organization(),
    sa.Column("public_id", Text, nullable=False),
    text("study_instance_uid"),
    text("series_instance_uid"),
    text("sop_instance_uid"),
    text("reason"),
    text("deleted_by"),
    sa.Column("known", Text, nullable=False, server_default="{}"),  # DICOM JSON, for whoever looks at it
    count("objects"),
    count("bytes"),
    instant("deleted_at_us"),
    instant("purge_at_us"),
    sa.Column("state", Text, nullable=False, server_default="waiting"),  # waiting | restored | purged
    sa.Column("settled_at_us", BigInt),
    text("settled_by"),
    sa.UniqueConstraint("public_id"),
    sa.Index(None, "organization_id", "state", "id"),
    sa.Index(None, "state", "purge_at_us"),
)

deleted_object = sa.Table(  # of a deletion that waits: all that the index knew of it is in ``instance``
    "deleted_object",
    metadata,
    primary_key(),
    organization(),
    sa.Column("deletion_pk", BigInt, sa.ForeignKey("deletion.id", ondelete="CASCADE"), nullable=False),
    text("study_instance_uid"),
    text("series_instance_uid"),
    text("sop_instance_uid"),
    sa.Column("object_key", Text, nullable=False),
    sa.Column("size", BigInt, nullable=False),
    sa.Column("header_size", BigInt, nullable=False),
    sa.Column("sha256", Text, nullable=False),
    sa.Column("version", BigInt, nullable=False),
    sa.Column("instance", Text, nullable=False, server_default="{}"),
    sa.Index(None, "deletion_pk"),
    sa.Index(None, "organization_id", "object_key"),
)

archive_total = sa.Table(
    "archive_total",
    metadata,
    organization(),
    count("changes"),  # that were ever told in the feed: the number of the newest
    count("objects"),  # that rows refer to: of any version, and waiting in quarantine
    count("bytes"),
    sa.PrimaryKeyConstraint("organization_id"),
)

change_feed = sa.Table(
    "change_feed",
    metadata,
    organization(),
    sa.Column("number", BigInt, nullable=False),
    instant("at_us"),
    sa.Column("kind", Text, nullable=False),
    text("study_instance_uid"),
    text("series_instance_uid"),
    text("sop_instance_uid"),
    sa.Column("detail", Text, nullable=False, server_default="{}"),
    sa.PrimaryKeyConstraint("organization_id", "number"),
    sqlite_with_rowid=False,  # one tree instead of a table and its index
)

series_derived = sa.Table(  # what is made of a series, kept until it changes (``derived.py``)
    "series_derived",
    metadata,
    primary_key(),
    organization(),
    sa.Column("series_pk", BigInt, sa.ForeignKey("series.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("made_of", Text, nullable=False),
    sa.Column("object_key", Text, nullable=False),
    instant("made_at_us"),
    sa.UniqueConstraint("organization_id", "series_pk", "kind"),
    sa.Index(None, "series_pk"),
    sa.Index(None, "object_key"),
)

feed_cursor = sa.Table(  # how far somebody who reacts to changes has read
    "feed_cursor",
    metadata,
    organization(),
    sa.Column("reader", Text, nullable=False),
    count("change_number"),
    sa.PrimaryKeyConstraint("organization_id", "reader"),
)

sweep_mark = sa.Table(
    "sweep_mark",
    metadata,
    organization(),
    sa.Column("object_key", Text, primary_key=True),
    instant("marked_at_us"),
)
