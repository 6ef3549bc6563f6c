"""What came in, counted: for whoever watches how this process does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from isocenter.features.archive.entry import Outcome, OutcomeKind, Received

_NEW = frozenset({OutcomeKind.STORED, OutcomeKind.REPLACED, OutcomeKind.KEPT_BOTH})


@dataclass(slots=True)
class IngestMeasures:
    """``objects`` by door and what became of them; ``new_bytes`` of those that were filed; ``failures``:
    objects that could be neither filed nor quarantined, by the error's code."""

    objects: Counter[tuple[str, OutcomeKind]] = field(default_factory=Counter)
    new_bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def filed(self, received: Sequence[Received], outcomes: Sequence[Outcome]) -> None:
        for one, outcome in zip(received, outcomes, strict=True):
            self.objects[one.source.door, outcome.kind] += 1
            if outcome.kind in _NEW:
                self.new_bytes += one.stored.size

    def failed(self, code: str, objects: int = 1) -> None:
        self.failures[code] += objects
