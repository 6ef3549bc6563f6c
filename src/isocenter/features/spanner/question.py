"""What is asked of many archives at once, in the terms of QIDO-RS (PS3.18 §10.6) and C-FIND (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from isocenter.dicom.levels import Level
from isocenter.dicom.tags import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)

UNIQUE_KEYS: Mapping[Level, tuple[int, ...]] = {
    Level.PATIENT: (ISSUER_OF_PATIENT_ID, PATIENT_ID),
    Level.STUDY: (STUDY_INSTANCE_UID,),
    Level.SERIES: (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID),
    Level.INSTANCE: (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID),
}
"""What tells entities of a level apart: a UID alone does not, where two studies claim the same series."""


@dataclass(frozen=True)
class Question:
    """``matches`` maps tags to the text of their matching keys (PS3.4 C.2.2.2); ``returned`` are the tags
    wanted in the answers. ``limit`` and ``offset`` count merged answers, not those of a source."""

    level: Level
    matches: Mapping[int, str]
    returned: frozenset[int]
    limit: int = 1000
    offset: int = 0

    @cached_property
    def wanted(self) -> frozenset[int]:
        """What each source is asked to return: also what answers are told apart by and checked with."""
        return self.returned | {*UNIQUE_KEYS[self.level], *self.matches, *_TELLS_PATIENTS_APART[self.level]}

    @property
    def rows_max(self) -> int:
        """How many rows of one source can matter."""
        return self.offset + self.limit

    @property
    def is_narrowed(self) -> bool:
        """Whether any key asks for less than everything."""
        return any(text.strip(" *\\") for text in self.matches.values())


_PATIENT_TAGS = frozenset({0x00100010, PATIENT_ID, ISSUER_OF_PATIENT_ID, 0x00100030, 0x00100040})
_TELLS_PATIENTS_APART: Mapping[Level, frozenset[int]] = {
    Level.PATIENT: _PATIENT_TAGS,
    Level.STUDY: _PATIENT_TAGS,
    Level.SERIES: frozenset(),
    Level.INSTANCE: frozenset(),
}
"""Series and instances are asked for within a study; whose it is was said by the answer about the study."""
