"""Every statement on sources and configurations; each takes the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

_OF_SOURCE = """
    source.id, source.name, source.type, source.enabled, source.description, source.issuer,
    source.ae_title, source.calling_ae_title, source.host, source.port, source.tls, source.tls_name,
    source.url, source.authentication, source.user_name, source.secret, source.limits, source.quirks,
    source.version, source.created_at_us
"""
_SOURCES = "SELECT" + _OF_SOURCE + "FROM source WHERE organization_id = :organization_id"

LIST_SOURCES = Sql(_SOURCES + " ORDER BY name")

FIND_SOURCE = Sql(_SOURCES + " AND id = :id")

FIND_SOURCE_NAMED = Sql("SELECT id FROM source WHERE organization_id = :organization_id AND name = :name")

ADD_SOURCE = Sql("""
INSERT INTO source (organization_id, name, type, enabled, description, issuer, ae_title, calling_ae_title,
    host, port, tls, tls_name, url, authentication, user_name, secret, limits, quirks, version, created_at_us)
VALUES (:organization_id, :name, :type, :enabled, :description, :issuer, :ae_title, :calling_ae_title,
    :host, :port, :tls, :tls_name, :url, :authentication, :user_name, '', :limits, :quirks, 1, :created_at_us)
RETURNING id
""")

CHANGE_SOURCE = Sql("""
UPDATE source SET name = :name, type = :type, enabled = :enabled, description = :description,
    issuer = :issuer, ae_title = :ae_title, calling_ae_title = :calling_ae_title, host = :host, port = :port,
    tls = :tls, tls_name = :tls_name, url = :url, authentication = :authentication, user_name = :user_name,
    limits = :limits, quirks = :quirks, version = version + 1
WHERE organization_id = :organization_id AND id = :id
""")

KEEP_SECRET = Sql("UPDATE source SET secret = :secret WHERE organization_id = :organization_id AND id = :id")

REMOVE_SOURCE = Sql("DELETE FROM source WHERE organization_id = :organization_id AND id = :id")

FIND_CONFIGS_OF_SOURCE = Sql("""
SELECT spanner_config.name FROM spanner_source
JOIN spanner_config ON spanner_config.id = spanner_source.config_id
    AND spanner_config.organization_id = :organization_id
WHERE spanner_source.organization_id = :organization_id AND spanner_source.source_id = :id
ORDER BY spanner_config.name
""")

# --- configurations

_CONFIGS = """
SELECT id, name, description, max_concurrent_sources, timeout_ms, retry_attempts, failure_strategy,
    deduplication_enabled, enterprise_mode, ae_title, cache_seconds, keep_retrieved, version, created_at_us
FROM spanner_config WHERE organization_id = :organization_id
"""

LIST_CONFIGS = Sql(_CONFIGS + " ORDER BY name")

FIND_CONFIG = Sql(_CONFIGS + " AND id = :id")

FIND_CALLED = Sql("SELECT organization_id, id, ae_title FROM spanner_config WHERE ae_title IS NOT NULL")
"""Of all organisations: whose a called title is has to be found out."""

FIND_CONFIG_NAMED = Sql(
    "SELECT id FROM spanner_config WHERE organization_id = :organization_id AND name = :name"
)

# Another organisation's title is not seen (row-level security), but it stands in the way.
ADD_CONFIG = Sql("""
INSERT INTO spanner_config (organization_id, name, description, max_concurrent_sources, timeout_ms,
    retry_attempts, failure_strategy, deduplication_enabled, enterprise_mode, ae_title, cache_seconds,
    keep_retrieved, version, created_at_us)
VALUES (:organization_id, :name, :description, :max_concurrent_sources, :timeout_ms,
    :retry_attempts, :failure_strategy, :deduplication_enabled, :enterprise_mode, :ae_title, :cache_seconds,
    :keep_retrieved, 1, :created_at_us)
ON CONFLICT (ae_title) DO NOTHING
RETURNING id
""")

CHANGE_CONFIG = Sql("""
UPDATE spanner_config SET name = :name, description = :description,
    max_concurrent_sources = :max_concurrent_sources, timeout_ms = :timeout_ms,
    retry_attempts = :retry_attempts, failure_strategy = :failure_strategy,
    deduplication_enabled = :deduplication_enabled, enterprise_mode = :enterprise_mode, ae_title = :ae_title,
    cache_seconds = :cache_seconds, keep_retrieved = :keep_retrieved, version = version + 1
WHERE organization_id = :organization_id AND id = :id
""")

TOUCH_CONFIG = Sql("""
UPDATE spanner_config SET version = version + 1 WHERE organization_id = :organization_id AND id = :id
""")

REMOVE_CONFIG = Sql("DELETE FROM spanner_config WHERE organization_id = :organization_id AND id = :id")

# --- which sources a configuration asks

LIST_MAPPED = Sql(
    "SELECT"
    + _OF_SOURCE
    + """, spanner_source.priority, spanner_source.timeout_ms AS mapped_timeout_ms
FROM spanner_source
JOIN source ON source.id = spanner_source.source_id AND source.organization_id = :organization_id
WHERE spanner_source.organization_id = :organization_id AND spanner_source.config_id = :config_id
ORDER BY spanner_source.priority, source.name
"""
)

PUT_MAPPED = Sql("""
INSERT INTO spanner_source (organization_id, config_id, source_id, priority, timeout_ms)
VALUES (:organization_id, :config_id, :source_id, :priority, :timeout_ms)
ON CONFLICT (organization_id, config_id, source_id) DO UPDATE SET
    priority = excluded.priority, timeout_ms = excluded.timeout_ms
""")

REMOVE_MAPPED = Sql("""
DELETE FROM spanner_source
WHERE organization_id = :organization_id AND config_id = :config_id AND source_id = :source_id RETURNING id
""")

REMOVE_ALL_MAPPED = Sql("""
DELETE FROM spanner_source WHERE organization_id = :organization_id AND config_id = :config_id
""")
