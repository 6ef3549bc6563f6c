"""Workitems that are acquisitions are on the modality worklist too.

One is when its Scheduled Station Class Code Sequence names a modality (PS3.16 CID 29, scheme DCM) and its
Scheduled Station Name Code Sequence a station, whose code value is its AE title. The item follows the
workitem's state; a workitem that ceases to be an acquisition takes its item off the list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from isocenter.dicom.datetimes import canonical_datetime
from isocenter.features.worklist import item_rules as item
from isocenter.features.worklist import queries
from isocenter.features.worklist import workitem_rules as workitem
from isocenter.features.worklist.datasets import DataSet, chosen, has_value, items, put, text
from isocenter.features.worklist.items import put_item
from isocenter.platform.db import Work

_REQUEST = 0x0040A370
_CODE_VALUE, _SCHEME = 0x00080100, 0x00080102
_MODALITY = re.compile(r"[A-Z]{2,16}", re.ASCII)
_STATE = {
    workitem.State.SCHEDULED: item.ItemState.SCHEDULED,
    workitem.State.IN_PROGRESS: item.ItemState.STARTED,
    workitem.State.COMPLETED: item.ItemState.COMPLETED,
    workitem.State.CANCELED: item.ItemState.DISCONTINUED,
}
# What both have under the same tags: patient, visit.
_SHARED = (
    0x00081080,
    0x00081084,
    0x00100010,
    0x00100020,
    0x00100021,
    0x00100030,
    0x00100040,
    0x00101002,
    0x00380010,
    0x00380014,
)
_OF_REQUEST = (0x00080050, 0x00080051, 0x00080090, 0x0020000D, 0x00321032, 0x00321033, 0x00321060)
_ALSO_OF_REQUEST = (0x00321064, 0x00401001, 0x00402016, 0x00402017)


def follow_workitem(
    organization_id: int, uid: str, kept: Mapping[str, Any], state: workitem.State, now_us: int
) -> Work[None]:
    """Bring the worklist item of a workitem up to date."""
    document = acquisition_of(uid, kept)
    known = yield queries.FIND_ITEM_OF_WORKITEM(organization_id=organization_id, workitem_uid=uid)
    columns = item.columns_of(document) if document else {}
    for row in known:
        place = (row["study_instance_uid"], row["step_id"])
        if place != (columns.get("study_instance_uid"), columns.get("step_id")):
            yield queries.REMOVE_ITEM(organization_id=organization_id, id=row["id"])
    if document:
        yield from put_item(
            organization_id,
            document,
            source="workitem",
            now_us=now_us,
            state=_STATE[state],
            workitem_uid=uid,
        )


def acquisition_of(uid: str, kept: Mapping[str, Any]) -> DataSet | None:
    """The item that a workitem is on the modality worklist; None where it is no acquisition."""
    modality = _code_of(kept, workitem.STATION_CLASS)
    stations = [text(one, _CODE_VALUE).strip() for one in items(kept, workitem.STATION_NAME)]
    start = canonical_datetime(text(kept, workitem.START))
    if not _MODALITY.fullmatch(modality) or not any(stations) or start is None:
        return None
    found = chosen(kept, _SHARED)
    for request in items(kept, _REQUEST)[:1]:
        found |= chosen(request, (*_OF_REQUEST, *_ALSO_OF_REQUEST))
    if not has_value(found, item.STUDY_INSTANCE_UID):
        study = text(kept, item.STUDY_INSTANCE_UID).strip()
        put(found, item.STUDY_INSTANCE_UID, study or uid)
    step_id = f"W{item.hash_of(uid, 0):08X}"
    if not has_value(found, item.REQUESTED_PROCEDURE_ID):
        put(found, item.REQUESTED_PROCEDURE_ID, step_id)
    step: DataSet = {}
    put(step, item.STATION_AE_TITLE, *[one for one in stations if one])
    put(step, item.START_DATE, start[:8])
    put(step, item.START_TIME, start[8:14])
    put(step, item.MODALITY, modality)
    put(step, item.STEP_DESCRIPTION, text(kept, workitem.LABEL))
    put(step, item.STEP_ID, step_id)
    put(step, item.PROTOCOL_CODE, *items(kept, workitem.WORKITEM_CODE))
    put(found, item.STEPS, step)
    try:
        item.prepared(found)
    except item.WorklistItemInvalid:  # without a patient, say: no modality could use it
        return None
    return found


def _code_of(kept: Mapping[str, Any], tag: int) -> str:
    for one in items(kept, tag):
        if text(one, _SCHEME).strip() == "DCM":
            return text(one, _CODE_VALUE).strip()
    return ""
