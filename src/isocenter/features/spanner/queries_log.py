"""Every statement on the query log; each takes the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

LOG_QUERY = Sql("""
INSERT INTO spanner_query_log (query_id, organization_id, config_id, asked_at_us, asker_kind, asker_id,
    asker_name, trace_id, level, keywords, answers, outcome, took_ms, age_ms, sources)
VALUES (:query_id, :organization_id, :config_id, :asked_at_us, :asker_kind, :asker_id,
    :asker_name, :trace_id, :level, :keywords, :answers, :outcome, :took_ms, :age_ms, :sources)
""")

FIND_LOGGED = Sql("""
SELECT organization_id, config_id, asked_at_us, asker_kind, asker_id, asker_name, trace_id, level, keywords,
    answers, outcome, took_ms, age_ms, sources
FROM spanner_query_log
WHERE organization_id = :organization_id AND asked_at_us >= :from_us AND asked_at_us < :before_us
    AND (:config_id = 0 OR config_id = :config_id)
ORDER BY asked_at_us DESC, query_id LIMIT :limit
""")

FORGET_LOGGED = Sql("""
DELETE FROM spanner_query_log WHERE organization_id = :organization_id AND query_id IN (
    SELECT query_id FROM spanner_query_log
    WHERE organization_id = :organization_id AND asked_at_us < :before_us
    ORDER BY asked_at_us LIMIT :limit)
    AND asked_at_us < :before_us
RETURNING query_id
""")

FIND_LOGGING_ORGANIZATIONS = Sql("SELECT id FROM organization ORDER BY id")
