"""Every statement that counts all of an organisation's objects."""

from __future__ import annotations

from isocenter.platform.db import Sql

# ``size >= 0`` holds always and is how this statement, and no other, gets the index made for it.
# The casts: PostgreSQL sums to numeric.
COUNT_INSTANCES = Sql("""
    SELECT current, sop_class_uid, transfer_syntax_uid,
           CASE WHEN received_at_us >= :since_us THEN received_at_us / :day_us END AS day,
           count(*) AS objects, CAST(sum(size) AS bigint) AS bytes
    FROM instance WHERE organization_id = :organization_id AND size >= 0
    GROUP BY current, sop_class_uid, transfer_syntax_uid, day
""")
"""One pass of an index that holds all it needs. ``day`` counts from 1970 in UTC; NULL before ``since_us``."""

COUNT_SERIES = Sql("""
    SELECT modality, count(*) AS series, count(DISTINCT study_pk) AS studies,
           CAST(sum(instance_count) AS bigint) AS instances
    FROM series WHERE organization_id = :organization_id
    GROUP BY modality
""")

COUNT_STUDIES = Sql("""
    SELECT (SELECT count(*) FROM patient
            WHERE organization_id = :organization_id AND survivor_pk IS NULL) AS patients,
           (SELECT count(*) FROM study WHERE organization_id = :organization_id) AS studies,
           (SELECT min(study_date) FROM study
            WHERE organization_id = :organization_id AND study_date > '') AS oldest,
           (SELECT max(study_date) FROM study
            WHERE organization_id = :organization_id AND study_date > '') AS newest
""")
"""A patient merged into another is no patient of their own."""

COUNT_WAITING = Sql("""
    SELECT count(*) AS entries, CAST(coalesce(sum(size), 0) AS bigint) AS bytes FROM quarantine
    WHERE organization_id = :organization_id AND state = 'waiting'
""")

COUNT_DELETED = Sql("""
    SELECT count(*) AS objects, CAST(coalesce(sum(size), 0) AS bigint) AS bytes FROM deleted_object
    WHERE organization_id = :organization_id
""")
