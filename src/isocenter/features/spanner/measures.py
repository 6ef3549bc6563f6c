"""What came of questions, counted: for whoever watches how this process does. Numbers of sources and
organisations only; never what was asked or answered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from isocenter.features.spanner.asking import QueryOutcome
from isocenter.features.spanner.failures import Ended
from isocenter.features.spanner.fan_out import Outcome
from isocenter.platform.telemetry.measures import Distribution

SourceKey = tuple[int, int]
"""Organisation and source."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """``is_up``: it is asked like any other; ``waiting``: questions in line for it."""

    is_up: bool
    waiting: int


@dataclass(frozen=True, slots=True)
class Measures:
    """``queries`` as whoever asked sees them, those answered from the cache too, and how long they waited;
    ``questions`` to sources and how long their answers took; ``objects`` that they gave for retrievals."""

    queries: Counter[QueryOutcome] = field(default_factory=Counter)
    query_s: Distribution = field(default_factory=Distribution)
    questions: Counter[tuple[SourceKey, Ended]] = field(default_factory=Counter)
    source_s: dict[SourceKey, Distribution] = field(default_factory=dict)
    objects: Counter[SourceKey] = field(default_factory=Counter)

    def query_ended(self, outcome: QueryOutcome, took_s: float) -> None:
        self.queries[outcome] += 1
        if outcome is not QueryOutcome.CANCELLED:  # how long somebody had patience is no response time
            self.query_s.add(took_s)

    def source_ended(self, organization_id: int, outcome: Outcome) -> None:
        if outcome.excused:
            return
        key = organization_id, outcome.source.id
        self.questions[key, outcome.ended] += 1
        if outcome.attempts and outcome.ended is not Ended.CANCELLED:
            self.source_s.setdefault(key, Distribution()).add(outcome.took_s)
