"""Every statement on studies that have been kept for long enough.

No object of a study is older than its row, so that only old rows have to be looked at.
"""

from __future__ import annotations

from isocenter.platform.db import Sql

FIND_DUE = Sql("""
    SELECT study.id, study.study_instance_uid, study.study_date, study.instance_count,
           (SELECT max(instance.received_at_us) FROM series JOIN instance ON instance.series_pk = series.id
            WHERE series.organization_id = :organization_id AND series.study_pk = study.id) AS newest_at_us
    FROM study
    WHERE study.organization_id = :organization_id AND study.id > :after
      AND study.created_at_us < :before_us
      AND NOT EXISTS (
        SELECT 1 FROM series JOIN instance ON instance.series_pk = series.id
        WHERE series.organization_id = :organization_id AND series.study_pk = study.id
          AND instance.received_at_us >= :before_us)
    ORDER BY study.id LIMIT :limit
""")

COUNT_DUE = Sql("""
    SELECT count(*) FROM study
    WHERE study.organization_id = :organization_id AND study.created_at_us < :before_us
      AND NOT EXISTS (
        SELECT 1 FROM series JOIN instance ON instance.series_pk = series.id
        WHERE series.organization_id = :organization_id AND series.study_pk = study.id
          AND instance.received_at_us >= :before_us)
""")

FIND_NEWEST = Sql("""
    SELECT max(instance.received_at_us) AS newest_at_us FROM study
    JOIN series ON series.study_pk = study.id
    JOIN instance ON instance.series_pk = series.id
    WHERE study.organization_id = :organization_id AND study.study_instance_uid = :study_instance_uid
""")
