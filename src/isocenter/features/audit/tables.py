"""The trail, its newest entry, and how far repositories outside were told of it."""

from __future__ import annotations

import sqlalchemy as sa

from isocenter.platform.db.types import BigInt, Text, instant, metadata, organization, primary_key, text

audit_event = sa.Table(
    "audit_event",
    metadata,
    primary_key(),
    organization(),
    sa.Column("sequence", BigInt, nullable=False),  # 1, 2, 3 … within the organisation
    instant("at_us"),
    sa.Column("action", Text, nullable=False),
    sa.Column("outcome", Text, nullable=False),
    sa.Column("subject_kind", Text, nullable=False),
    sa.Column("subject_id", Text, nullable=False),
    text("subject_name"),
    text("address"),
    text("resource_kind"),
    text("resource_id"),
    sa.Column("details", Text, nullable=False, server_default="{}"),
    text("trace_id"),
    sa.Column("previous_hash", Text, nullable=False),
    sa.Column("hash", Text, nullable=False),
    sa.UniqueConstraint("organization_id", "sequence"),
    sa.Index(None, "organization_id", "resource_id"),
    sa.Index(None, "organization_id", "subject_id"),
)
"""Append-only: triggers refuse UPDATE and DELETE (migration 0004)."""

audit_head = sa.Table(
    "audit_head",
    metadata,
    primary_key(),
    organization(),
    sa.Column("sequence", BigInt, nullable=False),
    sa.Column("hash", Text, nullable=False),
    sa.UniqueConstraint("organization_id"),
)
"""The newest entry of each organisation: what makes a cut-off end visible."""

audit_delivery = sa.Table(
    "audit_delivery",
    metadata,
    primary_key(),
    organization(),
    sa.Column("target", Text, nullable=False),  # host:port of a syslog receiver
    sa.Column("sequence", BigInt, nullable=False),  # the last entry that it was sent
    sa.UniqueConstraint("organization_id", "target"),
)
