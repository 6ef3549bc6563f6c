"""Every statement on organisations, accounts and one-time links.

Each names the organisation. Only a login and a secret that somebody shows are looked up across all: with
these it is found out which one they belong to.
"""

from __future__ import annotations

from isocenter.platform.db import Sql

PUT_ORGANIZATION = Sql("""
INSERT INTO organization (slug, name, created_at_us) VALUES (:slug, :name, :now_us)
ON CONFLICT (slug) DO NOTHING
RETURNING id, slug, name, created_at_us
""")

LIST_ORGANIZATIONS = Sql("SELECT id, slug, name, created_at_us FROM organization ORDER BY id")

FIND_ORGANIZATION = Sql("""
SELECT id, slug, name, settings, created_at_us FROM organization WHERE id = :organization_id
""")

FIND_ORGANIZATION_BY_SLUG = Sql("""
SELECT id, slug, name, settings, created_at_us FROM organization WHERE slug = :slug
""")

LOCK_ORGANIZATION = Sql("SELECT settings FROM organization WHERE id = :organization_id FOR UPDATE")

SET_ORGANIZATION = Sql("""
UPDATE organization SET name = :name, settings = :settings WHERE id = :organization_id
RETURNING id, slug, name, settings, created_at_us
""")

ANY_ACCOUNT = Sql("SELECT organization_id FROM account LIMIT 1")

PUT_ACCOUNT = Sql("""
INSERT INTO account (id, organization_id, login, display_name, role, operator, password_hash, state,
    created_at_us, password_changed_at_us)
VALUES (:id, :organization_id, :login, :display_name, :role, :operator, :password_hash, :state,
    :now_us, :password_changed_at_us)
ON CONFLICT (login) DO NOTHING
RETURNING id, organization_id, login, display_name, role, operator, state, totp_confirmed, created_at_us,
    last_login_at_us, 0 AS passkeys, 0 AS passkeys_revoked
""")

LIST_ACCOUNTS = Sql("""
SELECT id, organization_id, login, display_name, role, operator, state, totp_confirmed, created_at_us,
    last_login_at_us,
    (SELECT count(*) FROM passkey WHERE passkey.organization_id = account.organization_id
        AND passkey.account_id = account.id AND passkey.revoked_at_us IS NULL) AS passkeys,
    (SELECT count(*) FROM passkey WHERE passkey.organization_id = account.organization_id
        AND passkey.account_id = account.id AND passkey.revoked_at_us IS NOT NULL) AS passkeys_revoked
FROM account WHERE organization_id = :organization_id AND id > :after ORDER BY id LIMIT :limit
""")

FIND_ACCOUNT = Sql("""
SELECT id, organization_id, login, display_name, role, operator, state, totp_confirmed, created_at_us,
    last_login_at_us,
    (SELECT count(*) FROM passkey WHERE passkey.organization_id = account.organization_id
        AND passkey.account_id = account.id AND passkey.revoked_at_us IS NULL) AS passkeys,
    (SELECT count(*) FROM passkey WHERE passkey.organization_id = account.organization_id
        AND passkey.account_id = account.id AND passkey.revoked_at_us IS NOT NULL) AS passkeys_revoked,
    password_hash, version
FROM account WHERE organization_id = :organization_id AND id = :account_id
""")

FIND_ACCOUNT_IN_ORGANIZATION = Sql("""
SELECT id FROM account WHERE organization_id = :organization_id AND login = :login
""")

FIND_ACCOUNT_BY_LOGIN = Sql("""
SELECT id, organization_id, login, display_name, role, operator, state, totp_confirmed, created_at_us,
    last_login_at_us,
    (SELECT count(*) FROM passkey WHERE passkey.organization_id = account.organization_id
        AND passkey.account_id = account.id AND passkey.revoked_at_us IS NULL) AS passkeys,
    (SELECT count(*) FROM passkey WHERE passkey.organization_id = account.organization_id
        AND passkey.account_id = account.id AND passkey.revoked_at_us IS NOT NULL) AS passkeys_revoked,
    password_hash, version
FROM account WHERE login = :login
""")

# Whatever ends access tokens before their time counts the version up.
SET_ROLE = Sql("""
UPDATE account SET role = :role, version = version + 1
WHERE organization_id = :organization_id AND id = :account_id
""")

SET_STATE = Sql("""
UPDATE account SET state = :state, version = version + 1
WHERE organization_id = :organization_id AND id = :account_id
""")

SET_PASSWORD = Sql("""
UPDATE account SET password_hash = :password_hash, password_changed_at_us = :now_us,
    state = CASE WHEN state = 'invited' THEN 'active' ELSE state END
WHERE organization_id = :organization_id AND id = :account_id
""")

NOTE_LOGIN = Sql("""
UPDATE account SET last_login_at_us = :now_us WHERE organization_id = :organization_id AND id = :account_id
""")

PUT_LINK = Sql("""
INSERT INTO one_time_link (organization_id, account_id, purpose, token_hash, expires_at_us)
VALUES (:organization_id, :account_id, :purpose, :token_hash, :expires_at_us)
""")

FIND_LINK = Sql("""
SELECT organization_id, account_id, purpose FROM one_time_link
WHERE token_hash = :token_hash AND used_at_us IS NULL AND expires_at_us > :now_us
""")

# Whoever is first gets it: of two that use one link at once the second finds no row.
USE_LINK = Sql("""
UPDATE one_time_link SET used_at_us = :now_us
WHERE token_hash = :token_hash AND used_at_us IS NULL AND expires_at_us > :now_us
RETURNING organization_id, account_id, purpose
""")

FORGET_LINKS = Sql("""
DELETE FROM one_time_link WHERE organization_id = :organization_id AND account_id = :account_id
""")

FORGET_SETUP_LINKS = Sql("""
DELETE FROM one_time_link WHERE organization_id = :organization_id AND purpose = 'setup'
""")
