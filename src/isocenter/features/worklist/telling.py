"""Who is told what: reports are written in the transaction that they tell of, and kept until they are sent.

A subscriber that is away finds its reports when it comes back, up to `EVENTS_KEPT` of them; of more the
oldest go. PS3.18 §8.10 promises nothing to who is not connected, so that this is more than it asks for.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from isocenter.features.worklist import queries
from isocenter.features.worklist.datasets import DataSet, serialized
from isocenter.features.worklist.matching import keys_of_parameters, matches
from isocenter.platform.db import Database, Work

GLOBAL_SUBSCRIPTION = "1.2.840.10008.5.1.4.34.5"
FILTERED_SUBSCRIPTION = "1.2.840.10008.5.1.4.34.5.1"
EVENTS_KEPT = 1000
_SENT_AT_ONCE = 100


class Listeners:
    """The open channels of this process; what another one wrote they find by looking from time to time."""

    def __init__(self) -> None:
        self._events: defaultdict[int, set[asyncio.Event]] = defaultdict(set)

    def wake(self, organization_id: int) -> None:
        for event in self._events.get(organization_id, ()):
            event.set()

    @contextmanager
    def listening(self, organization_id: int) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._events[organization_id].add(event)
        try:
            yield event
        finally:
            self._events[organization_id].discard(event)
            if not self._events[organization_id]:
                del self._events[organization_id]


def subscribe_to_new(organization_id: int, uid: str, workitem: Mapping[str, Any], now_us: int) -> Work[None]:
    """Worklist subscribers become subscribers of a new workitem (PS3.4 CC.2.3.3)."""
    rows = yield queries.FIND_SUBSCRIPTIONS(
        organization_id=organization_id, uids=[GLOBAL_SUBSCRIPTION, FILTERED_SUBSCRIPTION]
    )
    for row in rows:
        if row["filter"] and not matches(workitem, keys_of_parameters(orjson.loads(row["filter"]))):
            continue
        yield queries.PUT_SUBSCRIPTION(
            organization_id=organization_id,
            ae_title=row["ae_title"],
            workitem_uid=uid,
            deletion_lock=row["deletion_lock"],
            filter="",
            now_us=now_us,
        )


def tell(organization_id: int, uid: str, reports: Sequence[DataSet], now_us: int) -> Work[int]:
    """Keep the reports for every subscriber of the workitem; how many there are."""
    rows = yield queries.FIND_SUBSCRIPTIONS(organization_id=organization_id, uids=[uid])
    for row in rows:
        yield from tell_one(organization_id, row["ae_title"], uid, reports, now_us)
    return len(rows)


def tell_one(
    organization_id: int, ae_title: str, uid: str, reports: Iterable[DataSet], now_us: int
) -> Work[None]:
    for report in reports:
        yield queries.ADD_EVENT(
            organization_id=organization_id,
            ae_title=ae_title,
            workitem_uid=uid,
            document=serialized(report),
            now_us=now_us,
        )
    yield queries.DROP_OLDEST_EVENTS(organization_id=organization_id, ae_title=ae_title, kept=EVENTS_KEPT)


def noted(organization_id: int, kind: str, uid: str, state: str, now_us: int) -> Work[None]:
    """Into the feed of worklist changes."""
    yield queries.APPEND_CHANGE(
        organization_id=organization_id, kind=kind, uid=uid, state=state, now_us=now_us
    )


async def waiting_reports(database: Database, organization_id: int, ae_title: str) -> list[tuple[int, bytes]]:
    """The oldest reports that the subscriber was not sent, with their numbers."""
    return await database.read(_read, organization_id, ae_title)


async def forget_reports(database: Database, organization_id: int, ae_title: str, last: int) -> None:
    """Those up to that number were sent."""
    await database.write(_forget, organization_id, ae_title, last)


def _read(organization_id: int, ae_title: str) -> Work[list[tuple[int, bytes]]]:
    rows = yield queries.READ_EVENTS(organization_id=organization_id, ae_title=ae_title, limit=_SENT_AT_ONCE)
    return [(row["id"], row["document"].encode()) for row in rows]


def _forget(organization_id: int, ae_title: str, last: int) -> Work[None]:
    yield queries.FORGET_EVENTS(organization_id=organization_id, ae_title=ae_title, last=last)
