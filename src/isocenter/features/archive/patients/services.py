"""What persons do with patients, together, for those who compose the program."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.archive.patients.conflicts import PatientConflicts
from isocenter.features.archive.patients.merges import PatientMerges
from isocenter.features.archive.patients.records import PatientRecords
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database


@dataclass(frozen=True, slots=True)
class Patients:
    records: PatientRecords
    merges: PatientMerges
    conflicts: PatientConflicts


def patients_of(database: Database, clock: Clock) -> Patients:
    return Patients(
        PatientRecords(database, clock), PatientMerges(database, clock), PatientConflicts(database, clock)
    )
