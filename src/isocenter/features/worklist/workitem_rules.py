"""What a workitem must, may and must not hold, by state (PS3.4 CC.2.1, CC.2.5 and Table CC.2.5-3). Pure.

Attributes of type 2 that a requester leaves out are added empty, and the requester is told so; those of
type 1 are asked for. Optional parts of the table that concern the content of codes are checked as codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from isocenter.dicom.datetimes import canonical_datetime
from isocenter.dicom.dictionary import keyword_of
from isocenter.features.worklist.datasets import DataSet, has_value, items, put, text
from isocenter.kit.errors import Conflict, InvalidInput

SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
TRANSACTION_UID = 0x00081195
PATIENT_ID = 0x00100020
STATE = 0x00741000
PROGRESS_INFORMATION = 0x00741002
PROGRESS = 0x00741004
CONTACT_URI = 0x0074100A
CONTACT_NAME = 0x0074100C
DISCONTINUATION_REASON = 0x0074100E
PRIORITY = 0x00741200
WORKLIST_LABEL = 0x00741202
LABEL = 0x00741204
PERFORMED_PROCEDURE = 0x00741216
REASON_FOR_CANCELLATION = 0x00741238
REQUESTING_AE = 0x00741236
START = 0x00404005
MODIFIED_AT = 0x00404010
EXPECTED_COMPLETION = 0x00404011
WORKITEM_CODE = 0x00404018
PERFORMED_WORKITEM_CODE = 0x00404019
INPUT_INFORMATION = 0x00404021
STATION_NAME = 0x00404025
STATION_CLASS = 0x00404026
STATION_LOCATION = 0x00404027
PERFORMED_STATION_NAME = 0x00404028
OUTPUT_INFORMATION = 0x00404033
HUMAN_PERFORMERS = 0x00404034
HUMAN_PERFORMER_ORGANIZATION = 0x00404036
HUMAN_PERFORMER_CODE = 0x00404009
INPUT_READINESS = 0x00404041
PERFORMED_START = 0x00404050
PERFORMED_END = 0x00404051
CANCELLED_AT = 0x00404052

PUSH_SOP_CLASS = "1.2.840.10008.5.1.4.34.6.1"
DEFAULT_WORKLIST_LABEL = "DEFAULT"


class State(StrEnum):
    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def final(self) -> bool:
        return self in {State.COMPLETED, State.CANCELED}


# Table CC.2.5-3, N-CREATE: type 1 for the requester, and type 2, which may be empty.
_CREATE_TYPE_1 = (PRIORITY, LABEL, START, INPUT_READINESS, STATE)
_CREATE_TYPE_2 = (
    0x00081080,  # Admitting Diagnoses Description
    0x00081084,  # Admitting Diagnoses Code Sequence
    0x00100010,
    PATIENT_ID,
    0x00100021,  # Issuer of Patient ID
    0x00100030,
    0x00100040,
    0x00101002,  # Other Patient IDs Sequence
    0x00380010,  # Admission ID
    0x00380014,  # Issuer of Admission ID Sequence
    0x00400400,  # Comments on the Scheduled Procedure Step
    WORKITEM_CODE,
    INPUT_INFORMATION,
    STATION_NAME,
    STATION_CLASS,
    STATION_LOCATION,
    0x0040A370,  # Referenced Request Sequence
    PROGRESS_INFORMATION,
    0x00741210,  # Scheduled Processing Parameters Sequence
    PERFORMED_PROCEDURE,
    0x00741224,  # Replaced Procedure Step Sequence is 1C; kept where given
)
_CREATE_EMPTY = (PROGRESS_INFORMATION, PERFORMED_PROCEDURE, TRANSACTION_UID)
_ADDED_EMPTY = tuple(tag for tag in _CREATE_TYPE_2 if tag != 0x00741224)

# What N-SET may not touch: who it is about, what it is, and what the server itself keeps.
_FIXED = frozenset(
    {SOP_CLASS_UID, SOP_INSTANCE_UID, STATE, MODIFIED_AT}
    | {0x00100010, PATIENT_ID, 0x00100021, 0x00100030, 0x00100040, 0x00101002}
    | {0x00081080, 0x00081084, 0x00380010, 0x00380014, 0x0040A370, 0x00741224}
)
_NEVER_EMPTY = (PRIORITY, LABEL, WORKLIST_LABEL, START, INPUT_READINESS)

_ENUMERATED = {
    PRIORITY: frozenset({"HIGH", "MEDIUM", "LOW"}),
    INPUT_READINESS: frozenset({"INCOMPLETE", "UNAVAILABLE", "READY"}),
}
_DATE_TIMES = (START, EXPECTED_COMPLETION)
_CODES = (WORKITEM_CODE, STATION_NAME, STATION_CLASS, STATION_LOCATION)


class NotAsRequired(InvalidInput):
    """``errors`` names each attribute by its tag (a JSON pointer into the data set)."""

    default_code = "workitem-attributes"

    def __init__(self, what: str, found: Iterable[tuple[int, str]]) -> None:
        self.errors = [{"pointer": f"/{tag:08X}", "detail": detail} for tag, detail in found]
        named = ", ".join(keyword_of(int(one["pointer"][1:], 16)) for one in self.errors[:8])
        super().__init__(
            f"{what}: {named}.", remedy="'errors' says what is asked of each (PS3.4 Table CC.2.5-3)."
        )


class FinalStateRequirements(Conflict):
    """C304H: it cannot be finished before it says how it ended."""

    default_code = "final-state-requirements"

    def __init__(self, state: State, missing: list[str]) -> None:
        super().__init__(
            f"The workitem cannot become {state}: it lacks {', '.join(missing)}.",
            remedy="Update it with these attributes first (PS3.4 Table CC.2.5-3, final state).",
        )


def prepared_for_creation(given: DataSet, uid: str, now: str) -> tuple[DataSet, bool]:
    """The workitem as it will be kept, and whether something was added that the requester should have given.

    Raises NotAsRequired.
    """
    wrong = [(tag, "It must have a value.") for tag in _CREATE_TYPE_1 if not has_value(given, tag)]
    wrong += [(tag, "It must be empty in a new workitem.") for tag in _CREATE_EMPTY if has_value(given, tag)]
    if has_value(given, STATE) and text(given, STATE).strip() != State.SCHEDULED:
        wrong.append((STATE, "A new workitem is SCHEDULED."))
    wrong += _wrong_values(given)
    if wrong:
        raise NotAsRequired("A workitem cannot be created so", wrong)
    kept = dict(given)
    kept.pop(f"{TRANSACTION_UID:08X}", None)
    missing = [tag for tag in _ADDED_EMPTY if f"{tag:08X}" not in kept]
    for tag in missing:
        put(kept, tag)
    if not has_value(kept, WORKLIST_LABEL):
        put(kept, WORKLIST_LABEL, DEFAULT_WORKLIST_LABEL)
    put(kept, SOP_CLASS_UID, PUSH_SOP_CLASS)
    put(kept, SOP_INSTANCE_UID, uid)
    put(kept, STATE, State.SCHEDULED.value)
    put(kept, MODIFIED_AT, now)
    return kept, bool(missing)


def updated(kept: DataSet, given: DataSet, now: str) -> DataSet:
    """With the given attributes in place of the old ones. Raises NotAsRequired."""
    wrong = [(tag, "It cannot be changed.") for tag in sorted(_FIXED) if _differs(kept, given, tag)]
    wrong += [
        (tag, "It must have a value.")
        for tag in _NEVER_EMPTY
        if f"{tag:08X}" in given and not has_value(given, tag)
    ]
    wrong += _wrong_values(given)
    if wrong:
        raise NotAsRequired("A workitem cannot be updated so", wrong)
    fresh = dict(kept)
    ours = {f"{tag:08X}" for tag in (*_FIXED, TRANSACTION_UID, 0x00080005)}
    fresh.update({name: attribute for name, attribute in given.items() if name not in ours})
    put(fresh, MODIFIED_AT, now)
    return fresh


def check_final_state(kept: Mapping[str, Any], state: State) -> None:
    """Raises FinalStateRequirements. Codes P and X of Table CC.2.5-3; what is required in every state is
    there since the creation."""
    missing = _missing_when_completed(kept) if state is State.COMPLETED else _missing_when_canceled(kept)
    if missing:
        raise FinalStateRequirements(state, missing)


def canceled_by_server(kept: DataSet, request: DataSet, now: str) -> DataSet:
    """A workitem that is cancelled by request; it says why where the requester did (PS3.4 CC.2.2.3)."""
    fresh = dict(kept)
    progress: DataSet = {}
    put(progress, CANCELLED_AT, now)
    if has_value(request, DISCONTINUATION_REASON):
        progress[f"{DISCONTINUATION_REASON:08X}"] = request[f"{DISCONTINUATION_REASON:08X}"]
    else:
        put(progress, DISCONTINUATION_REASON, _code("110513", "DCM", "Discontinued for unspecified reason"))
    if has_value(request, REASON_FOR_CANCELLATION):
        progress[f"{REASON_FOR_CANCELLATION:08X}"] = request[f"{REASON_FOR_CANCELLATION:08X}"]
    put(fresh, PROGRESS_INFORMATION, progress)
    put(fresh, MODIFIED_AT, now)
    return fresh


def _missing_when_completed(kept: Mapping[str, Any]) -> list[str]:
    performed = items(kept, PERFORMED_PROCEDURE)
    if not performed:
        return [keyword_of(PERFORMED_PROCEDURE)]
    tags = (PERFORMED_STATION_NAME, PERFORMED_START, PERFORMED_END, PERFORMED_WORKITEM_CODE)
    missing = [tag for tag in tags if not all(has_value(item, tag) for item in performed)]
    # Type 2: nothing may have come of it, but that must be said.
    if not all(f"{OUTPUT_INFORMATION:08X}" in item for item in performed):
        missing.append(OUTPUT_INFORMATION)
    return [f"{keyword_of(PERFORMED_PROCEDURE)}.{keyword_of(tag)}" for tag in missing]


def _missing_when_canceled(kept: Mapping[str, Any]) -> list[str]:
    progress = items(kept, PROGRESS_INFORMATION)
    if not progress:
        return [keyword_of(PROGRESS_INFORMATION)]
    tags = (CANCELLED_AT, DISCONTINUATION_REASON)
    missing = [tag for tag in tags if not has_value(progress[0], tag)]
    return [f"{keyword_of(PROGRESS_INFORMATION)}.{keyword_of(tag)}" for tag in missing]


def _wrong_values(given: DataSet) -> list[tuple[int, str]]:
    wrong = [
        (tag, f"It is one of {', '.join(sorted(values))}.")
        for tag, values in _ENUMERATED.items()
        if has_value(given, tag) and text(given, tag).strip() not in values
    ]
    wrong += [
        (tag, "It is a date and time: YYYYMMDDHHMMSS.")
        for tag in _DATE_TIMES
        if has_value(given, tag) and canonical_datetime(text(given, tag)) is None
    ]
    wrong += [
        (tag, "Each item needs a code value, its coding scheme and its meaning.")
        for tag in _CODES
        if not all(map(_is_code, items(given, tag)))
    ]
    if len(items(given, PROGRESS_INFORMATION)) > 1:
        wrong.append((PROGRESS_INFORMATION, "It has one item at most."))
    return wrong


def _is_code(item: Mapping[str, Any]) -> bool:
    """PS3.3 Table 8.8-1a: one of the three forms of a value; long and URN values name no scheme by need."""
    if has_value(item, 0x00080120):  # URN Code Value
        return has_value(item, 0x00080104)
    valued = has_value(item, 0x00080100) or has_value(item, 0x00080119)
    return valued and has_value(item, 0x00080102) and has_value(item, 0x00080104)


def _differs(kept: DataSet, given: DataSet, tag: int) -> bool:
    """Clients send back what they were given; only another value is a change."""
    name = f"{tag:08X}"
    return name in given and has_value(given, tag) and given[name] != kept.get(name)


def _code(value: str, scheme: str, meaning: str) -> DataSet:
    item: DataSet = {}
    put(item, 0x00080100, value)
    put(item, 0x00080102, scheme)
    put(item, 0x00080104, meaning)
    return item
