"""The modality worklist (PS3.4 K): scheduled procedure steps, given by API, by file or by workitems."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from isocenter.features.worklist import queries
from isocenter.features.worklist.datasets import DataSet, parsed, serialized
from isocenter.features.worklist.item_rules import (
    ACCESSION_NUMBER,
    ON_THE_WORKLIST,
    PATIENT_ID,
    START_DATE,
    STATION_AE_TITLE,
    STEP_STATUS,
    STEPS,
    ItemState,
    columns_of,
    prepared,
    with_state,
)
from isocenter.features.worklist.matching import Keys, matches
from isocenter.features.worklist.telling import noted
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import NotFound
from isocenter.platform.db import Database, Row, Work

_PAGE = 200


@dataclass(frozen=True, slots=True)
class WorklistItem:
    """``source``: api, file, or workitem, whose UID is in ``workitem_uid``. Times: µs since 1970 UTC."""

    id: int
    study_instance_uid: str
    step_id: str
    state: ItemState
    source: str
    workitem_uid: str
    document: DataSet
    created_at_us: int
    changed_at_us: int


class WorklistItems:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def put(self, organization_id: int, given: DataSet, *, source: str) -> list[WorklistItem]:
        """Add its scheduled steps, or change those of the same study and step ID; their state stays.

        Raises WorklistItemInvalid.
        """
        now_us = microseconds(self._clock.now())
        return await self._database.write(_put, organization_id, prepared(given), source, now_us)

    async def remove(self, organization_id: int, item_id: int) -> None:
        """Raises NotFound."""
        now_us = microseconds(self._clock.now())
        if not await self._database.write(_remove, organization_id, item_id, now_us):
            raise NotFound(
                "There is no such item on the worklist.",
                code="no-such-worklist-item",
                remedy="'isocenter worklist list' shows those that there are.",
            )

    async def pages(
        self, organization_id: int, keys: Keys, *, all_states: bool = False
    ) -> AsyncIterator[list[WorklistItem]]:
        """Every match, some at a time, in the order in which they were added. Steps that are over are shown
        to who asks for their status, or with ``all_states``."""
        after = 0
        while True:
            rows = await self._database.read(_page, organization_id, keys, all_states, after)
            found = [item for item in map(_item, rows) if matches(item.document, keys)]
            if found:
                yield found
            if len(rows) < _PAGE:
                return
            after = rows[-1]["id"]

    async def listed(
        self, organization_id: int, keys: Keys, *, limit: int, all_states: bool = False
    ) -> list[WorklistItem]:
        found: list[WorklistItem] = []
        async for some in self.pages(organization_id, keys, all_states=all_states):
            found += some
            if len(found) >= limit:
                break
        return found[:limit]


def put_item(
    organization_id: int,
    document: DataSet,
    *,
    source: str,
    now_us: int,
    state: ItemState | None = None,
    workitem_uid: str = "",
) -> Work[Row]:
    """Without a ``state`` that of an item which is there stays."""
    columns = columns_of(document)
    known = yield queries.FIND_ITEM(
        organization_id=organization_id,
        study_instance_uid=columns["study_instance_uid"],
        step_id=columns["step_id"],
    )
    if state is None:
        state = ItemState(known[0]["state"]) if known else ItemState.SCHEDULED
    rows = yield queries.PUT_ITEM(
        organization_id=organization_id,
        state=state.value,
        source=source,
        workitem_uid=workitem_uid,
        document=serialized(with_state(document, state)),
        now_us=now_us,
        **columns,
    )
    if not known or known[0]["state"] != state:
        uid = f"{columns['study_instance_uid']}/{columns['step_id']}"
        yield from noted(organization_id, "worklist-item", uid, state, now_us)
    return rows[0]


def move_item(organization_id: int, row: Row, state: ItemState, now_us: int) -> Work[None]:
    """Bring an item into a state, if it is not in it."""
    if row["state"] == state:
        return
    document = with_state(parsed(row["document"]), state)
    yield queries.CHANGE_ITEM_STATE(
        organization_id=organization_id,
        id=row["id"],
        state=state.value,
        document=serialized(document),
        now_us=now_us,
    )
    uid = f"{row['study_instance_uid']}/{row['step_id']}"
    yield from noted(organization_id, "worklist-item", uid, state, now_us)


def _put(
    organization_id: int, documents: list[DataSet], source: str, now_us: int
) -> Work[list[WorklistItem]]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    found = []
    for document in documents:
        row = yield from put_item(organization_id, document, source=source, now_us=now_us)
        found.append(_item(row))
    return found


def _remove(organization_id: int, item_id: int, now_us: int) -> Work[bool]:
    yield queries.LOCK_WORKLIST(organization_id=organization_id)
    rows = yield queries.REMOVE_ITEM(organization_id=organization_id, id=item_id)
    for row in rows:
        uid = f"{row['study_instance_uid']}/{row['step_id']}"
        yield from noted(organization_id, "worklist-item", uid, "removed", now_us)
    return bool(rows)


def _page(organization_id: int, keys: Keys, all_states: bool, after: int) -> Work[list[Row]]:
    step = keys.within.get(STEPS, Keys())
    asks = STEP_STATUS in step.values
    states = list(ItemState) if all_states or asks else ON_THE_WORKLIST
    lower, upper = step.bounds(START_DATE)
    station = step.single(STATION_AE_TITLE)
    rows = yield queries.PAGE_OF_ITEMS(
        organization_id=organization_id,
        after=after,
        states=[state.value for state in states],
        station=station,
        station_pattern=f"%{_escaped(chr(92) + station + chr(92))}%",
        patient_id=keys.single(PATIENT_ID),
        accession_number=keys.single(ACCESSION_NUMBER),
        lower=lower,
        upper=upper,
        limit=_PAGE,
    )
    return rows


def _escaped(pattern: str) -> str:
    return pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _item(row: Row) -> WorklistItem:
    return WorklistItem(
        row["id"],
        row["study_instance_uid"],
        row["step_id"],
        ItemState(row["state"]),
        row["source"],
        row["workitem_uid"],
        parsed(row["document"]),
        row["created_at_us"],
        row["changed_at_us"],
    )
