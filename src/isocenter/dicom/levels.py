"""What DICOM tells apart (PS3.3 A.1.2): searches are made at a level, and attributes belong to one."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    PATIENT = "patient"
    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"
