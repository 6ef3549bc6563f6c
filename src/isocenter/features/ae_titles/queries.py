"""Every statement on AE titles; each takes the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

LIST_TITLES = Sql("""
SELECT title, host, description, created_at_us, last_seen_at_us, last_seen_host, services, certificate
FROM ae_title WHERE organization_id = :organization_id ORDER BY title, host
""")

FIND_ADMITTED = Sql("SELECT organization_id, title, host, services, certificate FROM ae_title")
"""Of all organisations: a caller's is known once its registration is found."""

FIND_LET_IN = Sql("SELECT title, host, certificate FROM ae_title WHERE organization_id = :organization_id")

CHANGE_TITLE = Sql("""
UPDATE ae_title SET description = :description, services = coalesce(:services, services),
    certificate = coalesce(:certificate, certificate)
WHERE organization_id = :organization_id AND title = :title AND host = :host
RETURNING title, host, description, created_at_us, last_seen_at_us, last_seen_host, services, certificate
""")

# Another organisation's registration is not seen (row-level security), but it stands in the way.
ADD_TITLE = Sql("""
INSERT INTO ae_title (organization_id, title, host, description, services, certificate, created_at_us)
VALUES (:organization_id, :title, :host, :description, :services, :certificate, :now_us)
ON CONFLICT (title, host) DO NOTHING
RETURNING title, host, description, created_at_us, last_seen_at_us, last_seen_host, services, certificate
""")

FIND_PLACES_OF_OTHERS = Sql(
    "SELECT host FROM ae_title WHERE organization_id <> :organization_id AND title = :title"
)

FIND_SLUG = Sql("SELECT slug FROM organization WHERE id = :organization_id")

REMOVE_TITLE = Sql("""
DELETE FROM ae_title WHERE organization_id = :organization_id AND title = :title RETURNING id
""")

REMOVE_TITLE_AT_HOST = Sql("""
DELETE FROM ae_title WHERE organization_id = :organization_id AND title = :title AND host = :host RETURNING id
""")

NOTE_SEEN = Sql("""
UPDATE ae_title SET last_seen_at_us = :at_us, last_seen_host = :peer_host
WHERE organization_id = :organization_id AND title = :title AND host = :host
""")

NOTE_REFUSED = Sql("""
INSERT INTO refused_association (organization_id, calling_ae_title, peer_host, called_ae_title, reason,
    certificate, times, first_at_us, last_at_us)
VALUES (:organization_id, :title, :peer_host, :called_ae_title, :reason, :certificate, :times, :first_at_us,
    :last_at_us)
ON CONFLICT (organization_id, calling_ae_title, peer_host) DO UPDATE SET
    called_ae_title = excluded.called_ae_title, reason = excluded.reason,
    certificate = excluded.certificate,
    times = refused_association.times + excluded.times, last_at_us = excluded.last_at_us
""")

# Of equal age the later rows stay, so that the bound holds whatever the clock says.
FORGET_OLDEST_REFUSED = Sql("""
DELETE FROM refused_association WHERE organization_id = :organization_id AND id NOT IN (
    SELECT id FROM refused_association WHERE organization_id = :organization_id
    ORDER BY last_at_us DESC, id DESC LIMIT :rows_max)
""")

LIST_REFUSED = Sql("""
SELECT calling_ae_title, peer_host, called_ae_title, reason, certificate, times, first_at_us, last_at_us
FROM refused_association WHERE organization_id = :organization_id
ORDER BY last_at_us DESC, id DESC LIMIT :limit
""")

LIST_REFUSED_OF_TITLE = Sql("""
SELECT calling_ae_title, peer_host, reason, certificate, id FROM refused_association
WHERE organization_id = :organization_id AND calling_ae_title = :title
""")

FORGET_REFUSED = Sql("""
DELETE FROM refused_association WHERE organization_id = :organization_id AND id IN :ids
""")

# --- destinations

PUT_DESTINATION = Sql("""
INSERT INTO ae_destination (organization_id, title, address, port, tls, tls_name, transfer_syntaxes,
    associations_max, availability_after_s, description, created_at_us)
VALUES (:organization_id, :title, :address, :port, :tls, :tls_name, :transfer_syntaxes, :associations_max,
    :availability_after_s, :description, :created_at_us)
ON CONFLICT (organization_id, title) DO UPDATE SET
    address = excluded.address, port = excluded.port, tls = excluded.tls, tls_name = excluded.tls_name,
    transfer_syntaxes = excluded.transfer_syntaxes, associations_max = excluded.associations_max,
    availability_after_s = excluded.availability_after_s, description = excluded.description
RETURNING title, address, port, tls, tls_name, transfer_syntaxes, associations_max, availability_after_s,
    description, created_at_us
""")

_DESTINATIONS = """
SELECT organization_id, title, address, port, tls, tls_name, transfer_syntaxes, associations_max,
    availability_after_s, description, created_at_us
FROM ae_destination
"""

LIST_DESTINATIONS = Sql(_DESTINATIONS + "WHERE organization_id = :organization_id ORDER BY title")

FIND_DESTINATION = Sql(_DESTINATIONS + "WHERE organization_id = :organization_id AND title = :title")

FIND_TOLD_OF_STUDIES = Sql(
    _DESTINATIONS + "WHERE availability_after_s IS NOT NULL ORDER BY organization_id, title"
)

REMOVE_DESTINATION = Sql("""
DELETE FROM ae_destination WHERE organization_id = :organization_id AND title = :title RETURNING id
""")
