"""A scheduled procedure step in plain words, for who writes no DICOM."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from isocenter.features.worklist import item_rules as item
from isocenter.features.worklist.datasets import DataSet, items, put, text

_BIRTH_DATE, _SEX = 0x00100030, 0x00100040
_REFERRING_PHYSICIAN, _REQUESTING_PHYSICIAN = 0x00080090, 0x00321032


@dataclass(frozen=True, slots=True)
class Order:
    """``patient_name`` as DICOM writes it (``DOE^JANE``); ``start`` in the hospital's own time;
    ``birth_date`` YYYYMMDD. Identifiers that are left empty are made up."""

    patient_id: str
    patient_name: str
    station_ae_title: str
    modality: str
    start: datetime
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""
    study_instance_uid: str = ""
    requested_procedure_id: str = ""
    step_id: str = ""
    description: str = ""
    referring_physician: str = ""
    requesting_physician: str = ""
    performing_physician: str = ""


def data_set_of(order: Order) -> DataSet:
    """As an item of the modality worklist."""
    step: DataSet = {}
    _put(step, item.STATION_AE_TITLE, order.station_ae_title)
    _put(step, item.START_DATE, order.start.strftime("%Y%m%d"))
    _put(step, item.START_TIME, order.start.strftime("%H%M%S"))
    _put(step, item.MODALITY, order.modality)
    _put(step, item.PERFORMING_PHYSICIAN, order.performing_physician)
    _put(step, item.STEP_DESCRIPTION, order.description)
    if order.step_id:
        put(step, item.STEP_ID, order.step_id)
    found: DataSet = {}
    _put(found, item.PATIENT_ID, order.patient_id)
    _put(found, item.PATIENT_NAME, order.patient_name)
    _put(found, _BIRTH_DATE, order.birth_date)
    _put(found, _SEX, order.sex)
    _put(found, item.ACCESSION_NUMBER, order.accession_number)
    _put(found, _REFERRING_PHYSICIAN, order.referring_physician)
    _put(found, _REQUESTING_PHYSICIAN, order.requesting_physician)
    _put(found, item.REQUESTED_PROCEDURE_DESCRIPTION, order.description)
    for tag, value in (
        (item.STUDY_INSTANCE_UID, order.study_instance_uid),
        (item.REQUESTED_PROCEDURE_ID, order.requested_procedure_id),
    ):
        if value:
            put(found, tag, value)
    put(found, item.STEPS, step)
    return found


def order_of(document: DataSet) -> dict[str, str]:
    """The same words of an item, for lists; ``start`` as YYYYMMDDHHMMSS."""
    step = items(document, item.STEPS)[0]
    return {
        "patient_id": text(document, item.PATIENT_ID),
        "patient_name": text(document, item.PATIENT_NAME),
        "accession_number": text(document, item.ACCESSION_NUMBER),
        "requested_procedure_id": text(document, item.REQUESTED_PROCEDURE_ID),
        "station_ae_title": text(step, item.STATION_AE_TITLE),
        "modality": text(step, item.MODALITY),
        "start": text(step, item.START_DATE).strip() + text(step, item.START_TIME).strip()[:6],
        "description": text(step, item.STEP_DESCRIPTION),
    }


def _put(data_set: DataSet, tag: int, value: str) -> None:
    if value:
        put(data_set, tag, value)
    else:
        put(data_set, tag)
