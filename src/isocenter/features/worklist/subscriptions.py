"""Who wants to hear of workitems (PS3.4 CC.2.3): of one, of all, or of those that match a filter.

A worklist subscription makes its AE title a subscriber of each workitem that is not over, and of each new
one; suspending it ends the latter alone. A new subscriber is told the state of each at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from isocenter.features.worklist import events, queries
from isocenter.features.worklist.datasets import parsed
from isocenter.features.worklist.errors import NoSuchWorkitem
from isocenter.features.worklist.matching import Keys, keys_of_parameters, matches
from isocenter.features.worklist.telling import (
    FILTERED_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    Listeners,
    tell_one,
)
from isocenter.features.worklist.workitem_rules import State
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import InvalidInput, NotFound
from isocenter.platform.db import Database, Work

_WORKLISTS = frozenset({GLOBAL_SUBSCRIPTION, FILTERED_SUBSCRIPTION})
_PAGE = 500
_AE_TITLE_CHARS_MAX = 16


class Subscriptions:
    def __init__(self, database: Database, clock: Clock, listeners: Listeners) -> None:
        self._database = database
        self._clock = clock
        self._listeners = listeners

    async def subscribe(
        self,
        organization_id: int,
        uid: str,
        ae_title: str,
        *,
        deletion_lock: bool = False,
        filtered_by: Sequence[tuple[str, str]] = (),
    ) -> None:
        """``uid`` of a workitem or of the worklist; ``filtered_by`` for the filtered worklist.

        Raises NoSuchWorkitem, InvalidInput.
        """
        _check_title(ae_title)
        filter_text = ""
        if uid == FILTERED_SUBSCRIPTION:
            if not keys_of_parameters(filtered_by):
                raise InvalidInput(
                    "A filtered subscription needs a filter.",
                    code="invalid-value",
                    remedy="Write ?filter=ScheduledStationNameCodeSequence.CodeValue=CT1, say.",
                )
            filter_text = orjson.dumps(list(filtered_by)).decode()
        now_us = microseconds(self._clock.now())
        work = _subscribe_to_all if uid in _WORKLISTS else _subscribe_to_one
        await self._database.write(
            work, organization_id, uid, ae_title, int(deletion_lock), filter_text, now_us
        )
        self._listeners.wake(organization_id)

    async def unsubscribe(self, organization_id: int, uid: str, ae_title: str) -> None:
        """From the worklist: from everything. Raises NotFound where there is no subscription."""
        if not await self._database.write(_unsubscribe, organization_id, uid, ae_title):
            raise NotFound("There is no such subscription.", code="no-such-subscription")

    async def suspend(self, organization_id: int, uid: str, ae_title: str) -> None:
        """New workitems are no longer told. Raises NotFound."""
        if uid not in _WORKLISTS or not await self._database.write(_suspend, organization_id, uid, ae_title):
            raise NotFound("There is no such subscription.", code="no-such-subscription")


def _check_title(ae_title: str) -> None:
    printable = ae_title.isascii() and ae_title.isprintable() and "\\" not in ae_title
    if not ae_title.strip() or len(ae_title) > _AE_TITLE_CHARS_MAX or not printable:
        raise InvalidInput(
            "The subscriber is no AE title.",
            code="invalid-ae-title",
            remedy="AE titles have 1 to 16 characters of ASCII without a backslash.",
        )


def _subscribe_to_one(
    organization_id: int, uid: str, ae_title: str, deletion_lock: int, _filter: str, now_us: int
) -> Work[None]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    rows = yield queries.FIND_WORKITEM(organization_id=organization_id, workitem_uid=uid)
    if not rows:
        raise NoSuchWorkitem
    yield from _add(organization_id, uid, ae_title, deletion_lock, "", now_us)
    report = events.state_report(uid, parsed(rows[0]["document"]))
    yield from tell_one(organization_id, ae_title, uid, [report], now_us)


def _subscribe_to_all(  # noqa: PLR0917
    organization_id: int, uid: str, ae_title: str, deletion_lock: int, filter_text: str, now_us: int
) -> Work[None]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    yield from _add(organization_id, uid, ae_title, deletion_lock, filter_text, now_us)
    keys = keys_of_parameters(orjson.loads(filter_text)) if filter_text else Keys()
    lower, upper = Keys().bounds(0)
    after = 0
    while True:
        rows = yield queries.PAGE_OF_WORKITEMS(
            organization_id=organization_id,
            after=after,
            state="",
            patient_id="",
            lower=lower,
            upper=upper,
            limit=_PAGE,
        )
        for row in rows:
            workitem = parsed(row["document"])
            if State(row["state"]).final or not matches(workitem, keys):
                continue
            one = row["workitem_uid"]
            yield from _add(organization_id, one, ae_title, deletion_lock, "", now_us)
            yield from tell_one(organization_id, ae_title, one, [events.state_report(one, workitem)], now_us)
        if len(rows) < _PAGE:
            return
        after = rows[-1]["id"]


def _add(  # noqa: PLR0917
    organization_id: int, uid: str, ae_title: str, deletion_lock: int, filter_text: str, now_us: int
) -> Work[None]:
    yield queries.PUT_SUBSCRIPTION(
        organization_id=organization_id,
        ae_title=ae_title,
        workitem_uid=uid,
        deletion_lock=deletion_lock,
        filter=filter_text,
        now_us=now_us,
    )


def _unsubscribe(organization_id: int, uid: str, ae_title: str) -> Work[bool]:
    if uid in _WORKLISTS:
        rows = yield queries.REMOVE_SUBSCRIPTIONS(organization_id=organization_id, ae_title=ae_title)
        return bool(rows)
    return (yield from _suspend(organization_id, uid, ae_title))


def _suspend(organization_id: int, uid: str, ae_title: str) -> Work[bool]:
    rows = yield queries.REMOVE_SUBSCRIPTION(
        organization_id=organization_id, ae_title=ae_title, workitem_uid=uid
    )
    return bool(rows)
