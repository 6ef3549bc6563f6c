"""Every statement on what an organisation keeps in all."""

from __future__ import annotations

from isocenter.platform.db import Sql

ADVANCE = Sql("""
    INSERT INTO archive_total (organization_id, changes, objects, bytes)
    VALUES (:organization_id, :changes, :objects, :bytes)
    ON CONFLICT (organization_id) DO UPDATE SET changes = archive_total.changes + excluded.changes,
        objects = archive_total.objects + excluded.objects, bytes = archive_total.bytes + excluded.bytes
    RETURNING changes, objects, bytes
""")
"""Draws numbers for changes and counts what came and went. The row stays locked until the commit, so whoever
draws next waits until these can be seen or were given back: a reader's cursor never passes over a smaller
number that appears later, and two who fill one quota see what the other took. Each organisation counts for
itself: numbers of all together would tell how busy the others are."""

FIND_TOTAL = Sql("""
    SELECT changes, objects, bytes FROM archive_total WHERE organization_id = :organization_id
""")

# The cast: PostgreSQL sums to numeric.
SUM_TOTAL = Sql("""
    SELECT count(*) AS objects, CAST(coalesce(sum(size), 0) AS bigint) AS bytes,
           (SELECT coalesce(max(number), 0) FROM change_feed
            WHERE organization_id = :organization_id) AS changes
    FROM (SELECT size FROM instance WHERE organization_id = :organization_id
          UNION ALL
          SELECT size FROM quarantine
          WHERE organization_id = :organization_id AND state = 'waiting'
          UNION ALL
          SELECT size FROM deleted_object WHERE organization_id = :organization_id) AS kept
""")
"""What ``archive_total`` should say."""

FIND_HELD = Sql("""
    SELECT organization.id, organization.slug, organization.settings,
           coalesce(archive_total.objects, 0) AS objects, coalesce(archive_total.bytes, 0) AS bytes
    FROM organization LEFT JOIN archive_total ON archive_total.organization_id = organization.id
    WHERE organization.id = :organization_id
""")

LIST_HELD = Sql("""
    SELECT organization.id, organization.slug, organization.settings,
           coalesce(archive_total.objects, 0) AS objects, coalesce(archive_total.bytes, 0) AS bytes
    FROM organization LEFT JOIN archive_total ON archive_total.organization_id = organization.id
    ORDER BY organization.id
""")

# Keys of one data set's objects begin alike, whatever header they got (ADR 0006).
FIND_KEPT = Sql("""
    SELECT 1 FROM instance
    WHERE organization_id = :organization_id AND object_key >= :first AND object_key < :beyond
    UNION ALL
    SELECT 1 FROM quarantine WHERE organization_id = :organization_id AND state = 'waiting'
      AND object_key >= :first AND object_key < :beyond
    LIMIT 1
""")
