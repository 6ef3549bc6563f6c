"""Every statement on second factors; each names the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

FIND_SECOND_FACTOR = Sql("""
SELECT totp_secret, totp_confirmed, totp_step FROM account
WHERE organization_id = :organization_id AND id = :account_id
""")

FIND_FACTORS = Sql("""
SELECT totp_confirmed,
    (SELECT count(*) FROM passkey WHERE passkey.organization_id = account.organization_id
        AND passkey.account_id = account.id AND passkey.revoked_at_us IS NULL) AS passkeys,
    (SELECT count(*) FROM passkey WHERE passkey.organization_id = account.organization_id
        AND passkey.account_id = account.id AND passkey.revoked_at_us IS NOT NULL) AS passkeys_revoked
FROM account WHERE organization_id = :organization_id AND id = :account_id
""")

LOCK_ACCOUNT = Sql("""
SELECT id FROM account WHERE organization_id = :organization_id AND id = :account_id FOR UPDATE
""")

SET_SECRET = Sql("""
UPDATE account SET totp_secret = :secret, totp_confirmed = :confirmed, totp_step = :step
WHERE organization_id = :organization_id AND id = :account_id
""")

# Of two that show one code at once the second finds no row.
USE_STEP = Sql("""
UPDATE account SET totp_step = :step
WHERE organization_id = :organization_id AND id = :account_id AND totp_step < :step
RETURNING id
""")

PUT_RECOVERY_CODE = Sql("""
INSERT INTO recovery_code (organization_id, account_id, code_hash)
VALUES (:organization_id, :account_id, :code_hash)
""")

USE_RECOVERY_CODE = Sql("""
UPDATE recovery_code SET used_at_us = :now_us
WHERE organization_id = :organization_id AND account_id = :account_id AND code_hash = :code_hash
    AND used_at_us IS NULL
RETURNING id
""")

FORGET_RECOVERY_CODES = Sql("""
DELETE FROM recovery_code WHERE organization_id = :organization_id AND account_id = :account_id
""")
