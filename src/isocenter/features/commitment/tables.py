"""Storage commitment: what others asked of us, and what we asked of others."""

from __future__ import annotations

import sqlalchemy as sa

from isocenter.platform.db.types import (
    BigInt,
    Text,
    count,
    instant,
    metadata,
    organization,
    primary_key,
    text,
)

commitment = sa.Table(
    "commitment",
    metadata,
    primary_key(),
    organization(),
    sa.Column("role", Text, nullable=False),  # scp: asked of us; scu: asked by us
    sa.Column("ae_title", Text, nullable=False),  # the other's
    text("own_ae_title"),
    sa.Column("transaction_uid", Text, nullable=False),
    sa.Column("state", Text, nullable=False),
    count("instance_count"),
    count("failed_count"),
    count("attempts"),
    sa.Column("next_attempt_at_us", BigInt),  # NULL: nothing is left to do
    text("last_error"),
    instant("created_at_us"),
    sa.Column("settled_at_us", BigInt),
    sa.UniqueConstraint("organization_id", "role", "ae_title", "transaction_uid"),
    sa.Index(None, "next_attempt_at_us"),
)

commitment_instance = sa.Table(
    "commitment_instance",
    metadata,
    primary_key(),
    organization(),
    sa.Column("commitment_pk", BigInt, sa.ForeignKey("commitment.id", ondelete="CASCADE"), nullable=False),
    text("sop_class_uid"),
    sa.Column("sop_instance_uid", Text, nullable=False),
    sa.Column("failure_reason", BigInt),  # 0: committed; NULL: not known yet; else (0008,1197)
    sa.Index(None, "commitment_pk"),
    sa.Index(None, "organization_id", "sop_instance_uid"),
)
