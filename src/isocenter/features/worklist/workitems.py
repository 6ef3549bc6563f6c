"""Workitems (PS3.4 CC.2, PS3.18 §11): created, found, claimed, updated, finished, asked to be cancelled.

Whoever claims a workitem makes up a Transaction UID; knowing it is what makes somebody its owner. Only its
digest is kept, and nothing ever shows it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from isocenter.dicom.datetimes import canonical_datetime
from isocenter.dicom.uids import generate_uid, uid_problem
from isocenter.features.worklist import events, queries
from isocenter.features.worklist.datasets import DataSet, parsed, put, serialized, text
from isocenter.features.worklist.errors import (
    NOT_CLAIMED,
    NoSuchWorkitem,
    TransactionUidIncorrect,
    TransactionUidMissing,
    WorkitemExists,
    WrongState,
)
from isocenter.features.worklist.items_of_workitems import follow_workitem
from isocenter.features.worklist.matching import Keys, matches
from isocenter.features.worklist.telling import Listeners, noted, subscribe_to_new, tell
from isocenter.features.worklist.workitem_rules import (
    MODIFIED_AT,
    PATIENT_ID,
    START,
    STATE,
    State,
    canceled_by_server,
    check_final_state,
    prepared_for_creation,
    updated,
)
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import InvalidInput
from isocenter.platform.db import Database, Row, Work

_PAGE = 500
EXAMINED_MAX = 100_000
"""Matching looks at rows one by one where no index helps; so many at most for one search."""


@dataclass(frozen=True, slots=True)
class Created:
    """``modified``: attributes that the requester should have given were added empty."""

    uid: str
    modified: bool


@dataclass(frozen=True, slots=True)
class Found:
    workitems: list[DataSet]
    more: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    id: int
    uid: str
    state: State
    digest: str
    document: DataSet


class Workitems:
    """The worklists of all organisations, one at a time."""

    def __init__(self, database: Database, clock: Clock, listeners: Listeners | None = None) -> None:
        self.database = database
        self._clock = clock
        self.listeners = listeners or Listeners()

    async def create(self, organization_id: int, given: DataSet, uid: str = "") -> Created:
        """Raises NotAsRequired, InvalidInput for what is no UID, WorkitemExists."""
        uid = uid or text(given, 0x00080018) or generate_uid()
        checked_uid(uid)
        now = self._clock.now()
        kept, modified = prepared_for_creation(given, uid, dicom_datetime(now))
        await self.database.write(_create, organization_id, uid, kept, microseconds(now))
        self.listeners.wake(organization_id)
        return Created(uid, modified)

    async def retrieve(self, organization_id: int, uid: str) -> DataSet:
        """Raises NoSuchWorkitem."""
        kept = await self.database.read(_find, organization_id, uid)
        return kept.document

    async def update(self, organization_id: int, uid: str, given: DataSet, transaction_uid: str = "") -> None:
        """Raises NoSuchWorkitem, NotAsRequired, WrongState, TransactionUidMissing,
        TransactionUidIncorrect."""
        now = self._clock.now()
        at = dicom_datetime(now)
        await self._change(
            organization_id,
            uid,
            lambda kept: _updated(kept, given, transaction_uid, at),
            now,
        )

    async def change_state(
        self, organization_id: int, uid: str, state: str, transaction_uid: str
    ) -> State | None:
        """The state that it is in already, where that was asked for; None where it has changed.

        Raises NoSuchWorkitem, WrongState, FinalStateRequirements, TransactionUidMissing,
        TransactionUidIncorrect, InvalidInput.
        """
        wanted = _wanted(state)
        if not transaction_uid:
            raise TransactionUidMissing
        checked_uid(transaction_uid)
        now = self._clock.now()
        changed = await self._change(
            organization_id, uid, lambda kept: _moved(kept, wanted, transaction_uid, dicom_datetime(now)), now
        )
        return None if changed else wanted

    async def request_cancellation(
        self, organization_id: int, uid: str, request: DataSet, requesting_ae: str
    ) -> State | None:
        """CANCELED where it was so already. A scheduled one is cancelled at once (PS3.4 CC.2.2.3); who works
        on one is told. Raises NoSuchWorkitem, WrongState."""
        now = self._clock.now()
        state = await self.database.write(
            _request_cancellation, organization_id, uid, request, requesting_ae, now
        )
        self.listeners.wake(organization_id)
        return state

    async def search(self, organization_id: int, keys: Keys, *, limit: int, offset: int = 0) -> Found:
        """In order of creation."""
        found: list[DataSet] = []
        after = examined = passed = 0
        while True:
            rows = await self.database.read(_page, organization_id, keys, after)
            for row in rows:
                document = parsed(row["document"])
                if matches(document, keys):
                    passed += 1
                    if passed > offset + limit:
                        return Found(found, more=True)
                    if passed > offset:
                        found.append(document)
            examined += len(rows)
            if len(rows) < _PAGE:
                return Found(found, more=False)
            if examined >= EXAMINED_MAX:
                return Found(found, more=True)
            after = rows[-1]["id"]

    async def _change(
        self, organization_id: int, uid: str, change: Callable[[_Kept], _Kept | None], now: datetime
    ) -> bool:
        changed = await self.database.write(_changed, organization_id, uid, change, microseconds(now))
        self.listeners.wake(organization_id)
        return changed


def checked_uid(uid: str) -> None:
    """Raises InvalidInput."""
    if problem := uid_problem(uid):
        raise InvalidInput(f"The UID {problem}.", code="invalid-uid", remedy="See PS3.5 §9.1.")


def dicom_datetime(now: datetime) -> str:
    """In UTC, and saying so."""
    return now.strftime("%Y%m%d%H%M%S.%f+0000")


def _wanted(state: str) -> State:
    try:
        wanted = State(state.strip())
    except ValueError:
        raise InvalidInput(
            "Procedure Step State is none that a workitem can be brought into.",
            code="invalid-value",
            remedy="It is IN PROGRESS, COMPLETED or CANCELED.",
        ) from None
    if wanted is State.SCHEDULED:
        raise WrongState("A workitem is SCHEDULED only when it is created.")
    return wanted


def _create(organization_id: int, uid: str, kept: DataSet, now_us: int) -> Work[None]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    rows = yield queries.ADD_WORKITEM(
        organization_id=organization_id,
        workitem_uid=uid,
        state=State.SCHEDULED.value,
        now_us=now_us,
        **_columns(kept),
    )
    if not rows:
        raise WorkitemExists
    yield from subscribe_to_new(organization_id, uid, kept, now_us)
    yield from tell(organization_id, uid, events.of_creation(uid, kept), now_us)
    yield from noted(organization_id, "workitem", uid, State.SCHEDULED, now_us)
    yield from follow_workitem(organization_id, uid, kept, State.SCHEDULED, now_us)


def _changed(
    organization_id: int, uid: str, change: Callable[[_Kept], _Kept | None], now_us: int
) -> Work[bool]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    kept = yield from _find(organization_id, uid)
    fresh = change(kept)
    if fresh is None:
        return False
    yield from _write(organization_id, kept, fresh, now_us)
    return True


def _write(organization_id: int, kept: _Kept, fresh: _Kept, now_us: int) -> Work[None]:
    yield queries.CHANGE_WORKITEM(
        organization_id=organization_id,
        id=kept.id,
        state=fresh.state.value,
        transaction_digest=fresh.digest,
        now_us=now_us,
        **_columns(fresh.document),
    )
    reports = events.of_update(kept.uid, kept.document, fresh.document)
    if kept.state is not fresh.state:
        reports.append(events.state_report(kept.uid, fresh.document))
        yield from noted(organization_id, "workitem", kept.uid, fresh.state, now_us)
    yield from tell(organization_id, kept.uid, reports, now_us)
    yield from follow_workitem(organization_id, kept.uid, fresh.document, fresh.state, now_us)


def _request_cancellation(
    organization_id: int, uid: str, request: DataSet, requesting_ae: str, now: datetime
) -> Work[State | None]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    kept = yield from _find(organization_id, uid)
    now_us = microseconds(now)
    match kept.state:
        case State.CANCELED:
            return State.CANCELED
        case State.COMPLETED:
            raise WrongState("The workitem is COMPLETED already.")
        case State.IN_PROGRESS:
            report = events.cancel_requested(uid, request, requesting_ae)
            yield from tell(organization_id, uid, [report], now_us)
        case State.SCHEDULED:
            # By way of IN PROGRESS (Figure CC.1.1-1), so that subscribers see no forbidden step.
            begun = _in_state(kept, State.IN_PROGRESS, dicom_datetime(now))
            yield from _write(organization_id, kept, begun, now_us)
            reasons = canceled_by_server(begun.document, request, dicom_datetime(now))
            ended = _in_state(replace(begun, document=reasons), State.CANCELED, dicom_datetime(now))
            yield from _write(organization_id, begun, ended, now_us)
    return None


def _updated(kept: _Kept, given: DataSet, transaction_uid: str, now: str) -> _Kept:
    match kept.state:
        case State.SCHEDULED:
            if transaction_uid:
                raise WrongState("Nobody has claimed this workitem yet.", says=NOT_CLAIMED)
        case State.IN_PROGRESS:
            _check_owner(kept, transaction_uid)
        case State.COMPLETED | State.CANCELED:
            raise WrongState(f"The workitem is {kept.state} and may no longer be updated.")
    return replace(kept, document=updated(kept.document, given, now))


def _moved(kept: _Kept, wanted: State, transaction_uid: str, now: str) -> _Kept | None:
    """Table CC.1.1-2."""
    match kept.state, wanted:
        case State.SCHEDULED, State.IN_PROGRESS:
            return replace(_in_state(kept, wanted, now), digest=_digest(transaction_uid))
        case State.SCHEDULED, _:
            raise WrongState("The workitem is not IN PROGRESS yet.", remedy="Claim it first.")
        case (State.COMPLETED, State.COMPLETED) | (State.CANCELED, State.CANCELED):
            return None
        case ((State.COMPLETED | State.CANCELED), _):
            raise WrongState(f"The workitem is {kept.state} and stays so.")
        case State.IN_PROGRESS, State.IN_PROGRESS:
            raise WrongState("The workitem is IN PROGRESS already.", remedy="Choose another one.")
        case State.IN_PROGRESS, _:
            pass
    _check_owner(kept, transaction_uid)
    check_final_state(kept.document, wanted)
    return _in_state(kept, wanted, now)


def _check_owner(kept: _Kept, transaction_uid: str) -> None:
    if not transaction_uid:
        raise TransactionUidMissing
    if not hmac.compare_digest(kept.digest, _digest(transaction_uid)):
        raise TransactionUidIncorrect


def _digest(transaction_uid: str) -> str:
    return hashlib.sha256(transaction_uid.encode()).hexdigest()


def _in_state(kept: _Kept, state: State, now: str) -> _Kept:
    document = dict(kept.document)
    put(document, STATE, state.value)
    put(document, MODIFIED_AT, now)
    return replace(kept, state=state, document=document)


def _find(organization_id: int, uid: str) -> Work[_Kept]:
    rows = yield queries.FIND_WORKITEM(organization_id=organization_id, workitem_uid=uid)
    if not rows:
        raise NoSuchWorkitem
    row = rows[0]
    return _Kept(row["id"], uid, State(row["state"]), row["transaction_digest"], parsed(row["document"]))


def _page(organization_id: int, keys: Keys, after: int) -> Work[list[Row]]:
    lower, upper = keys.bounds(START)
    rows = yield queries.PAGE_OF_WORKITEMS(
        organization_id=organization_id,
        after=after,
        state=keys.single(STATE),
        patient_id=keys.single(PATIENT_ID),
        lower=lower,
        upper=upper,
        limit=_PAGE,
    )
    return rows


def _columns(document: DataSet) -> dict[str, str]:
    return {
        "patient_id": text(document, PATIENT_ID).strip(),
        "scheduled_start": canonical_datetime(text(document, START)) or "",
        "document": serialized(document),
    }
