"""Every statement on logins, their refresh tokens, and keys; each names the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

PUT_SESSION = Sql("""
INSERT INTO login_session (id, organization_id, account_id, created_at_us, expires_at_us, last_used_at_us,
    proven_at_us, address, user_agent)
VALUES (:id, :organization_id, :account_id, :now_us, :expires_at_us, :now_us, :now_us, :address, :user_agent)
RETURNING id
""")

FIND_PROOF = Sql("""
SELECT proven_at_us FROM login_session
WHERE organization_id = :organization_id AND account_id = :account_id AND id = :session_id
    AND revoked_at_us IS NULL
""")

NOTE_PROOF = Sql("""
UPDATE login_session SET proven_at_us = :now_us
WHERE organization_id = :organization_id AND account_id = :account_id AND id = :session_id
""")

PUT_REFRESH_TOKEN = Sql("""
INSERT INTO refresh_token (organization_id, session_id, token_hash)
VALUES (:organization_id, :session_id, :token_hash)
""")

FIND_REFRESH_TOKEN = Sql("""
SELECT refresh_token.organization_id, refresh_token.session_id, refresh_token.used_at_us,
    login_session.account_id, login_session.expires_at_us, login_session.revoked_at_us,
    account.login, account.display_name, account.role, account.operator, account.state, account.version,
    openid_session.ends_at_us
FROM refresh_token
JOIN login_session ON login_session.id = refresh_token.session_id
JOIN account ON account.id = login_session.account_id
LEFT JOIN openid_session ON openid_session.session_id = login_session.id
WHERE refresh_token.token_hash = :token_hash
""")

# Whoever is first gets it; the second one has replayed it.
USE_REFRESH_TOKEN = Sql("""
UPDATE refresh_token SET used_at_us = :now_us
WHERE organization_id = :organization_id AND token_hash = :token_hash AND used_at_us IS NULL
RETURNING session_id
""")

PROLONG_SESSION = Sql("""
UPDATE login_session SET expires_at_us = :expires_at_us, last_used_at_us = :now_us, address = :address
WHERE organization_id = :organization_id AND id = :session_id
""")

END_SESSION = Sql("""
UPDATE login_session SET revoked_at_us = :now_us
WHERE organization_id = :organization_id AND account_id = :account_id AND id = :session_id
    AND revoked_at_us IS NULL
RETURNING id
""")

END_OTHER_SESSIONS = Sql("""
UPDATE login_session SET revoked_at_us = :now_us
WHERE organization_id = :organization_id AND account_id = :account_id AND id <> :kept_session_id
    AND revoked_at_us IS NULL
RETURNING id
""")

LIST_SESSIONS = Sql("""
SELECT id, created_at_us, expires_at_us, last_used_at_us, address, user_agent FROM login_session
WHERE organization_id = :organization_id AND account_id = :account_id
    AND revoked_at_us IS NULL AND expires_at_us > :now_us
ORDER BY created_at_us DESC, id
""")

FORGET_ENDED_TOKENS = Sql("""
DELETE FROM refresh_token WHERE organization_id = :organization_id AND session_id IN (
    SELECT id FROM login_session
    WHERE organization_id = :organization_id AND account_id = :account_id AND expires_at_us < :before_us)
""")

FORGET_ENDED_SESSIONS = Sql("""
DELETE FROM login_session
WHERE organization_id = :organization_id AND account_id = :account_id AND expires_at_us < :before_us
""")

FIND_SESSION = Sql("""
SELECT login_session.id, login_session.expires_at_us, login_session.revoked_at_us, account.id AS account_id,
    account.organization_id, account.login, account.display_name, account.role, account.operator,
    account.state, account.version
FROM login_session JOIN account ON account.id = login_session.account_id
WHERE login_session.organization_id = :organization_id AND login_session.id = :session_id
""")

PUT_KEY = Sql("""
INSERT INTO api_key (id, organization_id, name, prefix, secret_hash, permissions, created_by, created_at_us,
    expires_at_us)
VALUES (:id, :organization_id, :name, :prefix, :secret_hash, :permissions, :created_by, :now_us,
    :expires_at_us)
RETURNING id, name, prefix, permissions, created_by, created_at_us, expires_at_us, revoked_at_us,
    last_used_at_us
""")

LIST_KEYS = Sql("""
SELECT id, name, prefix, permissions, created_by, created_at_us, expires_at_us, revoked_at_us, last_used_at_us
FROM api_key WHERE organization_id = :organization_id ORDER BY created_at_us, id
""")

REVOKE_KEY = Sql("""
UPDATE api_key SET revoked_at_us = :now_us
WHERE organization_id = :organization_id AND id = :key_id AND revoked_at_us IS NULL
RETURNING name
""")

FIND_KEY = Sql("""
SELECT id, organization_id, name, permissions, expires_at_us, revoked_at_us FROM api_key
WHERE secret_hash = :secret_hash
""")

NOTE_KEY_USED = Sql("""
UPDATE api_key SET last_used_at_us = :at_us WHERE organization_id = :organization_id AND id = :key_id
""")
