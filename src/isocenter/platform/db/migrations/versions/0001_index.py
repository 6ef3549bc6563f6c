"""The index, the change feed, quarantine and the AE registry; one organisation, ``default``."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
Flag = sa.SmallInteger()


def upgrade() -> None:
    op.create_table(
        "organization",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("slug", Text, nullable=False),
        sa.Column("name", Text, server_default="", nullable=False),
        sa.Column("settings", Text, server_default="{}", nullable=False),
        sa.Column("created_at_us", BigInt, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization")),
        sa.UniqueConstraint("slug", name=op.f("uq_organization_slug")),
    )
    op.create_table(
        "ae_title",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("title", Text, nullable=False),
        sa.Column("description", Text, server_default="", nullable=False),
        sa.Column("created_at_us", BigInt, nullable=False),
        sa.Column("last_seen_at_us", BigInt, nullable=True),
        sa.Column("last_seen_host", Text, server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_ae_title_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ae_title")),
        sa.UniqueConstraint("organization_id", "title", name=op.f("uq_ae_title_organization_id_title")),
    )
    op.create_table(
        "archive_total",
        sa.Column("organization_id", BigInt, autoincrement=False, nullable=False),
        sa.Column("changes", BigInt, server_default="0", nullable=False),
        sa.Column("objects", BigInt, server_default="0", nullable=False),
        sa.Column("bytes", BigInt, server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_archive_total_organization_id_organization"),
        ),
        sa.PrimaryKeyConstraint("organization_id", name=op.f("pk_archive_total")),
    )
    op.create_table(
        "change_feed",
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("number", BigInt, nullable=False),
        sa.Column("at_us", BigInt, nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("study_instance_uid", Text, server_default="", nullable=False),
        sa.Column("series_instance_uid", Text, server_default="", nullable=False),
        sa.Column("sop_instance_uid", Text, server_default="", nullable=False),
        sa.Column("detail", Text, server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_change_feed_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("organization_id", "number", name=op.f("pk_change_feed")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "patient",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("patient_id", Text, server_default="", nullable=False),
        sa.Column("issuer", Text, server_default="", nullable=False),
        sa.Column("generated", Flag, server_default="0", nullable=False),
        sa.Column("name_key", Text, server_default="", nullable=False),
        sa.Column("birth_date", Text, server_default="", nullable=False),
        sa.Column("sex", Text, server_default="", nullable=False),
        sa.Column("fragments", Text, server_default="", nullable=False),
        sa.Column("corrected", Flag, server_default="0", nullable=False),
        sa.Column("merged_into_pk", BigInt, nullable=True),
        sa.Column("survivor_pk", BigInt, nullable=True),
        sa.Column("merged_at_us", BigInt, nullable=True),
        sa.Column("merged_by", Text, server_default="", nullable=False),
        sa.Column("merge_reason", Text, server_default="", nullable=False),
        sa.Column("created_at_us", BigInt, nullable=False),
        sa.Column("updated_at_us", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_patient_organization_id_organization")
        ),
        sa.ForeignKeyConstraint(
            ["merged_into_pk"], ["patient.id"], name=op.f("fk_patient_merged_into_pk_patient")
        ),
        sa.ForeignKeyConstraint(["survivor_pk"], ["patient.id"], name=op.f("fk_patient_survivor_pk_patient")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
        sa.UniqueConstraint(
            "organization_id",
            "issuer",
            "patient_id",
            name=op.f("uq_patient_organization_id_issuer_patient_id"),
        ),
    )
    op.create_index(
        op.f("ix_patient_organization_id_birth_date"),
        "patient",
        ["organization_id", "birth_date"],
        unique=False,
    )
    op.create_index(
        op.f("ix_patient_organization_id_name_key"), "patient", ["organization_id", "name_key"], unique=False
    )
    op.create_index(
        op.f("ix_patient_organization_id_patient_id"),
        "patient",
        ["organization_id", "patient_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_patient_organization_id_survivor_pk"),
        "patient",
        ["organization_id", "survivor_pk"],
        unique=False,
    )
    op.create_table(
        "quarantine",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("public_id", Text, nullable=False),
        sa.Column("object_key", Text, nullable=False),
        sa.Column("size", BigInt, nullable=False),
        sa.Column("header_size", BigInt, nullable=False),
        sa.Column("sha256", Text, nullable=False),
        sa.Column("transfer_syntax_uid", Text, server_default="", nullable=False),
        sa.Column("problems", Text, nullable=False),
        sa.Column("known", Text, server_default="{}", nullable=False),
        sa.Column("door", Text, server_default="", nullable=False),
        sa.Column("peer", Text, server_default="", nullable=False),
        sa.Column("received_at_us", BigInt, nullable=False),
        sa.Column("times_seen", BigInt, server_default="0", nullable=False),
        sa.Column("state", Text, server_default="waiting", nullable=False),
        sa.Column("settled_at_us", BigInt, nullable=True),
        sa.Column("settled_note", Text, server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_quarantine_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("public_id", name=op.f("uq_quarantine_public_id")),
    )
    op.create_index(op.f("ix_quarantine_object_key"), "quarantine", ["object_key"], unique=False)
    op.create_index(
        "uq_quarantine_waiting_object_key",
        "quarantine",
        ["organization_id", "object_key"],
        unique=True,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "refused_association",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("calling_ae_title", Text, nullable=False),
        sa.Column("peer_host", Text, nullable=False),
        sa.Column("called_ae_title", Text, server_default="", nullable=False),
        sa.Column("reason", Text, server_default="", nullable=False),
        sa.Column("times", BigInt, server_default="0", nullable=False),
        sa.Column("first_at_us", BigInt, nullable=False),
        sa.Column("last_at_us", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_refused_association_organization_id_organization"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refused_association")),
        sa.UniqueConstraint(
            "organization_id",
            "calling_ae_title",
            "peer_host",
            name=op.f("uq_refused_association_organization_id_calling_ae_title_peer_host"),
        ),
    )
    op.create_table(
        "sweep_mark",
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("object_key", Text, nullable=False),
        sa.Column("marked_at_us", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_sweep_mark_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("object_key", name=op.f("pk_sweep_mark")),
    )
    op.create_table(
        "patient_conflict",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("public_id", Text, nullable=False),
        sa.Column("patient_pk", BigInt, nullable=False),
        sa.Column("tag", Text, nullable=False),
        sa.Column("kept", Text, server_default="", nullable=False),
        sa.Column("other", Text, server_default="", nullable=False),
        sa.Column("sop_instance_uid", Text, server_default="", nullable=False),
        sa.Column("seen_at_us", BigInt, nullable=False),
        sa.Column("state", Text, server_default="open", nullable=False),
        sa.Column("settled_at_us", BigInt, nullable=True),
        sa.Column("settled_by", Text, server_default="", nullable=False),
        sa.Column("settled_note", Text, server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_patient_conflict_organization_id_organization"),
        ),
        sa.ForeignKeyConstraint(
            ["patient_pk"],
            ["patient.id"],
            name=op.f("fk_patient_conflict_patient_pk_patient"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_conflict")),
        sa.UniqueConstraint(
            "organization_id",
            "patient_pk",
            "tag",
            "other",
            name=op.f("uq_patient_conflict_organization_id_patient_pk_tag_other"),
        ),
        sa.UniqueConstraint("public_id", name=op.f("uq_patient_conflict_public_id")),
    )
    op.create_index(
        op.f("ix_patient_conflict_organization_id_state_id"),
        "patient_conflict",
        ["organization_id", "state", "id"],
        unique=False,
    )
    op.create_table(
        "patient_link",
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("patient_pk", BigInt, autoincrement=False, nullable=False),
        sa.Column("other_pk", BigInt, autoincrement=False, nullable=False),
        sa.Column("linked_at_us", BigInt, nullable=False),
        sa.Column("linked_by", Text, server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_patient_link_organization_id_organization"),
        ),
        sa.ForeignKeyConstraint(
            ["patient_pk"],
            ["patient.id"],
            name=op.f("fk_patient_link_patient_pk_patient"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["other_pk"], ["patient.id"], name=op.f("fk_patient_link_other_pk_patient"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("patient_pk", "other_pk", name=op.f("pk_patient_link")),
    )
    op.create_index(
        op.f("ix_patient_link_organization_id_other_pk"),
        "patient_link",
        ["organization_id", "other_pk"],
        unique=False,
    )
    op.create_table(
        "deletion",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("public_id", Text, nullable=False),
        sa.Column("study_instance_uid", Text, server_default="", nullable=False),
        sa.Column("series_instance_uid", Text, server_default="", nullable=False),
        sa.Column("sop_instance_uid", Text, server_default="", nullable=False),
        sa.Column("reason", Text, server_default="", nullable=False),
        sa.Column("deleted_by", Text, server_default="", nullable=False),
        sa.Column("known", Text, server_default="{}", nullable=False),
        sa.Column("objects", BigInt, server_default="0", nullable=False),
        sa.Column("bytes", BigInt, server_default="0", nullable=False),
        sa.Column("deleted_at_us", BigInt, nullable=False),
        sa.Column("purge_at_us", BigInt, nullable=False),
        sa.Column("state", Text, server_default="waiting", nullable=False),
        sa.Column("settled_at_us", BigInt, nullable=True),
        sa.Column("settled_by", Text, server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_deletion_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletion")),
        sa.UniqueConstraint("public_id", name=op.f("uq_deletion_public_id")),
    )
    op.create_index(
        op.f("ix_deletion_organization_id_state_id"),
        "deletion",
        ["organization_id", "state", "id"],
        unique=False,
    )
    op.create_index(op.f("ix_deletion_state_purge_at_us"), "deletion", ["state", "purge_at_us"], unique=False)
    op.create_table(
        "deleted_object",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("deletion_pk", BigInt, nullable=False),
        sa.Column("study_instance_uid", Text, server_default="", nullable=False),
        sa.Column("series_instance_uid", Text, server_default="", nullable=False),
        sa.Column("sop_instance_uid", Text, server_default="", nullable=False),
        sa.Column("object_key", Text, nullable=False),
        sa.Column("size", BigInt, nullable=False),
        sa.Column("header_size", BigInt, nullable=False),
        sa.Column("sha256", Text, nullable=False),
        sa.Column("version", BigInt, nullable=False),
        sa.Column("instance", Text, server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_deleted_object_organization_id_organization"),
        ),
        sa.ForeignKeyConstraint(
            ["deletion_pk"],
            ["deletion.id"],
            name=op.f("fk_deleted_object_deletion_pk_deletion"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deleted_object")),
    )
    op.create_index(op.f("ix_deleted_object_deletion_pk"), "deleted_object", ["deletion_pk"], unique=False)
    op.create_index(
        op.f("ix_deleted_object_organization_id_object_key"),
        "deleted_object",
        ["organization_id", "object_key"],
        unique=False,
    )
    op.create_table(
        "study",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("patient_pk", BigInt, nullable=False),
        sa.Column("told_patient_pk", BigInt, nullable=False),
        sa.Column("study_instance_uid", Text, nullable=False),
        sa.Column("study_date", Text, server_default="", nullable=False),
        sa.Column("study_time", Text, server_default="", nullable=False),
        sa.Column("accession_number", Text, server_default="", nullable=False),
        sa.Column("study_id", Text, server_default="", nullable=False),
        sa.Column("description_key", Text, server_default="", nullable=False),
        sa.Column("referring_physician_key", Text, server_default="", nullable=False),
        sa.Column("timezone", Text, server_default="", nullable=False),
        sa.Column("modalities", Text, server_default="", nullable=False),
        sa.Column("series_count", BigInt, server_default="0", nullable=False),
        sa.Column("instance_count", BigInt, server_default="0", nullable=False),
        sa.Column("fragments", Text, server_default="", nullable=False),
        sa.Column("created_at_us", BigInt, nullable=False),
        sa.Column("updated_at_us", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_study_organization_id_organization")
        ),
        sa.ForeignKeyConstraint(["patient_pk"], ["patient.id"], name=op.f("fk_study_patient_pk_patient")),
        sa.ForeignKeyConstraint(
            ["told_patient_pk"], ["patient.id"], name=op.f("fk_study_told_patient_pk_patient")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint(
            "organization_id", "study_instance_uid", name=op.f("uq_study_organization_id_study_instance_uid")
        ),
    )
    op.create_index(
        op.f("ix_study_organization_id_accession_number"),
        "study",
        ["organization_id", "accession_number"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_organization_id_created_at_us"),
        "study",
        ["organization_id", "created_at_us"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_organization_id_patient_pk"), "study", ["organization_id", "patient_pk"], unique=False
    )
    op.create_index(
        op.f("ix_study_organization_id_study_date"), "study", ["organization_id", "study_date"], unique=False
    )
    op.create_index(
        op.f("ix_study_organization_id_told_patient_pk"),
        "study",
        ["organization_id", "told_patient_pk"],
        unique=False,
    )
    op.create_table(
        "series",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("study_pk", BigInt, nullable=False),
        sa.Column("series_instance_uid", Text, nullable=False),
        sa.Column("modality", Text, server_default="", nullable=False),
        sa.Column("series_number", BigInt, nullable=True),
        sa.Column("series_date", Text, server_default="", nullable=False),
        sa.Column("series_time", Text, server_default="", nullable=False),
        sa.Column("description_key", Text, server_default="", nullable=False),
        sa.Column("body_part_examined", Text, server_default="", nullable=False),
        sa.Column("station_name", Text, server_default="", nullable=False),
        sa.Column("performing_physician_key", Text, server_default="", nullable=False),
        sa.Column("pps_start_date", Text, server_default="", nullable=False),
        sa.Column("pps_start_time", Text, server_default="", nullable=False),
        sa.Column("instance_count", BigInt, server_default="0", nullable=False),
        sa.Column("sop_classes", Text, server_default="", nullable=False),
        sa.Column("fragments", Text, server_default="", nullable=False),
        sa.Column("merged_digest", Text, server_default="", nullable=False),
        sa.Column("created_at_us", BigInt, nullable=False),
        sa.Column("updated_at_us", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_series_organization_id_organization")
        ),
        sa.ForeignKeyConstraint(["study_pk"], ["study.id"], name=op.f("fk_series_study_pk_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint(
            "organization_id",
            "study_pk",
            "series_instance_uid",
            name=op.f("uq_series_organization_id_study_pk_series_instance_uid"),
        ),
    )
    op.create_index(
        op.f("ix_series_organization_id_series_instance_uid"),
        "series",
        ["organization_id", "series_instance_uid"],
        unique=False,
    )
    op.create_table(
        "instance",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("series_pk", BigInt, nullable=False),
        sa.Column("sop_instance_uid", Text, nullable=False),
        sa.Column("sop_class_uid", Text, nullable=False),
        sa.Column("transfer_syntax_uid", Text, nullable=False),
        sa.Column("instance_number", BigInt, nullable=True),
        sa.Column("content_date", Text, server_default="", nullable=False),
        sa.Column("content_time", Text, server_default="", nullable=False),
        sa.Column("number_of_frames", BigInt, server_default="1", nullable=False),
        sa.Column("fragments", Text, server_default="", nullable=False),
        sa.Column("object_key", Text, nullable=False),
        sa.Column("size", BigInt, nullable=False),
        sa.Column("header_size", BigInt, nullable=False),
        sa.Column("sha256", Text, nullable=False),
        sa.Column("received_sha256", Text, server_default="", nullable=False),
        sa.Column("received_transfer_syntax_uid", Text, server_default="", nullable=False),
        sa.Column("pixel_offset", BigInt, nullable=True),
        sa.Column("pixel_length", BigInt, nullable=True),
        sa.Column("frame_offsets", Text, server_default="", nullable=False),
        sa.Column("version", BigInt, server_default="1", nullable=False),
        sa.Column("duplicate_count", BigInt, server_default="0", nullable=False),
        sa.Column("current", Flag, server_default="1", nullable=False),
        sa.Column("door", Text, server_default="", nullable=False),
        sa.Column("peer", Text, server_default="", nullable=False),
        sa.Column("received_at_us", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_instance_organization_id_organization")
        ),
        sa.ForeignKeyConstraint(["series_pk"], ["series.id"], name=op.f("fk_instance_series_pk_series")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
    )
    op.create_index(op.f("ix_instance_object_key"), "instance", ["object_key"], unique=False)
    op.create_index(
        op.f("ix_instance_series_pk_instance_number"),
        "instance",
        ["series_pk", "instance_number"],
        unique=False,
    )
    op.create_index(
        "uq_instance_current_sop_instance_uid",
        "instance",
        ["organization_id", "sop_instance_uid"],
        unique=True,
        sqlite_where=sa.text("current = 1"),
        postgresql_where=sa.text("current = 1"),
    )
    op.create_index(
        "uq_instance_earlier_sop_instance_uid_version",
        "instance",
        ["organization_id", "sop_instance_uid", "version"],
        unique=True,
        sqlite_where=sa.text("current = 0"),
        postgresql_where=sa.text("current = 0"),
    )
    op.create_index(
        "ix_instance_statistics",
        "instance",
        [
            "organization_id",
            "current",
            "sop_class_uid",
            "transfer_syntax_uid",
            "received_at_us",
            "size",
        ],
        unique=False,
        sqlite_where=sa.text("size >= 0"),
        postgresql_where=sa.text("size >= 0"),
    )
    for level in ("patient", "study", "series", "instance"):
        _create_values(level)
    op.create_table(
        "series_derived",
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("series_pk", BigInt, nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("made_of", Text, nullable=False),
        sa.Column("object_key", Text, nullable=False),
        sa.Column("made_at_us", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_series_derived_organization_id_organization"),
        ),
        sa.ForeignKeyConstraint(
            ["series_pk"],
            ["series.id"],
            name=op.f("fk_series_derived_series_pk_series"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_derived")),
        sa.UniqueConstraint(
            "organization_id",
            "series_pk",
            "kind",
            name=op.f("uq_series_derived_organization_id_series_pk_kind"),
        ),
    )
    op.create_index(op.f("ix_series_derived_series_pk"), "series_derived", ["series_pk"], unique=False)
    op.create_index(op.f("ix_series_derived_object_key"), "series_derived", ["object_key"], unique=False)
    op.create_table(
        "feed_cursor",
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("reader", Text, nullable=False),
        sa.Column("change_number", BigInt, server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_feed_cursor_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("organization_id", "reader", name=op.f("pk_feed_cursor")),
    )
    op.execute(
        "INSERT INTO organization (slug, name, settings, created_at_us)"
        " VALUES ('default', 'Default', '{}', 0)"
    )


def _create_values(level: str) -> None:
    table, pk = f"{level}_value", f"{level}_pk"
    op.create_table(
        table,
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column(pk, BigInt, nullable=False),
        sa.Column("path", Text, nullable=False),
        sa.Column("item", BigInt, nullable=False),
        sa.Column("inner_item", BigInt, nullable=False),
        sa.Column("value", Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f(f"fk_{table}_organization_id_organization")
        ),
        sa.ForeignKeyConstraint(
            [pk], [f"{level}.id"], name=op.f(f"fk_{table}_{pk}_{level}"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(pk, "path", "item", "inner_item", "value", name=op.f(f"pk_{table}")),
    )
    op.create_index(
        op.f(f"ix_{table}_organization_id_path_value_{pk}"),
        table,
        ["organization_id", "path", "value", pk],
        unique=False,
    )
