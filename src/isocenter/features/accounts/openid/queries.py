"""Every statement on logins at providers, on identities, and on the sessions that came of them."""

from __future__ import annotations

from isocenter.platform.db import Sql

FORGET_OLD_LOGINS = Sql("""
DELETE FROM openid_login WHERE organization_id = :organization_id AND expires_at_us < :before_us
""")

COUNT_LOGINS = Sql("""
SELECT count(*) AS logins FROM openid_login
WHERE organization_id = :organization_id AND provider_id = :provider_id
""")

PUT_LOGIN = Sql("""
INSERT INTO openid_login (organization_id, provider_id, state_hash, browser_hash, step, return_to, account_id,
    session_id, link_hash, expires_at_us)
VALUES (:organization_id, :provider_id, :state_hash, :browser_hash, :step, :return_to, :account_id,
    :session_id, :link_hash, :expires_at_us)
""")

FIND_LOGIN = Sql("""
SELECT account_id, return_to FROM openid_login
WHERE organization_id = :organization_id AND provider_id = :provider_id AND state_hash = :state_hash
    AND browser_hash = :browser_hash AND step = :step AND used_at_us IS NULL AND expires_at_us > :now_us
""")

# Whoever is first gets it; another browser than the one that began finds no row, and uses none up.
USE_LOGIN = Sql("""
UPDATE openid_login SET used_at_us = :now_us
WHERE organization_id = :organization_id AND provider_id = :provider_id AND state_hash = :state_hash
    AND browser_hash = :browser_hash AND step = :step AND used_at_us IS NULL AND expires_at_us > :now_us
RETURNING return_to, account_id, session_id, link_hash
""")

FIND_IDENTITY = Sql("""
SELECT account_id FROM external_identity
WHERE organization_id = :organization_id AND issuer = :issuer AND subject = :subject
""")

PUT_IDENTITY = Sql("""
INSERT INTO external_identity (id, organization_id, account_id, issuer, subject, created_at_us)
VALUES (:id, :organization_id, :account_id, :issuer, :subject, :now_us)
ON CONFLICT (organization_id, issuer, subject) DO NOTHING
RETURNING id, account_id, issuer, subject, created_at_us, last_login_at_us
""")

NOTE_IDENTITY_USED = Sql("""
UPDATE external_identity SET last_login_at_us = :now_us
WHERE organization_id = :organization_id AND issuer = :issuer AND subject = :subject
""")

LIST_IDENTITIES = Sql("""
SELECT id, account_id, issuer, subject, created_at_us, last_login_at_us FROM external_identity
WHERE organization_id = :organization_id AND account_id = :account_id
ORDER BY created_at_us, id
""")

REMOVE_IDENTITY = Sql("""
DELETE FROM external_identity
WHERE organization_id = :organization_id AND account_id = :account_id AND id = :identity_id
RETURNING issuer
""")

PUT_SESSION = Sql("""
INSERT INTO openid_session (organization_id, session_id, provider_id, ends_at_us)
VALUES (:organization_id, :session_id, :provider_id, :ends_at_us)
""")

FIND_PROVIDER_OF_SESSION = Sql("""
SELECT provider_id FROM openid_session WHERE organization_id = :organization_id AND session_id = :session_id
""")

END_SESSIONS_OF_PROVIDER = Sql("""
UPDATE login_session SET revoked_at_us = :now_us
WHERE organization_id = :organization_id AND revoked_at_us IS NULL AND id IN (
    SELECT session_id FROM openid_session
    WHERE organization_id = :organization_id AND provider_id = :provider_id)
RETURNING id
""")

END_SESSIONS_OF_ACCOUNT = Sql("""
UPDATE login_session SET revoked_at_us = :now_us
WHERE organization_id = :organization_id AND account_id = :account_id AND revoked_at_us IS NULL AND id IN (
    SELECT session_id FROM openid_session WHERE organization_id = :organization_id)
RETURNING id
""")
