"""Every statement on passkeys and their challenges; each names the organisation. Only a passkey that somebody
logs in with is looked up across all: with it is found out whose it is."""

from __future__ import annotations

from isocenter.platform.db import Sql

# Of two that show one challenge at once the second gets no row.
USE_CHALLENGE = Sql("""
INSERT INTO used_challenge (organization_id, challenge_hash, expires_at_us)
VALUES (:organization_id, :challenge_hash, :expires_at_us)
ON CONFLICT (challenge_hash) DO NOTHING
RETURNING id
""")

FORGET_ENDED_CHALLENGES = Sql("""
DELETE FROM used_challenge WHERE organization_id = :organization_id AND expires_at_us < :before_us
""")

PUT_PASSKEY = Sql("""
INSERT INTO passkey (id, organization_id, account_id, credential_id, public_key, user_handle, sign_count,
    transports, name, backup_eligible, backed_up, created_at_us)
VALUES (:id, :organization_id, :account_id, :credential_id, :public_key, :user_handle, :sign_count,
    :transports, :name, :backup_eligible, :backed_up, :now_us)
ON CONFLICT (credential_id) DO NOTHING
RETURNING id, name, created_at_us, last_used_at_us, revoked_at_us, backed_up
""")

LIST_PASSKEYS = Sql("""
SELECT id, name, created_at_us, last_used_at_us, revoked_at_us, backed_up, credential_id, transports
FROM passkey WHERE organization_id = :organization_id AND account_id = :account_id
ORDER BY created_at_us, id
""")

RENAME_PASSKEY = Sql("""
UPDATE passkey SET name = :name
WHERE organization_id = :organization_id AND account_id = :account_id AND id = :passkey_id
RETURNING id, name, created_at_us, last_used_at_us, revoked_at_us, backed_up
""")

FORGET_PASSKEY = Sql("""
DELETE FROM passkey
WHERE organization_id = :organization_id AND account_id = :account_id AND id = :passkey_id
RETURNING name
""")

FORGET_PASSKEYS = Sql("""
DELETE FROM passkey WHERE organization_id = :organization_id AND account_id = :account_id
RETURNING id
""")

REVOKE_PASSKEYS = Sql("""
UPDATE passkey SET revoked_at_us = :now_us
WHERE organization_id = :organization_id AND account_id = :account_id AND revoked_at_us IS NULL
RETURNING id
""")

FIND_PASSKEY = Sql("""
SELECT passkey.id, passkey.organization_id, passkey.account_id, passkey.public_key, passkey.user_handle,
    passkey.sign_count, passkey.backup_eligible, passkey.revoked_at_us, account.login, account.role,
    account.state, account.version
FROM passkey JOIN account ON account.id = passkey.account_id
WHERE passkey.credential_id = :credential_id
""")

# The count is compared here, so that of two uses at once the second is seen to go back (WebAuthn §7.2, step
# 22); authenticators without a counter always say 0.
NOTE_PASSKEY_USED = Sql("""
UPDATE passkey SET sign_count = :sign_count, backed_up = :backed_up, last_used_at_us = :now_us
WHERE organization_id = :organization_id AND id = :passkey_id AND revoked_at_us IS NULL
    AND (sign_count < :sign_count OR (sign_count = 0 AND :sign_count = 0))
RETURNING id
""")
