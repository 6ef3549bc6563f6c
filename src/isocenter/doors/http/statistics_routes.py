"""``/api/v1/statistics``: what the subject's organisation keeps, counted."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date

from fastapi import APIRouter, Request
from pydantic import BaseModel

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.witness import Witness
from isocenter.features.archive.statistics import count_all
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject


class AmountModel(BaseModel):
    objects: int
    bytes: int


class OfModalityModel(BaseModel):
    """A study of two modalities counts under both."""

    modality: str
    studies: int
    series: int
    instances: int


class OfUidModel(BaseModel):
    """``name`` is the standard's; the UID again where that has none."""

    uid: str
    name: str
    instances: int
    bytes: int


class OfDayModel(AmountModel):
    """A day in UTC; of what is still kept, earlier versions included."""

    day: date


class StatisticsModel(BaseModel):
    """``instances`` and ``bytes`` are of current instances; ``kept`` is also earlier versions, quarantine,
    and what was ``deleted`` and can be restored.

    Study dates are written as in DICOM (YYYYMMDD); empty where no study tells one.
    """

    patients: int
    studies: int
    series: int
    instances: int
    bytes: int
    earlier_versions: AmountModel
    quarantine: AmountModel
    deleted: AmountModel
    kept: AmountModel
    oldest_study_date: str
    newest_study_date: str
    modalities: list[OfModalityModel]
    sop_classes: list[OfUidModel]
    transfer_syntaxes: list[OfUidModel]
    received: list[OfDayModel]


def statistics_router(
    database: Database, clock: Clock, gate: Gate, recorder: Recorder | None = None
) -> APIRouter:
    router = APIRouter(prefix="/api/v1/statistics", tags=["statistics"])
    reads = gate.needs(Permission.STATISTICS_READ)
    witness = Witness(recorder or NoRecorder(), "statistics")

    @router.get("")
    async def show(request: Request, subject: Subject = reads) -> StatisticsModel:
        async with witness.of(request, Action.READ):
            found = await count_all(database, clock, subject.organization_id)
        return StatisticsModel.model_validate(asdict(found))

    return router
