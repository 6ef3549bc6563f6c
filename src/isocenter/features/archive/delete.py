"""Deleting studies, series and instances from the index.

The objects themselves stay in the store until the orphan sweep finds that nothing refers to them: deleting
them here could take away bytes that another row shares (content addresses) or that are being received again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isocenter.features.archive import changes, queries
from isocenter.features.archive.filing import stripes
from isocenter.features.archive.recount import recount_series
from isocenter.features.archive.usage import Growth
from isocenter.kit.clock import Clock
from isocenter.kit.errors import NotFound
from isocenter.platform.db import Database, Sql, Work

FIND_SERIES = Sql("""
    SELECT id FROM series WHERE organization_id = :organization_id AND study_pk = :study_pk ORDER BY id
""")

FIND_ONE_SERIES = Sql("""
    SELECT id FROM series WHERE organization_id = :organization_id AND study_pk = :study_pk
      AND series_instance_uid = :series
""")

# Earlier versions (keep-both) go with the current one.
DELETE_OF_SERIES = Sql("""
    DELETE FROM instance WHERE organization_id = :organization_id AND series_pk IN :series_pks
    RETURNING current, size
""")

DELETE_ONE = Sql("""
    DELETE FROM instance WHERE organization_id = :organization_id AND series_pk IN :series_pks
      AND sop_instance_uid = :instance
    RETURNING current, size
""")


async def delete_objects(
    database: Database,
    clock: Clock,
    organization_id: int,
    study: str,
    *,
    series: str = "",
    instance: str = "",
) -> int:
    """Delete a study, one of its series, or one instance, in one transaction; how many instances went.

    Series and studies that are left empty go too, and a patient with the last study: the index knows
    nothing of a patient but what objects said. The change feed gets one entry that names what was deleted.
    Raises NotFound when there is nothing of that name.
    """
    now_us = int(clock.now().timestamp() * 1_000_000)
    return await database.write(delete_rows, organization_id, study, series, instance, now_us=now_us)


def lock_study(organization_id: int, study: str) -> Work[None]:
    """Whoever files objects of the study takes turns with us: what is deleted is what was there."""
    yield queries.LOCK_ENTITIES(stripes=stripes(organization_id, {study}, frozenset()))


def delete_rows(
    organization_id: int, study: str, series: str = "", instance: str = "", *, now_us: int, reason: str = ""
) -> Work[int]:
    """``reason``: why, where nobody asked for it."""
    yield from lock_study(organization_id, study)
    rows = yield queries.LOCK_STUDY(organization_id=organization_id, study_instance_uid=study)
    if not rows:
        raise _unknown("study")
    scope: dict[str, Any] = {"organization_id": organization_id, "study_pk": rows[0]["id"]}
    rows = yield FIND_ONE_SERIES(**scope, series=series) if series else FIND_SERIES(**scope)
    if series and not rows:
        raise _unknown("series")
    series_pks = [row["id"] for row in rows]
    growth = Growth()
    deleted = yield from _delete_instances(organization_id, series_pks, instance, growth)
    if instance and not deleted:
        raise _unknown("instance")
    yield from recount_series(organization_id, series_pks, now_us)
    detail = {"instances": deleted} | ({"reason": reason} if reason else {})
    told = changes.Told("deleted", study, series, instance, detail)
    yield from changes.append(organization_id, [told], growth, now_us)
    return deleted


def _delete_instances(
    organization_id: int, series_pks: Sequence[int], instance: str, growth: Growth
) -> Work[int]:
    scope = {"organization_id": organization_id, "series_pks": list(series_pks)}
    rows = yield DELETE_ONE(**scope, instance=instance) if instance else DELETE_OF_SERIES(**scope)
    for row in rows:
        growth.take(row["size"])
    return sum(row["current"] for row in rows)


def _unknown(what: str) -> NotFound:
    return NotFound(f"There is no such {what} here.", code=f"no-such-{what}")
