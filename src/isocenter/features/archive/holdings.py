"""What organisations keep and may keep, for those who administer them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from isocenter.features.archive.queries_usage import FIND_HELD, LIST_HELD
from isocenter.features.archive.retention import count_due
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import NotFound
from isocenter.platform.db import Database, Row, Work


@dataclass(frozen=True, slots=True)
class Held:
    organization_id: int
    slug: str
    objects: int
    bytes: int
    quota_bytes: int | None
    due_studies: int | None = None
    """How many are to be removed as things stand; None where studies are kept for ever, and in lists."""

    @property
    def percent_of_quota(self) -> float | None:
        """More than a hundred where the quota was lowered below what is kept."""
        if self.quota_bytes is None:
            return None
        return round(100 * self.bytes / self.quota_bytes, 1) if self.quota_bytes else 100.0


class Holdings:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def of(self, organization_id: int) -> Held:
        """Raises NotFound."""
        now_us = microseconds(self._clock.now())
        return await self._database.read(_find, organization_id, now_us)

    async def of_all(self) -> list[Held]:
        """For the operator."""
        return await self._database.read_across(_list)


def _find(organization_id: int, now_us: int) -> Work[Held]:
    rows = yield FIND_HELD(organization_id=organization_id)
    if not rows:
        raise NotFound("There is no such organisation.")
    held = _held(rows[0])
    days = orjson.loads(rows[0]["settings"]).get("retention_days")
    if days is None:
        return held
    return replace(held, due_studies=(yield from count_due(organization_id, days, now_us)))


def _list() -> Work[list[Held]]:
    return [_held(row) for row in (yield LIST_HELD())]


def _held(row: Row) -> Held:
    settings = orjson.loads(row["settings"])
    return Held(row["id"], row["slug"], row["objects"], row["bytes"], settings.get("quota_bytes"))
