"""What a modality asks and says: worklist queries and performed procedure steps, as elements."""

from __future__ import annotations

from typing import Any

from isocenter.dicom.dataset import write_dataset
from isocenter.dicom.json_dataset import elements_from_json
from services.scp import EXPLICIT
from services.workitems import code, dicom_json

STUDY = "1.2.826.0.1.3680043.2.1125.99"


def an_item(*, step: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    """An item of the modality worklist as DICOM JSON."""
    scheduled = dicom_json(
        **{
            "ScheduledStationAETitle": "CT1",
            "ScheduledProcedureStepStartDate": "20260101",
            "ScheduledProcedureStepStartTime": "103000",
            "Modality": "CT",
            "ScheduledPerformingPhysicianName": "HOUSE^GREGORY",
            "ScheduledProcedureStepDescription": "CT abdomen",
            "ScheduledProtocolCodeSequence": code("ABD", "99LOCAL"),
            "ScheduledProcedureStepID": "SPS1",
        }
        | (step or {})
    )
    return dicom_json(
        **{
            "AccessionNumber": "A1",
            "PatientName": "DOE^JANE",
            "PatientID": "P1",
            "PatientBirthDate": "19700101",
            "PatientSex": "F",
            "StudyInstanceUID": STUDY,
            "RequestedProcedureID": "RP1",
            "RequestedProcedureDescription": "CT of the abdomen",
            "ScheduledProcedureStepSequence": scheduled,
        }
        | attributes
    )


def a_performed_step(study: str = STUDY, step_id: str = "SPS1", **attributes: Any) -> dict[str, Any]:
    """What N-CREATE brings."""
    reference = dicom_json(
        StudyInstanceUID=study,
        ReferencedStudySequence=None,
        AccessionNumber="A1",
        RequestedProcedureID="RP1",
        ScheduledProcedureStepID=step_id,
    )
    return dicom_json(
        **{
            "ScheduledStepAttributesSequence": reference,
            "PatientName": "DOE^JANE",
            "PatientID": "P1",
            "PatientBirthDate": None,
            "PatientSex": None,
            "PerformedProcedureStepID": "PPS1",
            "PerformedStationAETitle": "CT1",
            "PerformedStationName": None,
            "PerformedProcedureStepStartDate": "20260101",
            "PerformedProcedureStepStartTime": "104500",
            "PerformedProcedureStepStatus": "IN PROGRESS",
            "PerformedProcedureStepEndDate": None,
            "PerformedProcedureStepEndTime": None,
            "Modality": "CT",
            "PerformedSeriesSequence": None,
        }
        | attributes
    )


def the_end(state: str = "COMPLETED", **attributes: Any) -> dict[str, Any]:
    """What the last N-SET brings."""
    series = dicom_json(
        SeriesInstanceUID=STUDY + ".1",
        SeriesDescription=None,
        ProtocolName="ABDOMEN",
        OperatorsName=None,
        ReferencedImageSequence=None,
    )
    return dicom_json(
        **{
            "PerformedProcedureStepStatus": state,
            "PerformedProcedureStepEndDate": "20260101",
            "PerformedProcedureStepEndTime": "110000",
            "PerformedSeriesSequence": series,
        }
        | attributes
    )


def encoded(data_set: dict[str, Any], syntax: str = EXPLICIT) -> bytes:
    return write_dataset(elements_from_json(data_set), syntax)
