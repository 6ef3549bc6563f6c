"""Finding stored objects by their UIDs and giving back their bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields

from isocenter.kit.errors import InternalError, NotFound
from isocenter.platform.db import Database, Row, Sql, Work
from isocenter.platform.storage.encrypted import KeyDestroyed
from isocenter.platform.storage.interface import ObjectStore


def patient_instead(study: str) -> str:
    """SQL for the patient that a study's objects must leave with: kind, time, lines (``reconciling.py``);
    empty where whom they name is right. ``study``: the table's name in the query."""
    told, kept = f"{study}.told_patient_pk", f"{study}.patient_pk"
    return f"""
    CASE WHEN {kept} = {told}
          AND NOT EXISTS (SELECT 1 FROM patient AS own WHERE own.id = {kept} AND own.corrected = 1)
    THEN '' ELSE coalesce((
        SELECT CASE WHEN {kept} = {told} THEN 'corrected ' ELSE 'merged ' END
            || CAST(coalesce(named.merged_at_us, own.updated_at_us) AS text) || '\n' || own.fragments
        FROM patient AS own JOIN patient AS named ON named.id = {told} WHERE own.id = {kept}), '') END
"""  # noqa: S608 - names of tables only


INSTANCE_COLUMNS = f"""
    study.study_instance_uid, series.series_instance_uid, instance.sop_instance_uid,
    instance.sop_class_uid, instance.transfer_syntax_uid, instance.object_key, instance.size,
    instance.header_size, instance.sha256, instance.number_of_frames, instance.pixel_offset,
    instance.pixel_length, instance.frame_offsets, {patient_instead("study")} AS patient
"""
"""What `instance_of_row` is made of."""

_INSTANCES = f"""
    SELECT {INSTANCE_COLUMNS}
    FROM study
    JOIN series ON series.organization_id = study.organization_id AND series.study_pk = study.id
    JOIN instance ON instance.series_pk = series.id AND instance.current = 1
    WHERE study.organization_id = :organization_id AND study.study_instance_uid = :study
"""  # noqa: S608 - constants only
_IN_ORDER = """
    ORDER BY series.series_number IS NULL, series.series_number, series.id,
             instance.instance_number IS NULL, instance.instance_number, instance.id
"""
_OF_SERIES = " AND series.series_instance_uid = :series"
_OF_INSTANCE = " AND instance.organization_id = :organization_id AND instance.sop_instance_uid = :instance"

FIND_IN_STUDY = Sql(_INSTANCES + _IN_ORDER)
FIND_IN_SERIES = Sql(_INSTANCES + _OF_SERIES + _IN_ORDER)
FIND_ONE = Sql(_INSTANCES + _OF_SERIES + _OF_INSTANCE)


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One object: ``header_size`` bytes of preamble and file meta, then the data set.

    ``pixel_offset`` counts from the object's start to the value of Pixel Data; for compressed pixels
    ``frame_offsets`` (numbers separated by blanks, from ``pixel_offset``) name each frame's first item.
    ``patient``: whom it must leave with instead of whom it names (``presented.py``); empty: it is right.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    object_key: str
    size: int
    header_size: int
    sha256: str
    number_of_frames: int
    pixel_offset: int | None
    pixel_length: int | None
    frame_offsets: str
    patient: str = ""


async def find_stored(
    database: Database, organization_id: int, study: str, series: str = "", instance: str = ""
) -> list[StoredInstance]:
    """The objects of a study, of one of its series, or one object, in the order of their numbers, as they
    are stored: `presented.find_instances` tells how they leave.

    Raises NotFound when there is none.
    """
    found = await database.read(_find, organization_id, study, series, instance)
    if not found:
        what = "instance" if instance else "series" if series else "study"
        raise NotFound(f"There is no such {what} here.", code=f"no-such-{what}")
    return found


def _find(organization_id: int, study: str, series: str, instance: str) -> Work[list[StoredInstance]]:
    scope = {"organization_id": organization_id, "study": study}
    if instance:
        rows = yield FIND_ONE(**scope, series=series, instance=instance)
    elif series:
        rows = yield FIND_IN_SERIES(**scope, series=series)
    else:
        rows = yield FIND_IN_STUDY(**scope)
    return [instance_of_row(row) for row in rows]


_COLUMN_COUNT = len(fields(StoredInstance))


def instance_of_row(row: Row) -> StoredInstance:
    """Of `INSTANCE_COLUMNS`."""
    return StoredInstance(*row[:_COLUMN_COUNT])


async def stream_bytes(
    store: ObjectStore, instance: StoredInstance, start: int = 0, length: int | None = None
) -> AsyncIterator[bytes]:
    """The object, or a range of it, piece by piece.

    With the first piece it raises InternalError when the store has lost it, Unavailable when out of reach.
    """
    try:
        async for piece in store.stream(instance.object_key, start, length):
            yield piece
    except KeyDestroyed:
        raise  # not lost: somebody meant it
    except NotFound:
        raise lost(instance) from None


async def read_bytes(store: ObjectStore, instance: StoredInstance, start: int, length: int) -> bytes:
    """``length`` bytes of the object; raises as `stream_bytes` does, also when the object ends before."""
    try:
        data = await store.read_range(instance.object_key, start, length)
    except KeyDestroyed:
        raise  # not lost: somebody meant it
    except NotFound:
        raise lost(instance) from None
    if len(data) != length:
        raise lost(instance)
    return data


def lost(instance: StoredInstance) -> InternalError:
    """The index knows an object that the store does not have (whole)."""
    return InternalError(
        f"The object of SOP instance {instance.sop_instance_uid} is missing from the store or incomplete.",
        code="object-lost",
        remedy="Tell the operator: 'isocenter storage check' lists what is missing.",
    )
