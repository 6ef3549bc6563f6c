"""How much an organisation keeps, counted by the very transactions that change it.

Counted is each object that a row refers to: current ones, earlier versions, what waits in quarantine or was
deleted and can still be restored. What no row refers to any more counts no longer, although its bytes lie in
the store until the sweep's grace is over.
``storage check`` proves the count.
"""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.archive.queries_usage import ADVANCE, FIND_TOTAL, SUM_TOTAL
from isocenter.platform.db import Work


@dataclass(slots=True)
class Growth:
    """What a transaction adds; below zero: takes away."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.objects += 1
        self.bytes += size

    def take(self, size: int) -> None:
        self.objects -= 1
        self.bytes -= size


@dataclass(frozen=True, slots=True)
class Usage:
    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Miscount:
    """What the count says more than there is; below zero: less."""

    changes: int = 0
    objects: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.changes or self.objects or self.bytes)


def advance(organization_id: int, changes: int, growth: Growth) -> Work[tuple[int, Usage]]:
    """The number of the newest of ``changes`` changes, and the usage with ``growth``.

    Last in a transaction: whoever else changes this organisation's objects waits from here on until it ends.
    """
    [row] = yield ADVANCE(
        organization_id=organization_id, changes=changes, objects=growth.objects, bytes=growth.bytes
    )
    return row["changes"], Usage(row["objects"], row["bytes"])


def find_usage(organization_id: int) -> Work[Usage]:
    rows = yield FIND_TOTAL(organization_id=organization_id)
    return Usage(rows[0]["objects"], rows[0]["bytes"]) if rows else Usage()


def find_miscount(organization_id: int) -> Work[Miscount]:
    """On one snapshot, on which both sides agree or never will."""
    [there] = yield SUM_TOTAL(organization_id=organization_id)
    rows = yield FIND_TOTAL(organization_id=organization_id)
    if not rows:
        return Miscount(-there["changes"], -there["objects"], -there["bytes"])
    counted = rows[0]
    return Miscount(
        # The feed may have been cut short behind its readers; numbers given out twice would be wrong.
        min(counted["changes"] - there["changes"], 0),
        counted["objects"] - there["objects"],
        counted["bytes"] - there["bytes"],
    )


def mend_miscount(organization_id: int, miscount: Miscount) -> Work[None]:
    """By the difference, so that it stays right whatever was filed since it was found."""
    growth = Growth(-miscount.objects, -miscount.bytes)
    yield from advance(organization_id, -miscount.changes, growth)
