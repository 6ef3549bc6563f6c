"""The AE titles that workstations call to ask all archives of a configuration (MISSION B7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isocenter.features.spanner import queries
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database, Work

_REFRESH_S = 1.0
_UNKNOWN_REFRESH_S = 0.05
"""An unknown title may just have been given; strangers who try one after the other cost so little."""


@dataclass(frozen=True, slots=True)
class CalledTitle:
    organization_id: int
    config_id: int


class CalledTitles:
    """Answered from memory; who asks when that is older than a second, or for a title that it does not have,
    has it read again."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: Mapping[str, CalledTitle] = {}
        self._read_at_s = float("-inf")

    async def find(self, ae_title: str) -> CalledTitle | None:
        """Raises Unavailable."""
        now_s = self._clock.monotonic_s()
        if now_s - self._read_at_s > (_REFRESH_S if ae_title in self._known else _UNKNOWN_REFRESH_S):
            self._known = await self._database.read_across(_called)
            self._read_at_s = now_s
        return self._known.get(ae_title)


def _called() -> Work[dict[str, CalledTitle]]:
    rows = yield queries.FIND_CALLED()
    return {row["ae_title"]: CalledTitle(row["organization_id"], row["id"]) for row in rows}
