"""Sources, configurations, and which sources a configuration asks."""

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

source = sa.Table(
    "source",
    metadata,
    primary_key(),
    organization(),
    sa.Column("name", Text, nullable=False),
    sa.Column("type", Text, nullable=False),
    sa.Column("enabled", Flag, nullable=False),
    text("description"),
    text("issuer"),  # of its patient IDs; empty: its answers say it, or nobody knows
    text("ae_title"),
    text("calling_ae_title"),  # empty: ours
    text("host"),
    sa.Column("port", BigInt, nullable=False),
    sa.Column("tls", Flag, nullable=False),
    text("tls_name"),
    text("url"),
    sa.Column("authentication", Text, nullable=False),
    text("user_name"),
    text("secret"),  # sealed
    sa.Column("limits", Text, nullable=False),  # JSON
    sa.Column("quirks", Text, nullable=False),  # JSON
    sa.Column("version", BigInt, nullable=False),
    instant("created_at_us"),
    sa.UniqueConstraint("organization_id", "name"),
)

spanner_config = sa.Table(
    "spanner_config",
    metadata,
    primary_key(),
    organization(),
    sa.Column("name", Text, nullable=False),
    text("description"),
    sa.Column("max_concurrent_sources", BigInt, nullable=False),
    sa.Column("timeout_ms", BigInt, nullable=False),
    sa.Column("retry_attempts", BigInt, nullable=False),
    sa.Column("failure_strategy", Text, nullable=False),
    sa.Column("deduplication_enabled", Flag, nullable=False),
    sa.Column("enterprise_mode", Flag, nullable=False),
    sa.Column("ae_title", Text),  # that workstations call to ask all of it; NULL: none
    sa.Column("cache_seconds", BigInt, nullable=False),
    sa.Column("keep_retrieved", Flag, nullable=False),
    sa.Column("version", BigInt, nullable=False),
    instant("created_at_us"),
    sa.UniqueConstraint("organization_id", "name"),
    sa.UniqueConstraint("ae_title"),  # whose archives an association asks must be one organisation's alone
)

spanner_source = sa.Table(
    "spanner_source",
    metadata,
    primary_key(),
    organization(),
    sa.Column("config_id", BigInt, sa.ForeignKey("spanner_config.id"), nullable=False),
    sa.Column("source_id", BigInt, sa.ForeignKey("source.id"), nullable=False),
    sa.Column("priority", BigInt, nullable=False),
    sa.Column("timeout_ms", BigInt),  # NULL: the configuration's
    sa.UniqueConstraint("organization_id", "config_id", "source_id"),
    sa.Index(None, "source_id"),
)

# On PostgreSQL in parts by month, which the key therefore has to name.
spanner_query_log = sa.Table(
    "spanner_query_log",
    metadata,
    sa.Column("asked_at_us", BigInt, primary_key=True),
    sa.Column("query_id", Text, primary_key=True),
    organization(),
    sa.Column("config_id", BigInt, nullable=False),  # which may have gone since
    sa.Column("asker_kind", Text, nullable=False),
    text("asker_id"),
    text("asker_name"),
    text("trace_id"),
    sa.Column("level", Text, nullable=False),
    text("keywords"),
    count("answers"),
    sa.Column("outcome", Text, nullable=False),
    count("took_ms"),
    count("age_ms"),
    sa.Column("sources", Text, nullable=False),  # JSON
    sa.Index(None, "organization_id", "asked_at_us"),
    sa.Index(None, "organization_id", "config_id", "asked_at_us"),
)
