"""What is known of studies that were retrieved of late: whose they are, and objects that are not kept.

Whoever asks for one of these next need not have it found, or given, again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, NamedTuple

from isocenter.features.spanner.persons import Person, same_in_one_study
from isocenter.features.spanner.retrieval.keeping import H, key_of
from isocenter.features.spanner.retrieval.wanted import Key, Wanted
from isocenter.kit.clock import Clock

OBJECTS_MAX = 200_000
"""Of all studies together, a kilobyte each: of the object itself only its place is remembered."""

STUDIES_MAX = 10_000


class StudyKey(NamedTuple):
    organization_id: int
    config_id: int
    study_uid: str


@dataclass(slots=True)
class _Study(Generic[H]):
    patient: Person
    archive_agrees: bool
    since_s: float
    objects: dict[Key, H] = field(default_factory=dict)


class AtHand(Generic[H]):
    """``kept_s``: how long after anything was last heard of a study it is remembered."""

    def __init__(self, clock: Clock, kept_s: float) -> None:
        self._clock = clock
        self._kept_s = kept_s
        self._studies: OrderedDict[StudyKey, _Study[H]] = OrderedDict()
        self._count = 0

    def checked(self, study: StudyKey, patient: Person, *, archive_agrees: bool) -> None:
        """Those sources that answered mean that patient by it; ``archive_agrees``: so does the archive's
        copy, if there is one. What came of it as another patient's is forgotten."""
        known = self._studies.setdefault(study, _Study(patient, archive_agrees, 0.0))
        if not same_in_one_study(known.patient, patient):
            self._count -= len(known.objects)
            known.objects.clear()
        known.patient, known.archive_agrees = patient, archive_agrees
        self._heard_of(study, known)
        while len(self._studies) > STUDIES_MAX or self._is_stale(next(iter(self._studies.values()))):
            self._forget_oldest()

    def hold(self, study: StudyKey, one: H) -> None:
        """An object of a study that was `checked`."""
        known = self._studies.get(study)
        if known is None:
            return
        key = key_of(one)
        self._count += key not in known.objects
        known.objects[key] = one
        self._heard_of(study, known)
        while self._count > OBJECTS_MAX and len(self._studies) > 1:
            self._forget_oldest()

    def archive_agrees(self, study: StudyKey) -> bool:
        """Whether the archive's copy may be given for the sources'; False also where that is not known."""
        known = self._known(study)
        return known is not None and known.archive_agrees

    def of(self, study: StudyKey, wanted: Wanted) -> list[H]:
        known = self._known(study)
        if known is None:
            return []
        if len(wanted.series_uids) == len(wanted.instance_uids) == 1:
            one = known.objects.get((wanted.series_uids[0], wanted.instance_uids[0]))
            return [] if one is None else [one]
        return [one for (series_uid, uid), one in known.objects.items() if wanted.includes(series_uid, uid)]

    def _known(self, study: StudyKey) -> _Study[H] | None:
        known = self._studies.get(study)
        return None if known is None or self._is_stale(known) else known

    def _heard_of(self, study: StudyKey, known: _Study[H]) -> None:
        known.since_s = self._clock.monotonic_s()
        self._studies.move_to_end(study)

    def _forget_oldest(self) -> None:
        _, dropped = self._studies.popitem(last=False)
        self._count -= len(dropped.objects)

    def _is_stale(self, study: _Study[H]) -> bool:
        return self._clock.monotonic_s() - study.since_s >= self._kept_s
