"""UPS event reports (PS3.4 CC.2.4, Table CC.2.4-1) as DICOM JSON, the form of PS3.18 §8.10.5. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isocenter.features.worklist.datasets import DataSet, chosen, has_value, items, put
from isocenter.features.worklist.workitem_rules import (
    CONTACT_NAME,
    CONTACT_URI,
    DISCONTINUATION_REASON,
    HUMAN_PERFORMER_CODE,
    HUMAN_PERFORMER_ORGANIZATION,
    HUMAN_PERFORMERS,
    INPUT_READINESS,
    PROGRESS_INFORMATION,
    REASON_FOR_CANCELLATION,
    REQUESTING_AE,
    STATE,
    STATION_NAME,
)

EVENT_SOP_CLASS = "1.2.840.10008.5.1.4.34.6.4"
STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, ASSIGNED = 1, 2, 3, 5


def state_report(uid: str, workitem: Mapping[str, Any]) -> DataSet:
    report = _report(uid, STATE_REPORT) | chosen(workitem, (STATE, INPUT_READINESS))
    for progress in items(workitem, PROGRESS_INFORMATION)[:1]:
        report |= chosen(progress, (REASON_FOR_CANCELLATION, DISCONTINUATION_REASON))
    return report


def cancel_requested(uid: str, request: Mapping[str, Any], requesting_ae: str) -> DataSet:
    told = (REASON_FOR_CANCELLATION, DISCONTINUATION_REASON, CONTACT_URI, CONTACT_NAME)
    report = _report(uid, CANCEL_REQUESTED) | chosen(request, told)
    put(report, REQUESTING_AE, requesting_ae)
    return report


def progress_report(uid: str, workitem: Mapping[str, Any]) -> DataSet:
    return _report(uid, PROGRESS_REPORT) | chosen(workitem, (PROGRESS_INFORMATION,))


def assigned(uid: str, workitem: Mapping[str, Any]) -> DataSet:
    report = _report(uid, ASSIGNED) | chosen(workitem, (STATION_NAME,))
    for performer in items(workitem, HUMAN_PERFORMERS)[:1]:
        report |= chosen(performer, (HUMAN_PERFORMER_CODE, HUMAN_PERFORMER_ORGANIZATION))
    return report


def of_creation(uid: str, workitem: Mapping[str, Any]) -> list[DataSet]:
    reports = [state_report(uid, workitem)]
    if has_value(workitem, STATION_NAME) or has_value(workitem, HUMAN_PERFORMERS):
        reports.append(assigned(uid, workitem))
    return reports


def of_update(uid: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[DataSet]:
    """What an update is worth telling."""

    def changed(*tags: int) -> bool:
        return any(before.get(f"{tag:08X}") != after.get(f"{tag:08X}") for tag in tags)

    reports = []
    if changed(INPUT_READINESS):
        reports.append(state_report(uid, after))
    if changed(STATION_NAME, HUMAN_PERFORMERS):
        reports.append(assigned(uid, after))
    if changed(PROGRESS_INFORMATION):
        reports.append(progress_report(uid, after))
    return reports


def _report(uid: str, event_type: int) -> DataSet:
    report: DataSet = {}
    put(report, 0x00000002, EVENT_SOP_CLASS)
    put(report, 0x00001000, uid)
    put(report, 0x00001002, event_type)
    return report
