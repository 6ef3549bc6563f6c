"""Workitems as a scheduler writes them, in DICOM JSON, and somebody to send them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2

from isocenter.dicom.dictionary import tag_of, vr_of

TRANSACTION = "1.2.826.0.1.3680043.2.1125.7"


def dicom_json(**attributes: Any) -> dict[str, Any]:
    """``dicom_json(PatientID="P1", ScheduledWorkitemCodeSequence=[{…}])``: by keyword; a list is many values,
    a dict one item."""
    found = {}
    for keyword, value in attributes.items():
        tag = tag_of(keyword)
        vr = vr_of(tag)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if vr == "PN":
            values = [{"Alphabetic": name} for name in values]
        found[f"{tag:08X}"] = {"vr": vr, "Value": values} if values else {"vr": vr}
    return found


def code(value: str, scheme: str = "DCM", meaning: str = "a meaning") -> dict[str, Any]:
    return dicom_json(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


_EMPTY = (
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "IssuerOfPatientID",
    "OtherPatientIDsSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "CommentsOnTheScheduledProcedureStep",
    "InputInformationSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "ReferencedRequestSequence",
    "ProcedureStepProgressInformationSequence",
    "ScheduledProcessingParametersSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)


def a_workitem(**attributes: Any) -> dict[str, Any]:
    """One that may be created, with these attributes instead of the usual ones."""
    return dicom_json(
        **dict.fromkeys(_EMPTY)
        | {
            "PatientName": "DOE^JANE",
            "PatientID": "P1",
            "PatientBirthDate": "19700101",
            "PatientSex": "F",
            "ScheduledProcedureStepPriority": "MEDIUM",
            "ProcedureStepLabel": "Segment the liver",
            "WorklistLabel": "AI",
            "ScheduledProcedureStepStartDateTime": "20260101120000",
            "ScheduledWorkitemCodeSequence": code("110004", meaning="Computer Aided Detection"),
            "ScheduledStationNameCodeSequence": code("GPU1", "99LOCAL"),
            "InputReadinessState": "READY",
            "ProcedureStepState": "SCHEDULED",
        }
        | attributes,
    )


def performed(**attributes: Any) -> dict[str, Any]:
    """What a completed workitem has to say."""
    item = dicom_json(
        **{
            "PerformedStationNameCodeSequence": code("GPU1", "99LOCAL"),
            "PerformedProcedureStepStartDateTime": "20260101120100",
            "PerformedProcedureStepEndDateTime": "20260101120200",
            "PerformedWorkitemCodeSequence": code("110004"),
            "OutputInformationSequence": None,
        }
        | attributes
    )
    return dicom_json(UnifiedProcedureStepPerformedProcedureSequence=item)


def cancelled() -> dict[str, Any]:
    item = dicom_json(
        ProcedureStepCancellationDateTime="20260101120200",
        ProcedureStepDiscontinuationReasonCodeSequence=code("110501", meaning="Equipment failure"),
    )
    return dicom_json(ProcedureStepProgressInformationSequence=item)


def into(state: str, transaction: str = TRANSACTION) -> dict[str, Any]:
    return dicom_json(ProcedureStepState=state, **({"TransactionUID": transaction} if transaction else {}))


@dataclass
class Scheduler:
    """``base``: of DICOM's services."""

    client: httpx2.AsyncClient
    base: str

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        if body is not None and not isinstance(body, str | bytes):
            headers = {"Content-Type": "application/dicom+json"} | headers
            return await self.client.request(method, self.base + path, json=body, headers=headers)
        return await self.client.request(method, self.base + path, content=body, headers=headers)

    async def create(self, **attributes: Any) -> str:
        response = await self.send("POST", "/workitems", [a_workitem(**attributes)])
        assert response.status_code == 201, response.text
        return response.headers["location"].rpartition("/")[2]

    async def state(self, uid: str) -> str:
        found = (await self.send("GET", f"/workitems/{uid}")).json()[0]
        state: str = found["00741000"]["Value"][0]
        return state

    async def move(self, uid: str, state: str, transaction: str = TRANSACTION) -> httpx2.Response:
        return await self.send("PUT", f"/workitems/{uid}/state", into(state, transaction))

    async def update(
        self, uid: str, attributes: dict[str, Any], transaction: str = TRANSACTION
    ) -> httpx2.Response:
        query = f"?transaction={transaction}" if transaction else ""
        return await self.send("POST", f"/workitems/{uid}{query}", [attributes])

    async def found(self, query: str = "") -> list[str]:
        response = await self.send("GET", f"/workitems{query}")
        assert response.status_code == 200, response.text
        return [one["00080018"]["Value"][0] for one in response.json()]
