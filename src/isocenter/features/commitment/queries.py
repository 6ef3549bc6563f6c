"""Every statement on storage commitment; each takes the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

# --- taking on

ADD = Sql("""
INSERT INTO commitment (organization_id, role, ae_title, own_ae_title, transaction_uid, state, instance_count,
    next_attempt_at_us, created_at_us)
VALUES (:organization_id, :role, :ae_title, :own_ae_title, :transaction_uid, 'waiting', :instance_count,
    :next_attempt_at_us, :now_us)
ON CONFLICT (organization_id, role, ae_title, transaction_uid) DO NOTHING
RETURNING id
""")

ADD_INSTANCE = Sql("""
INSERT INTO commitment_instance (organization_id, commitment_pk, sop_class_uid, sop_instance_uid)
VALUES (:organization_id, :commitment_pk, :sop_class_uid, :sop_instance_uid)
""")

# --- finding

_COMMITMENTS = """
SELECT id, role, ae_title, own_ae_title, transaction_uid, state, instance_count, failed_count, attempts,
    next_attempt_at_us, last_error, created_at_us, settled_at_us
FROM commitment WHERE organization_id = :organization_id AND
"""

FIND = Sql(_COMMITMENTS + "id = :id")

FIND_TRANSACTION = Sql(
    _COMMITMENTS + "role = :role AND ae_title = :ae_title AND transaction_uid = :transaction_uid"
)

FIND_ASKED_BY_US = Sql(_COMMITMENTS + "role = 'scu' AND transaction_uid = :transaction_uid")

LIST = Sql(
    _COMMITMENTS
    + """
(:role = '' OR role = :role) AND (:state = '' OR state = :state) AND id < :before
ORDER BY id DESC LIMIT :limit
"""
)

INSTANCES = Sql("""
SELECT sop_class_uid, sop_instance_uid, failure_reason FROM commitment_instance
WHERE organization_id = :organization_id AND commitment_pk = :commitment_pk ORDER BY id
""")

# --- working on them

DUE = Sql("""
SELECT organization_id, id, next_attempt_at_us FROM commitment
WHERE next_attempt_at_us IS NOT NULL AND next_attempt_at_us <= :now_us
ORDER BY next_attempt_at_us, id LIMIT :limit
""")
"""Of all organisations: one worker reports for each in turn."""

CLAIM = Sql("""
UPDATE commitment SET next_attempt_at_us = :until_us
WHERE organization_id = :organization_id AND id = :id AND next_attempt_at_us = :seen_us RETURNING id
""")

KEEP = Sql("""
UPDATE commitment SET next_attempt_at_us = :until_us
WHERE organization_id = :organization_id AND id = :id AND state = 'waiting' AND next_attempt_at_us IS NOT NULL
""")

FAILED_ATTEMPT = Sql("""
UPDATE commitment SET attempts = attempts + 1, next_attempt_at_us = :next_attempt_at_us, last_error = :error,
    state = CASE WHEN :given_up = 1 THEN 'given-up' ELSE state END
WHERE organization_id = :organization_id AND id = :id AND state = 'waiting'
""")

TRY_AGAIN = Sql("""
UPDATE commitment SET next_attempt_at_us = :now_us, attempts = 0, state = 'waiting'
WHERE organization_id = :organization_id AND id = :id RETURNING id
""")

# --- the end

ASKED = Sql("""
UPDATE commitment SET state = 'asked', next_attempt_at_us = NULL, last_error = ''
WHERE organization_id = :organization_id AND id = :id AND state = 'waiting'
""")

REFUSED = Sql("""
UPDATE commitment SET state = 'refused', next_attempt_at_us = NULL, last_error = :error,
    settled_at_us = :now_us
WHERE organization_id = :organization_id AND id = :id AND state = 'waiting'
""")

SET_REASON = Sql("""
UPDATE commitment_instance SET failure_reason = :reason
WHERE organization_id = :organization_id AND commitment_pk = :commitment_pk
    AND sop_instance_uid = :sop_instance_uid
""")

SETTLE = Sql("""
UPDATE commitment SET state = 'settled', next_attempt_at_us = NULL, last_error = '', settled_at_us = :now_us,
    failed_count = :failed_count
WHERE organization_id = :organization_id AND id = :id
""")
