"""Every statement on AE titles; each takes the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

LIST_TITLES = Sql("""
SELECT title, host, description, created_at_us, last_seen_at_us, last_seen_host
FROM ae_title WHERE organization_id = :organization_id ORDER BY title, host
""")

FIND_ADMITTED = Sql("SELECT title, host FROM ae_title WHERE organization_id = :organization_id")

PUT_TITLE = Sql("""
INSERT INTO ae_title (organization_id, title, host, description, created_at_us)
VALUES (:organization_id, :title, :host, :description, :now_us)
ON CONFLICT (organization_id, title, host) DO UPDATE SET description = excluded.description
RETURNING title, host, description, created_at_us, last_seen_at_us, last_seen_host
""")

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
    times, first_at_us, last_at_us)
VALUES (:organization_id, :title, :peer_host, :called_ae_title, :reason, :times, :first_at_us, :last_at_us)
ON CONFLICT (organization_id, calling_ae_title, peer_host) DO UPDATE SET
    called_ae_title = excluded.called_ae_title, reason = excluded.reason,
    times = refused_association.times + excluded.times, last_at_us = excluded.last_at_us
""")

# Of equal age the later rows stay, so that the bound holds whatever the clock says.
FORGET_OLDEST_REFUSED = Sql("""
DELETE FROM refused_association WHERE organization_id = :organization_id AND id NOT IN (
    SELECT id FROM refused_association WHERE organization_id = :organization_id
    ORDER BY last_at_us DESC, id DESC LIMIT :rows_max)
""")

LIST_REFUSED = Sql("""
SELECT calling_ae_title, peer_host, called_ae_title, reason, times, first_at_us, last_at_us
FROM refused_association WHERE organization_id = :organization_id
ORDER BY last_at_us DESC, id DESC LIMIT :limit
""")

LIST_REFUSED_OF_TITLE = Sql("""
SELECT id, peer_host FROM refused_association
WHERE organization_id = :organization_id AND calling_ae_title = :title AND reason = :reason
""")

FORGET_REFUSED = Sql("""
DELETE FROM refused_association WHERE organization_id = :organization_id AND id IN :ids
""")
