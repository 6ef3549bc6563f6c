"""Every statement on notices of availability; each takes the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

FIND_CURSOR = Sql("""
SELECT change_number FROM availability_cursor
WHERE organization_id = :organization_id AND ae_title = :ae_title
""")

SET_CURSOR = Sql("""
INSERT INTO availability_cursor (organization_id, ae_title, change_number)
VALUES (:organization_id, :ae_title, :change_number)
ON CONFLICT (organization_id, ae_title) DO UPDATE SET change_number = excluded.change_number
""")

EXPECT = Sql("""
INSERT INTO availability_notice (organization_id, ae_title, study_instance_uid, state, due_at_us,
    changed_at_us)
VALUES (:organization_id, :ae_title, :study_instance_uid, 'waiting', :due_at_us, :changed_at_us)
ON CONFLICT (organization_id, ae_title, study_instance_uid) DO UPDATE SET state = 'waiting', attempts = 0,
    due_at_us = excluded.due_at_us, changed_at_us = excluded.changed_at_us
""")

DUE = Sql("""
SELECT organization_id, id, ae_title, study_instance_uid, due_at_us, attempts FROM availability_notice
WHERE due_at_us IS NOT NULL AND due_at_us <= :now_us ORDER BY due_at_us, id LIMIT :limit
""")
"""Of all organisations: one worker tells for each in turn."""

CLAIM = Sql("""
UPDATE availability_notice SET due_at_us = :until_us
WHERE organization_id = :organization_id AND id = :id AND due_at_us = :seen_us RETURNING id
""")

# Only as long as nothing new has come meanwhile, which would have set another time.
END = Sql("""
UPDATE availability_notice SET state = :state, due_at_us = NULL, last_error = :error, told_at_us = :told_at_us
WHERE organization_id = :organization_id AND id = :id AND due_at_us = :until_us
""")

PUT_OFF = Sql("""
UPDATE availability_notice SET attempts = attempts + 1, due_at_us = :due_at_us, last_error = :error
WHERE organization_id = :organization_id AND id = :id AND due_at_us = :until_us
""")

LIST = Sql("""
SELECT id, ae_title, study_instance_uid, state, due_at_us, attempts, last_error, changed_at_us, told_at_us
FROM availability_notice WHERE organization_id = :organization_id ORDER BY changed_at_us DESC, id DESC
LIMIT :limit
""")
