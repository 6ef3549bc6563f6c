"""What an item of the modality worklist holds (PS3.4 Table K.6-1). Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from isocenter.dicom.datetimes import canonical_date, canonical_time
from isocenter.dicom.dictionary import keyword_of
from isocenter.dicom.uids import generate_uid, uid_problem
from isocenter.features.worklist.datasets import DataSet, has_value, items, put, text
from isocenter.kit.errors import InvalidInput

ACCESSION_NUMBER = 0x00080050
MODALITY = 0x00080060
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
STUDY_INSTANCE_UID = 0x0020000D
REQUESTED_PROCEDURE_DESCRIPTION = 0x00321060
STATION_AE_TITLE = 0x00400001
START_DATE = 0x00400002
START_TIME = 0x00400003
PERFORMING_PHYSICIAN = 0x00400006
STEP_DESCRIPTION = 0x00400007
PROTOCOL_CODE = 0x00400008
STEP_ID = 0x00400009
STEP_STATUS = 0x00400020
STEPS = 0x00400100
REQUESTED_PROCEDURE_ID = 0x00401001

_OF_ITEM = (PATIENT_NAME, PATIENT_ID, STUDY_INSTANCE_UID, REQUESTED_PROCEDURE_ID)
_OF_STEP = (STATION_AE_TITLE, START_DATE, START_TIME, MODALITY, STEP_ID)
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}", re.ASCII)
_SHORT_STRING_CHARS_MAX = 16


class ItemState(StrEnum):
    """Of a scheduled procedure step. ``dicom``: Scheduled Procedure Step Status (0040,0020)."""

    SCHEDULED = "scheduled"
    STARTED = "started"
    COMPLETED = "completed"
    DISCONTINUED = "discontinued"

    @property
    def dicom(self) -> str:
        return self.value.upper()


ON_THE_WORKLIST = (ItemState.SCHEDULED, ItemState.STARTED)
"""What modalities are shown unless they ask for a status."""


class WorklistItemInvalid(InvalidInput):
    """``errors``: JSON pointers into the data set."""

    default_code = "worklist-item"

    def __init__(self, found: Iterable[tuple[str, str]]) -> None:
        self.errors = [{"pointer": pointer, "detail": detail} for pointer, detail in found]
        tags = [one["pointer"].rpartition("/")[2] for one in self.errors]
        named = ", ".join(keyword_of(int(tag, 16)) for tag in tags[:8])
        super().__init__(
            f"This is no item of a modality worklist: {named}.",
            remedy="'errors' says what is asked of each (PS3.4 Table K.6-1, types of return keys).",
        )


def prepared(given: DataSet) -> list[DataSet]:
    """One item for each scheduled step, with the identifiers that were left out made up.

    Raises WorklistItemInvalid.
    """
    steps = items(given, STEPS)
    if not steps:
        raise WorklistItemInvalid([(f"/{STEPS:08X}", "It needs an item: the scheduled step.")])
    whole = dict(given)
    if not has_value(whole, STUDY_INSTANCE_UID):
        put(whole, STUDY_INSTANCE_UID, generate_uid())
    found = []
    for number, step in enumerate(steps):
        item = dict(whole)
        one = dict(step)
        if not has_value(one, STEP_ID):
            # From the study, so that the same order given again is the same step.
            put(one, STEP_ID, f"S{hash_of(text(whole, STUDY_INSTANCE_UID), number):08X}")
        if not has_value(item, REQUESTED_PROCEDURE_ID):
            put(item, REQUESTED_PROCEDURE_ID, text(one, STEP_ID))
        put(item, STEPS, one)
        _check(item, one, number)
        found.append(item)
    return found


def hash_of(study_instance_uid: str, number: int) -> int:
    """Of a step, to make an identifier of 8 hexadecimal digits of."""
    return zlib.crc32(f"{study_instance_uid}/{number}".encode())


def with_state(item: DataSet, state: ItemState) -> DataSet:
    fresh = dict(item)
    step = dict(items(item, STEPS)[0])
    put(step, STEP_STATUS, state.dicom)
    put(fresh, STEPS, step)
    return fresh


def columns_of(item: Mapping[str, Any]) -> dict[str, str]:
    """What the index keeps of it."""
    step = items(item, STEPS)[0]
    day = canonical_date(text(step, START_DATE)) or ""
    titles = [title.strip() for title in text(step, STATION_AE_TITLE).split("\\")]
    return {
        "study_instance_uid": text(item, STUDY_INSTANCE_UID).strip(),
        "step_id": text(step, STEP_ID).strip(),
        "station_ae_titles": "\\" + "\\".join(titles) + "\\",
        "patient_id": text(item, PATIENT_ID).strip(),
        "accession_number": text(item, ACCESSION_NUMBER).strip(),
        "scheduled_start": day + (canonical_time(text(step, START_TIME)) or "" if day else ""),
    }


def _check(item: DataSet, step: DataSet, number: int) -> None:
    wrong = [(f"/{tag:08X}", "It must have a value.") for tag in _OF_ITEM if not has_value(item, tag)]
    place = f"/{STEPS:08X}/Value/{number}"
    wrong += [(f"{place}/{tag:08X}", "It must have a value.") for tag in _OF_STEP if not has_value(step, tag)]
    if uid_problem(text(item, STUDY_INSTANCE_UID).strip()):
        wrong.append((f"/{STUDY_INSTANCE_UID:08X}", "It is a UID."))
    if has_value(step, START_DATE) and canonical_date(text(step, START_DATE)) is None:
        wrong.append((f"{place}/{START_DATE:08X}", "It is a date: YYYYMMDD."))
    if has_value(step, START_TIME) and canonical_time(text(step, START_TIME)) is None:
        wrong.append((f"{place}/{START_TIME:08X}", "It is a time: HHMMSS."))
    titles = text(step, STATION_AE_TITLE).split("\\")
    if has_value(step, STATION_AE_TITLE) and not all(map(_AE_TITLE.fullmatch, titles)):
        wrong.append((f"{place}/{STATION_AE_TITLE:08X}", "It is an AE title of at most 16 characters."))
    for pointer, holder, tag in (
        (f"{place}/{STEP_ID:08X}", step, STEP_ID),
        (f"/{REQUESTED_PROCEDURE_ID:08X}", item, REQUESTED_PROCEDURE_ID),
        (f"/{ACCESSION_NUMBER:08X}", item, ACCESSION_NUMBER),
    ):
        if len(text(holder, tag)) > _SHORT_STRING_CHARS_MAX:
            wrong.append((pointer, f"It has at most {_SHORT_STRING_CHARS_MAX} characters."))
    if wrong:
        raise WorklistItemInvalid(wrong)
