"""What is to be done, what is being done, and who wants to hear of it."""

from __future__ import annotations

import sqlalchemy as sa

from isocenter.platform.db.types import (
    BigInt,
    Flag,
    Text,
    instant,
    metadata,
    organization,
    primary_key,
    text,
)

# Unified Procedure Steps (PS3.4 CC). The document is DICOM JSON, without the Transaction UID.
workitem = sa.Table(
    "workitem",
    metadata,
    primary_key(),
    organization(),
    sa.Column("workitem_uid", Text, nullable=False),
    sa.Column("state", Text, nullable=False),
    text("transaction_digest"),  # SHA-256 of the Transaction UID that claimed it
    text("patient_id"),
    text("scheduled_start"),  # YYYYMMDDHHMMSS.ffffff
    sa.Column("document", Text, nullable=False),
    instant("created_at_us"),
    instant("changed_at_us"),
    sa.UniqueConstraint("organization_id", "workitem_uid"),
    sa.Index(None, "organization_id", "state"),
    sa.Index(None, "organization_id", "patient_id"),
)

# To one workitem, or to the worklist itself under its well-known UID.
workitem_subscription = sa.Table(
    "workitem_subscription",
    metadata,
    primary_key(),
    organization(),
    sa.Column("ae_title", Text, nullable=False),
    sa.Column("workitem_uid", Text, nullable=False),
    sa.Column("deletion_lock", Flag, nullable=False, server_default="0"),
    text("filter"),  # JSON: the matching keys of a filtered worklist subscription
    instant("created_at_us"),
    sa.UniqueConstraint("organization_id", "ae_title", "workitem_uid"),
    sa.Index(None, "organization_id", "workitem_uid"),
)

# Reports that a subscriber has not been sent yet.
workitem_event = sa.Table(
    "workitem_event",
    metadata,
    primary_key(),
    organization(),
    sa.Column("ae_title", Text, nullable=False),
    sa.Column("workitem_uid", Text, nullable=False),
    sa.Column("document", Text, nullable=False),
    instant("at_us"),
    sa.Index(None, "organization_id", "ae_title", "id"),
    # A number that was forgotten must not come again: a connection that is being replaced forgets by number.
    sqlite_autoincrement=True,
)

# Scheduled procedure steps, as the modality worklist has them (PS3.4 K.6.1).
worklist_item = sa.Table(
    "worklist_item",
    metadata,
    primary_key(),
    organization(),
    sa.Column("study_instance_uid", Text, nullable=False),
    sa.Column("step_id", Text, nullable=False),
    sa.Column("state", Text, nullable=False),
    text("source"),
    text("workitem_uid"),  # of the workitem that it was made of
    text("station_ae_titles"),  # each between backslashes
    text("patient_id"),
    text("accession_number"),
    text("scheduled_start"),
    sa.Column("document", Text, nullable=False),
    instant("created_at_us"),
    instant("changed_at_us"),
    sa.UniqueConstraint("organization_id", "study_instance_uid", "step_id"),
    sa.Index(None, "organization_id", "state"),
    sa.Index(None, "organization_id", "workitem_uid"),
    sa.Index(None, "organization_id", "accession_number"),
)

# What modalities say that they do (PS3.4 F.7).
performed_step = sa.Table(
    "performed_step",
    metadata,
    primary_key(),
    organization(),
    sa.Column("sop_instance_uid", Text, nullable=False),
    sa.Column("state", Text, nullable=False),
    text("ae_title"),
    sa.Column("document", Text, nullable=False),
    instant("created_at_us"),
    instant("changed_at_us"),
    sa.UniqueConstraint("organization_id", "sop_instance_uid"),
)

# Which scheduled steps it performs; they may be scheduled later than performed.
performed_step_reference = sa.Table(
    "performed_step_reference",
    metadata,
    primary_key(),
    organization(),
    sa.Column(
        "performed_step_pk", BigInt, sa.ForeignKey("performed_step.id", ondelete="CASCADE"), nullable=False
    ),
    text("study_instance_uid"),
    text("step_id"),
    sa.Index(None, "performed_step_pk"),
    sa.Index(None, "organization_id", "study_instance_uid", "step_id"),
)

# What happened to all of these, in order.
worklist_change = sa.Table(
    "worklist_change",
    metadata,
    primary_key(),
    organization(),
    instant("at_us"),
    sa.Column("kind", Text, nullable=False),
    sa.Column("uid", Text, nullable=False),
    text("state"),
    sa.Index(None, "organization_id", "id"),
)
