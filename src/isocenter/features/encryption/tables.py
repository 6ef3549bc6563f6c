"""The organisations' data keys, wrapped by a master key that is kept elsewhere."""

from __future__ import annotations

import sqlalchemy as sa

from isocenter.platform.db.types import Text, instant, metadata, organization, primary_key, text

data_key = sa.Table(
    "data_key",
    metadata,
    primary_key(),
    organization(),
    sa.Column("key_id", Text, nullable=False, unique=True),  # 32 hex digits; stands in each object's header
    text("wrapped_key"),  # hex; empty once destroyed
    text("master_key_id"),  # which master key wrapped it
    sa.Column("state", Text, nullable=False),  # active, retired, destroyed
    instant("created_at_us"),
    sa.Index(
        "ix_data_key_active",
        "organization_id",
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    ),
)
