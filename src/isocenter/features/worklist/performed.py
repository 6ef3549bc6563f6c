"""Modality performed procedure steps (PS3.4 F.7): what a modality says it does, and the scheduled steps.

A step is created IN PROGRESS, set to COMPLETED or DISCONTINUED once, and stays as it is from then on. The
worklist items that it refers to (by study and step ID) follow it in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from isocenter.dicom.uids import generate_uid
from isocenter.features.worklist import queries
from isocenter.features.worklist.datasets import DataSet, has_value, items, parsed, put, serialized, text
from isocenter.features.worklist.item_rules import ItemState
from isocenter.features.worklist.items import move_item
from isocenter.features.worklist.telling import noted
from isocenter.features.worklist.workitems import checked_uid
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Conflict, InvalidInput, NotFound
from isocenter.platform.db import Database, Row, Work

STATUS = 0x00400252
SCHEDULED_STEP_ATTRIBUTES = 0x00400270
_STUDY_INSTANCE_UID = 0x0020000D
_STEP_ID = 0x00400009
_MODALITY = 0x00080060
_STATION_AE_TITLE = 0x00400241
_START_DATE, _START_TIME = 0x00400244, 0x00400245
_END_DATE, _END_TIME = 0x00400250, 0x00400251
_PERFORMED_STEP_ID = 0x00400253

# Table F.7.2-1: of type 1 when it is created, and when it is over.
_CREATE_TYPE_1 = (
    SCHEDULED_STEP_ATTRIBUTES,
    _PERFORMED_STEP_ID,
    _STATION_AE_TITLE,
    _START_DATE,
    _START_TIME,
    STATUS,
    _MODALITY,
)
_FINAL_TYPE_1 = (_END_DATE, _END_TIME)
# What N-SET may not change: what is done, to whom, where and since when.
_FIXED = frozenset(
    {SCHEDULED_STEP_ATTRIBUTES, _PERFORMED_STEP_ID, _STATION_AE_TITLE, _START_DATE, _START_TIME, _MODALITY}
    | {0x00080005, 0x00080016, 0x00080018, 0x00081120, 0x00100010, 0x00100020, 0x00100021}
    | {0x00100030, 0x00100040, 0x00200010, 0x00400242, 0x00400243}
)


class PerformedState(StrEnum):
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


_ITEM_STATE = {
    PerformedState.IN_PROGRESS: ItemState.STARTED,
    PerformedState.COMPLETED: ItemState.COMPLETED,
    PerformedState.DISCONTINUED: ItemState.DISCONTINUED,
}


class PerformedStepInvalid(InvalidInput):
    """Tags. ``missing``: not there; ``empty``: without a value; ``wrong``: with one that may not be."""

    default_code = "performed-step"

    def __init__(
        self, *, missing: Iterable[int] = (), empty: Iterable[int] = (), wrong: Iterable[int] = ()
    ) -> None:
        self.missing, self.empty, self.wrong = tuple(missing), tuple(empty), tuple(wrong)
        super().__init__("The performed procedure step breaks a rule of PS3.4 Table F.7.2-1.")


class PerformedStepExists(Conflict):
    default_code = "performed-step-exists"

    def __init__(self) -> None:
        super().__init__("There is a performed procedure step with this UID already.")


class PerformedStepOver(Conflict):
    """0110H with error ID A710H (PS3.4 F.7.2.2.2)."""

    default_code = "performed-step-over"

    def __init__(self) -> None:
        super().__init__("The performed procedure step may no longer be updated.")


class NoSuchPerformedStep(NotFound):
    default_code = "no-such-performed-step"

    def __init__(self) -> None:
        super().__init__("There is no such performed procedure step.")


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """``ae_title``: of who created it. Times: µs since 1970 UTC."""

    id: int
    sop_instance_uid: str
    state: PerformedState
    ae_title: str
    document: DataSet
    created_at_us: int
    changed_at_us: int


class PerformedSteps:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, organization_id: int, given: DataSet, *, uid: str, ae_title: str) -> str:
        """Its UID, which is made up where none is given. Raises PerformedStepInvalid, PerformedStepExists,
        InvalidInput for what is no UID."""
        uid = uid or generate_uid()
        checked_uid(uid)
        _check(given, _CREATE_TYPE_1)
        if text(given, STATUS).strip() != PerformedState.IN_PROGRESS:
            raise PerformedStepInvalid(wrong=[STATUS])
        references = items(given, SCHEDULED_STEP_ATTRIBUTES)
        if not all(has_value(one, _STUDY_INSTANCE_UID) for one in references):
            raise PerformedStepInvalid(empty=[_STUDY_INSTANCE_UID])
        kept = dict(given)
        put(kept, 0x00080018, uid)
        await self._database.write(_create, organization_id, uid, ae_title, kept, self._now_us())
        return uid

    async def set(self, organization_id: int, uid: str, given: DataSet) -> tuple[int, ...]:
        """Tags that were left as they are, since they may not change.

        Raises NoSuchPerformedStep, PerformedStepOver, PerformedStepInvalid.
        """
        return await self._database.write(_set, organization_id, uid, given, self._now_us())

    async def find(self, organization_id: int, uid: str) -> PerformedStep:
        """Raises NoSuchPerformedStep."""
        return await self._database.read(_find, organization_id, uid)

    async def listed(
        self, organization_id: int, *, state: str = "", before: int = 2**63 - 1, limit: int = 100
    ) -> list[PerformedStep]:
        """The newest first; ``before``: the ``id`` of the last one seen."""
        return await self._database.read(_list, organization_id, state, before, limit)

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


def _create(organization_id: int, uid: str, ae_title: str, kept: DataSet, now_us: int) -> Work[None]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    rows = yield queries.ADD_STEP(
        organization_id=organization_id,
        sop_instance_uid=uid,
        state=PerformedState.IN_PROGRESS.value,
        ae_title=ae_title,
        document=serialized(kept),
        now_us=now_us,
    )
    if not rows:
        raise PerformedStepExists
    for one in items(kept, SCHEDULED_STEP_ATTRIBUTES):
        yield queries.ADD_REFERENCE(
            organization_id=organization_id,
            performed_step_pk=rows[0]["id"],
            study_instance_uid=text(one, _STUDY_INSTANCE_UID).strip(),
            step_id=text(one, _STEP_ID).strip(),
        )
    yield from noted(organization_id, "performed-step", uid, PerformedState.IN_PROGRESS, now_us)
    yield from _follow(organization_id, rows[0]["id"], now_us)


def _set(organization_id: int, uid: str, given: DataSet, now_us: int) -> Work[tuple[int, ...]]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    step = yield from _find(organization_id, uid)
    if step.state is not PerformedState.IN_PROGRESS:
        raise PerformedStepOver
    fresh, left = dict(step.document), []
    for name, attribute in given.items():
        if int(name, 16) in _FIXED:
            if attribute != step.document.get(name):
                left.append(int(name, 16))
        else:
            fresh[name] = attribute
    state = _state_of(fresh)
    if state is not PerformedState.IN_PROGRESS:
        _check(fresh, _FINAL_TYPE_1)
    yield queries.CHANGE_STEP(
        organization_id=organization_id,
        id=step.id,
        state=state.value,
        document=serialized(fresh),
        now_us=now_us,
    )
    if state is not step.state:
        yield from noted(organization_id, "performed-step", uid, state, now_us)
        yield from _follow(organization_id, step.id, now_us)
    return tuple(tag for tag in left if tag != 0x00080005)


def _follow(organization_id: int, pk: int, now_us: int) -> Work[None]:
    """The scheduled steps that it refers to, as all that is performed of each says together."""
    references = yield queries.FIND_REFERENCES(organization_id=organization_id, pk=pk)
    for one in references:
        place = {"study_instance_uid": one["study_instance_uid"], "step_id": one["step_id"]}
        scheduled = yield queries.FIND_ITEM(organization_id=organization_id, **place)
        rows = yield queries.FIND_STATES_OF_REFERENCED(organization_id=organization_id, **place)
        states = {PerformedState(row["state"]) for row in rows}
        for state in PerformedState:  # in progress before completed before discontinued
            if state in states:
                for row in scheduled:
                    yield from move_item(organization_id, row, _ITEM_STATE[state], now_us)
                break


def _check(given: Mapping[str, Any], tags: Iterable[int]) -> None:
    missing = [tag for tag in tags if f"{tag:08X}" not in given]
    empty = [tag for tag in tags if tag not in missing and not has_value(given, tag)]
    if missing or empty:
        raise PerformedStepInvalid(missing=missing, empty=empty)


def _state_of(document: DataSet) -> PerformedState:
    try:
        return PerformedState(text(document, STATUS).strip())
    except ValueError:
        raise PerformedStepInvalid(wrong=[STATUS]) from None


def _find(organization_id: int, uid: str) -> Work[PerformedStep]:
    rows = yield queries.FIND_STEP(organization_id=organization_id, uid=uid)
    if not rows:
        raise NoSuchPerformedStep
    return _step(rows[0])


def _list(organization_id: int, state: str, before: int, limit: int) -> Work[list[PerformedStep]]:
    rows = yield queries.LIST_STEPS(organization_id=organization_id, state=state, before=before, limit=limit)
    return [_step(row) for row in rows]


def _step(row: Row) -> PerformedStep:
    return PerformedStep(
        row["id"],
        row["sop_instance_uid"],
        PerformedState(row["state"]),
        row["ae_title"],
        parsed(row["document"]),
        row["created_at_us"],
        row["changed_at_us"],
    )
