"""Finding or making the patient, study and series rows that an object belongs under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from isocenter.dicom.levels import Level
from isocenter.dicom.validation import Problem
from isocenter.features.archive import queries
from isocenter.features.archive.entry import Entry
from isocenter.features.archive.indexed_values import ValueRows
from isocenter.features.archive.merge import merge
from isocenter.features.archive.patients.finding import (
    KnownPatient,
    fill_patient,
    find_or_create_patient,
    is_upgrade,
    known_patient,
    lock_patient,
    row_to_fill,
    still_there,
)
from isocenter.platform.db import Work

_STUDY_COLUMNS = (
    "study_date",
    "study_time",
    "accession_number",
    "study_id",
    "description_key",
    "referring_physician_key",
    "timezone",
)
_SERIES_COLUMNS = (
    "modality",
    "series_number",
    "series_date",
    "series_time",
    "description_key",
    "body_part_examined",
    "station_name",
    "performing_physician_key",
    "pps_start_date",
    "pps_start_time",
)


@dataclass(slots=True)
class Place:
    """The series row an object is filed under. ``is_new_series`` until the study has counted it."""

    study_pk: int
    series_pk: int
    merged_digest: str
    sop_classes: set[str] = field(default_factory=set)
    is_new_series: bool = False


@dataclass(slots=True)
class _KnownStudy:
    pk: int
    patient: KnownPatient


class Places:
    """The rows that one transaction has found or made so far."""

    def __init__(self, organization_id: int, now_us: int) -> None:
        self._value_rows = ValueRows(organization_id)
        self._told_classes: dict[int, Place] = {}
        self._organization_id = organization_id
        self._now_us = now_us
        self._studies: dict[str, _KnownStudy] = {}
        self._places: dict[tuple[str, str], Place] = {}

    def look_up(self, entries: Sequence[Entry]) -> Work[None]:
        """Find in one statement whatever is already there."""
        rows = yield queries.FIND_PLACES(
            organization_id=self._organization_id,
            study_uids=sorted({entry.study_instance_uid for entry in entries}),
            series_uids=sorted({entry.series_instance_uid for entry in entries}),
        )
        for row in rows:
            study_uid = row["study_instance_uid"]
            self._studies[study_uid] = _KnownStudy(row["study_pk"], known_patient(row))
            if row["series_pk"] is not None:
                self._places[study_uid, row["series_instance_uid"]] = Place(
                    row["study_pk"], row["series_pk"], row["merged_digest"], set(row["sop_classes"].split())
                )

    def settle(self, entry: Entry) -> Work[Place | Problem]:
        """Where the object goes; a Problem when it may not go where it wants to."""
        key = (entry.study_instance_uid, entry.series_instance_uid)
        place = self._places.get(key)
        if place is not None and place.merged_digest == entry.levels.digest:
            return place  # these very attributes were merged before
        study_pk = yield from self._settle_study(entry)
        if isinstance(study_pk, Problem):
            return study_pk
        place = yield from self._settle_series(entry, study_pk, place)
        self._places[key] = place
        return place

    def note(self, entry: Entry, place: Place) -> None:
        """What the object at that place adds to what is searched by."""
        self._value_rows.add(Level.INSTANCE, entry.sop_instance_uid, entry.instance.values)
        if entry.sop_class_uid not in place.sop_classes:
            place.sop_classes.add(entry.sop_class_uid)
            self._told_classes[place.series_pk] = place

    def flush(self) -> Work[None]:
        """Write what was noted, set-wise, after the objects themselves."""
        yield from self._value_rows.flush()
        if self._told_classes:
            yield queries.SET_SERIES_SOP_CLASSES.many(
                [
                    {
                        "organization_id": self._organization_id,
                        "id": series_pk,
                        "sop_classes": " ".join(sorted(place.sop_classes)),
                    }
                    for series_pk, place in sorted(self._told_classes.items())
                ]
            )
            self._told_classes = {}

    def _settle_study(self, entry: Entry) -> Work[int | Problem]:
        known = self._studies.get(entry.study_instance_uid)
        if known is None:
            created = yield from self._create_study(entry)
            if isinstance(created, int):
                return created
            known = created  # somebody else made it meanwhile
        row, known.patient = yield from lock_patient(self._organization_id, known.patient)
        to_fill = yield from row_to_fill(self._organization_id, known.patient, row, entry)
        if isinstance(to_fill, Problem):
            return to_fill
        if is_upgrade(entry, known.patient):
            yield from self._move_to_real_patient(entry, known)
        else:
            yield from fill_patient(self._organization_id, to_fill, entry, self._now_us, self._value_rows)
        yield from self._fill_study(entry)
        return known.pk

    def _create_study(self, entry: Entry) -> Work[int | _KnownStudy]:
        """The new study's row, or the one that a concurrent writer was faster to make."""
        patient = yield from find_or_create_patient(
            self._organization_id, entry, self._now_us, self._value_rows
        )
        level = entry.levels.study
        inserted = yield queries.INSERT_STUDY(
            organization_id=self._organization_id,
            patient_pk=patient.pk,
            told_patient_pk=patient.told_pk,
            study_instance_uid=entry.study_instance_uid,
            **{name: level.columns[name] for name in _STUDY_COLUMNS},
            fragments=level.text,
            now_us=self._now_us,
        )
        for row in inserted:
            self._value_rows.add(Level.STUDY, row["id"], level.values)
        rows = yield queries.LOCK_STUDY(
            organization_id=self._organization_id, study_instance_uid=entry.study_instance_uid
        )
        study_pk: int = still_there(rows)["id"]
        owners = yield queries.FIND_STUDY_PATIENT(organization_id=self._organization_id, id=study_pk)
        known = _KnownStudy(study_pk, known_patient(still_there(owners)))
        self._studies[entry.study_instance_uid] = known
        if known.patient.pk == patient.pk:
            return study_pk
        yield queries.REMOVE_PATIENT_WITHOUT_STUDY(organization_id=self._organization_id, id=patient.pk)
        return known

    def _move_to_real_patient(self, entry: Entry, known: _KnownStudy) -> Work[None]:
        patient = yield from find_or_create_patient(
            self._organization_id, entry, self._now_us, self._value_rows
        )
        yield queries.MOVE_STUDY(
            organization_id=self._organization_id,
            id=known.pk,
            patient_pk=patient.pk,
            told_patient_pk=patient.told_pk,
            now_us=self._now_us,
        )
        yield queries.REMOVE_PATIENT_WITHOUT_STUDY(organization_id=self._organization_id, id=known.patient.pk)
        owners = yield queries.FIND_STUDY_PATIENT(organization_id=self._organization_id, id=known.pk)
        known.patient = known_patient(still_there(owners))

    def _fill_study(self, entry: Entry) -> Work[None]:
        rows = yield queries.LOCK_STUDY(
            organization_id=self._organization_id, study_instance_uid=entry.study_instance_uid
        )
        row = still_there(rows)
        merged = merge({name: row[name] for name in _STUDY_COLUMNS}, row["fragments"], entry.levels.study)
        self._value_rows.add(Level.STUDY, row["id"], merged.values)
        if merged.changed:
            yield queries.FILL_STUDY(
                organization_id=self._organization_id,
                id=row["id"],
                **merged.columns,
                fragments=merged.fragments,
                now_us=self._now_us,
            )

    def _settle_series(self, entry: Entry, study_pk: int, place: Place | None) -> Work[Place]:
        level = entry.levels.series
        is_new = False
        identity = {
            "organization_id": self._organization_id,
            "study_pk": study_pk,
            "series_instance_uid": entry.series_instance_uid,
        }
        if place is None:
            inserted = yield queries.INSERT_SERIES(
                **identity,
                **{name: level.columns[name] for name in _SERIES_COLUMNS},
                fragments=level.text,
                now_us=self._now_us,
            )
            is_new = bool(inserted)
        rows = yield queries.LOCK_SERIES(**identity)
        row = still_there(rows)
        merged = merge({name: row[name] for name in _SERIES_COLUMNS}, row["fragments"], level)
        self._value_rows.add(Level.SERIES, row["id"], level.values if is_new else merged.values)
        yield queries.FILL_SERIES(
            organization_id=self._organization_id,
            id=row["id"],
            **merged.columns,
            fragments=merged.fragments,
            merged_digest=entry.levels.digest,
            now_us=self._now_us,
        )
        return Place(
            study_pk,
            row["id"],
            entry.levels.digest,
            place.sop_classes if place is not None else set(),
            is_new_series=is_new or (place is not None and place.is_new_series),
        )
