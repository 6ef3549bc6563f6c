"""What is to be retrieved from whichever archive has it, and who has what of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isocenter.dicom.levels import Level
from isocenter.dicom.tags import SERIES_INSTANCE_UID, SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID
from isocenter.features.spanner.merge import Answer
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.rows import first_value

OBJECTS_MAX = 100_000
"""Of one study. What is known of each is in memory while it is retrieved."""

Key = tuple[str, str]
"""Series and SOP Instance UID: the latter alone does not tell instances apart where series claim the same."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A study; of it the named series, if any; of these the named instances, if any."""

    study_uid: str
    series_uids: tuple[str, ...] = ()
    instance_uids: tuple[str, ...] = ()

    def question(self) -> Question:
        """Who has which of its instances. C-FIND takes one series at a time (PS3.4 C.4.1.3.1.1): where
        several are wanted, all of the study are asked for."""
        matches = {STUDY_INSTANCE_UID: self.study_uid}
        if len(self.series_uids) == 1:
            matches[SERIES_INSTANCE_UID] = self.series_uids[0]
            if len(self.instance_uids) == 1:
                matches[SOP_INSTANCE_UID] = self.instance_uids[0]
        return Question(Level.INSTANCE, matches, frozenset({SOP_CLASS_UID}), limit=OBJECTS_MAX)

    def study_question(self) -> Question:
        """Whose study it is."""
        return Question(Level.STUDY, {STUDY_INSTANCE_UID: self.study_uid}, frozenset())

    def includes(self, series_uid: str, sop_instance_uid: str) -> bool:
        return (not self.series_uids or series_uid in self.series_uids) and (
            not self.instance_uids or sop_instance_uid in self.instance_uids
        )


@dataclass(frozen=True, slots=True)
class Holding:
    """An instance, and the sources that have it."""

    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    source_ids: tuple[int, ...]

    @property
    def key(self) -> Key:
        return self.series_uid, self.sop_instance_uid


def holdings_of(wanted: Wanted, answers: Iterable[Answer], of_patient: frozenset[int]) -> list[Holding]:
    """Of answers to ``wanted.question()``, in their order. ``of_patient``: the sources that have said whose
    study it is; what only others have is nobody's."""
    found = []
    for answer in answers:
        _, series_uid, uid = answer.identity
        sources = tuple(source_id for source_id in answer.found_in if source_id in of_patient)
        if sources and wanted.includes(series_uid, uid):
            found.append(Holding(series_uid, uid, first_value(answer.row, SOP_CLASS_UID), sources))
    return found
