"""How an organisation wants its objects judged."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from isocenter.dicom.validation import Strictness
from isocenter.kit.clock import Clock
from isocenter.kit.errors import NotFound, Unavailable
from isocenter.platform.db import Database, Sql, Work


class ConflictPolicy(StrEnum):
    """What happens when a SOP Instance UID arrives again with other bytes (MISSION A2)."""

    REJECT = "reject"
    KEEP_FIRST = "keep-first"
    REPLACE = "replace"
    KEEP_BOTH = "keep-both"


class BatchPolicy(StrEnum):
    """Whether one refused object refuses its whole batch (MISSION A3)."""

    ACCEPT_VALID = "accept-valid"
    ALL_OR_NOTHING = "all-or-nothing"


@dataclass(frozen=True, slots=True)
class Policies:
    conflict: ConflictPolicy = ConflictPolicy.REJECT
    batch: BatchPolicy = BatchPolicy.ACCEPT_VALID
    strictness: Strictness = Strictness.STANDARD
    accept_unknown_sop_classes: bool = False
    quota_bytes: int | None = None


FIND_SETTINGS = Sql("SELECT settings FROM organization WHERE id = :organization_id")
SET_SETTINGS = Sql("UPDATE organization SET settings = :settings WHERE id = :organization_id")


REFRESH_S = 5.0
"""How long another process may go by what somebody has changed."""


@dataclass(slots=True)
class _Known:
    policies: Policies
    fresh_until_s: float


class PolicyBook:
    """Each organisation's policies: the server's defaults, overlaid with its own settings."""

    def __init__(self, database: Database, defaults: Policies, clock: Clock) -> None:
        self._database = database
        self._defaults = defaults
        self._clock = clock
        self._known: dict[int, _Known] = {}

    async def of(self, organization_id: int) -> Policies:
        """Raises NotFound for an organisation that is not there."""
        known = self._known.get(organization_id)
        now_s = self._clock.monotonic_s()
        if known is None:
            policies = await self._database.read(_load, organization_id, self._defaults)
            self._known[organization_id] = _Known(policies, now_s + REFRESH_S)
            return policies
        if now_s >= known.fresh_until_s:
            known.fresh_until_s = now_s + REFRESH_S  # one looks, the others need not
            with contextlib.suppress(Unavailable):  # then the old ones hold
                known.policies = await self._database.read(_load, organization_id, self._defaults)
        return known.policies

    async def change(self, organization_id: int, **changes: str | bool | int) -> Policies:
        """Set some of the organisation's own policies; raises ValueError for a name or value that does not
        exist. Other processes learn of it within ``REFRESH_S``."""
        await self._database.write(_change, organization_id, changes, self._defaults)
        self.forget(organization_id)
        return await self.of(organization_id)

    def forget(self, organization_id: int) -> None:
        """Read the organisation's settings again when they are next needed: somebody has changed them."""
        self._known.pop(organization_id, None)


_PARSERS: dict[str, Any] = {
    "conflict": ConflictPolicy,
    "batch": BatchPolicy,
    "strictness": Strictness,
    "accept_unknown_sop_classes": bool,
    "quota_bytes": int,
}


def _overlay(defaults: Policies, own: dict[str, Any]) -> Policies:
    return replace(defaults, **{name: parse(own[name]) for name, parse in _PARSERS.items() if name in own})


def _load(organization_id: int, defaults: Policies) -> Work[Policies]:
    rows = yield FIND_SETTINGS(organization_id=organization_id)
    if not rows:
        raise NotFound("There is no such organisation.")
    return _overlay(defaults, orjson.loads(rows[0]["settings"]))


def _change(organization_id: int, changes: dict[str, str | bool | int], defaults: Policies) -> Work[None]:
    rows = yield FIND_SETTINGS(organization_id=organization_id)
    if not rows:
        raise NotFound("There is no such organisation.")
    if unknown := sorted(changes.keys() - _PARSERS):
        raise ValueError(f"no policy is called {', '.join(unknown)}")
    own = orjson.loads(rows[0]["settings"]) | changes
    _overlay(defaults, own)
    yield SET_SETTINGS(organization_id=organization_id, settings=orjson.dumps(own).decode())
