"""Which objects a retrieval means: by the unique keys of any levels, as C-MOVE and C-GET name them (PS3.4
C.4.2.1.4), in the order in which a person would look at them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from isocenter.features.archive.retrieve import (
    StoredInstance,
    instance_of_row,
    lost,
    patient_instead,
    stream_bytes,
)
from isocenter.kit.errors import TooLarge
from isocenter.platform.db import Database, Work, composed
from isocenter.platform.storage.interface import ObjectStore

_SELECT = f"""
    SELECT s.study_instance_uid, e.series_instance_uid, i.sop_instance_uid, i.sop_class_uid,
           i.transfer_syntax_uid, i.object_key, i.size, i.header_size, i.sha256, i.number_of_frames,
           i.pixel_offset, i.pixel_length, '' AS frame_offsets, {patient_instead("s")} AS patient
"""
_CONDITIONS = {  # a patient's own ID and issuer, or those of one who was merged into it
    "patient_id": "p.id IN (SELECT coalesce(o.survivor_pk, o.id) FROM patient o"
    " WHERE o.organization_id = :organization_id AND o.patient_id = :patient_id)",
    "issuer": "EXISTS (SELECT 1 FROM patient o WHERE o.organization_id = :organization_id"
    " AND o.issuer = :issuer AND (:patient_id = '' OR o.patient_id = :patient_id)"
    " AND (o.id = p.id OR o.survivor_pk = p.id))",
    "studies": "s.study_instance_uid IN :studies",
    "series": "e.series_instance_uid IN :series",
    "instances": "i.sop_instance_uid IN :instances",
}
# The level that narrows most leads: SQLite keeps the order of a CROSS JOIN.
_JOINED_FROM = {
    "patient": "patient p CROSS JOIN study s CROSS JOIN series e CROSS JOIN instance i",
    "study": "study s CROSS JOIN patient p CROSS JOIN series e CROSS JOIN instance i",
    "series": "series e CROSS JOIN study s CROSS JOIN patient p CROSS JOIN instance i",
    "instance": "instance i CROSS JOIN series e CROSS JOIN study s CROSS JOIN patient p",
}
_JOINED_ON = """
    p.organization_id = :organization_id AND s.organization_id = :organization_id
    AND e.organization_id = :organization_id AND i.organization_id = :organization_id
    AND s.patient_pk = p.id AND e.study_pk = s.id AND i.series_pk = e.id AND i.current = 1
"""
_IN_ORDER = """
    ORDER BY s.study_date, s.id, e.series_number IS NULL, e.series_number, e.id,
             i.instance_number IS NULL, i.instance_number, i.id
    LIMIT :limit
"""

OBJECTS_MAX = 100_000
"""What is known of each is in memory while it is retrieved, about a kilobyte."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is empty does not narrow; ``issuer`` None: whoever gave the Patient ID. All of it together."""

    patient_id: str = ""
    issuer: str | None = None
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()


async def select_instances(
    database: Database, organization_id: int, selection: Selection
) -> list[StoredInstance]:
    """The objects, study by study, by the numbers of series and instances; none where nothing is meant.

    Their ``frame_offsets`` are left out: thousands of objects are held in memory at once. Raises TooLarge
    beyond ``OBJECTS_MAX``.
    """
    found = await database.read(_select, organization_id, selection)
    if len(found) > OBJECTS_MAX:
        raise TooLarge(
            f"More than {OBJECTS_MAX} objects at once", code="too-many-objects", remedy="Ask study by study."
        )
    return found


def data_set_of(store: ObjectStore, instance: StoredInstance) -> Callable[[], AsyncIterator[bytes]]:
    """The object's data set, without preamble and file meta information, read anew with each call.

    Reading raises InternalError where the store has lost it or some of it, Unavailable.
    """

    async def read() -> AsyncIterator[bytes]:
        length = missing = instance.size - instance.header_size
        async for piece in stream_bytes(store, instance, instance.header_size, length):
            missing -= len(piece)
            yield piece
        if missing:
            raise lost(instance)

    return read


def _select(organization_id: int, selection: Selection) -> Work[list[StoredInstance]]:
    given = {
        name: value
        for name in _CONDITIONS
        if (value := getattr(selection, name)) or (name == "issuer" and value is not None)
    }
    if not given.keys() - {"issuer"}:
        return []
    first = next(
        level
        for name, level in (
            ("instances", "instance"),
            ("series", "series"),
            ("studies", "study"),
            ("patient_id", "patient"),
        )
        if name in given
    )
    conditions = " AND ".join([_JOINED_ON, *(_CONDITIONS[name] for name in given)])
    sql = composed(f"{_SELECT} FROM {_JOINED_FROM[first]} WHERE {conditions} {_IN_ORDER}")
    params = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    if "issuer" in given:
        params["patient_id"] = selection.patient_id
    rows = yield sql(organization_id=organization_id, limit=OBJECTS_MAX + 1, **params)
    return [instance_of_row(row) for row in rows]
