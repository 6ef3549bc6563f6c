"""Objects that came of late and are not kept: whoever asks for them next need not have them given again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, NamedTuple

from isocenter.features.spanner.retrieval.keeping import H
from isocenter.features.spanner.retrieval.wanted import Key, Wanted
from isocenter.kit.clock import Clock

OBJECTS_MAX = 200_000
"""Of all studies together, a kilobyte each: of the object itself only its place is remembered."""


class StudyKey(NamedTuple):
    organization_id: int
    config_id: int
    study_uid: str


@dataclass(slots=True)
class _Study(Generic[H]):
    since_s: float
    objects: dict[Key, H] = field(default_factory=dict)


class AtHand(Generic[H]):
    """``kept_s``: how long after a study's last object came they are remembered."""

    def __init__(self, clock: Clock, kept_s: float) -> None:
        self._clock = clock
        self._kept_s = kept_s
        self._studies: OrderedDict[StudyKey, _Study[H]] = OrderedDict()
        self._count = 0

    def hold(self, study: StudyKey, one: H) -> None:
        known = self._studies.setdefault(study, _Study(0.0))
        known.since_s = self._clock.monotonic_s()
        self._studies.move_to_end(study)
        key = one.series_instance_uid, one.sop_instance_uid
        self._count += key not in known.objects
        known.objects[key] = one
        while len(self._studies) > 1 and (self._count > OBJECTS_MAX or self._is_stale(self._oldest())):
            _, dropped = self._studies.popitem(last=False)
            self._count -= len(dropped.objects)

    def of(self, study: StudyKey, wanted: Wanted) -> list[H]:
        known = self._studies.get(study)
        if known is None or self._is_stale(known):
            return []
        if len(wanted.series_uids) == len(wanted.instance_uids) == 1:
            one = known.objects.get((wanted.series_uids[0], wanted.instance_uids[0]))
            return [] if one is None else [one]
        return [one for (series_uid, uid), one in known.objects.items() if wanted.includes(series_uid, uid)]

    def _oldest(self) -> _Study[H]:
        return next(iter(self._studies.values()))

    def _is_stale(self, study: _Study[H]) -> bool:
        return self._clock.monotonic_s() - study.since_s >= self._kept_s
