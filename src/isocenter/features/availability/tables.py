"""Whom the availability of studies is told, and how far."""

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

availability_cursor = sa.Table(  # how far the change feed was read for an AE title
    "availability_cursor",
    metadata,
    primary_key(),
    organization(),
    sa.Column("ae_title", Text, nullable=False),
    sa.Column("change_number", BigInt, nullable=False),
    sa.UniqueConstraint("organization_id", "ae_title"),
)

availability_notice = sa.Table(  # one for each study and each AE title that is told of it
    "availability_notice",
    metadata,
    primary_key(),
    organization(),
    sa.Column("ae_title", Text, nullable=False),
    sa.Column("study_instance_uid", Text, nullable=False),
    sa.Column("state", Text, nullable=False),  # waiting, told, gone (no such study any more), given-up
    sa.Column("due_at_us", BigInt),  # NULL: nothing is left to do
    count("attempts"),
    text("last_error"),
    instant("changed_at_us"),
    sa.Column("told_at_us", BigInt),
    sa.UniqueConstraint("organization_id", "ae_title", "study_instance_uid"),
    sa.Index(None, "due_at_us"),
)
