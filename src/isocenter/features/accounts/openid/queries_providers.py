"""Every statement on identity providers; each names the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

PUT_PROVIDER = Sql("""
INSERT INTO identity_provider (organization_id, name, title, issuer, client_id, client_secret, enabled,
    settings, created_at_us)
VALUES (:organization_id, :name, :title, :issuer, :client_id, :client_secret, 1, :settings, :now_us)
ON CONFLICT (organization_id, name) DO NOTHING
RETURNING id
""")

LIST_PROVIDERS = Sql("""
SELECT identity_provider.id, identity_provider.organization_id, organization.slug, identity_provider.name,
    identity_provider.title, identity_provider.issuer, identity_provider.client_id,
    identity_provider.client_secret, identity_provider.enabled, identity_provider.settings,
    identity_provider.created_at_us
FROM identity_provider JOIN organization ON organization.id = identity_provider.organization_id
WHERE identity_provider.organization_id = :organization_id ORDER BY identity_provider.name
""")

FIND_PROVIDER = Sql("""
SELECT identity_provider.id, identity_provider.organization_id, organization.slug, identity_provider.name,
    identity_provider.title, identity_provider.issuer, identity_provider.client_id,
    identity_provider.client_secret, identity_provider.enabled, identity_provider.settings,
    identity_provider.created_at_us
FROM identity_provider JOIN organization ON organization.id = identity_provider.organization_id
WHERE identity_provider.organization_id = :organization_id AND identity_provider.name = :name
""")

FIND_PROVIDER_BY_ID = Sql("""
SELECT name FROM identity_provider WHERE organization_id = :organization_id AND id = :provider_id
""")

SET_PROVIDER = Sql("""
UPDATE identity_provider SET title = :title, issuer = :issuer, client_id = :client_id,
    client_secret = :client_secret, enabled = :enabled, settings = :settings
WHERE organization_id = :organization_id AND name = :name
""")

REMOVE_LOGINS = Sql("""
DELETE FROM openid_login WHERE organization_id = :organization_id AND provider_id = :provider_id
""")

REMOVE_SESSIONS = Sql("""
DELETE FROM openid_session WHERE organization_id = :organization_id AND provider_id = :provider_id
""")

REMOVE_PROVIDER = Sql("""
DELETE FROM identity_provider WHERE organization_id = :organization_id AND id = :provider_id
""")
