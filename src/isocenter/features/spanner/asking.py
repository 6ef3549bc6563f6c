"""A question under way: whoever asked it, whoever asked the same, and whoever watches share one fan-out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from isocenter.features.spanner.entries import Configuration, FailureStrategy, Source
from isocenter.features.spanner.failures import Ended
from isocenter.features.spanner.fan_out import FanOut, Outcome
from isocenter.features.spanner.merge import Answer, Gathered, Standing
from isocenter.features.spanner.plan import Plan
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.rows import Row
from isocenter.features.spanner.shared import Shared
from isocenter.kit.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Came:
    """Rows of one source."""

    source: Source
    rows: Sequence[Row]


Event = Came | Outcome


class QueryOutcome(StrEnum):
    """What whoever asked got."""

    COMPLETE = "complete"
    PARTIAL = "partial"  # without what some sources may have
    FAILED = "failed"
    CANCELLED = "cancelled"  # whoever asked no longer wants to know


class SpanningFailed(Unavailable):
    """What was asked for cannot be said without the sources that failed."""

    default_code = "spanning-failed"

    def __init__(self, detail: str, outcomes: Sequence[Outcome]) -> None:
        said = "; ".join(
            f"{one.source.name}: {one.ended} ({one.detail})" for one in outcomes if one.is_missing
        )
        super().__init__(
            f"{detail} {said}.",
            remedy="GET /api/v1/sources/{id}/health tells what is wrong with a source.",
        )
        self.outcomes = tuple(outcomes)


@dataclass(frozen=True, slots=True)
class Result:
    """``answers`` from the offset on; ``more``: there are others after them. ``at_us``: when it was asked, µs
    since 1970 UTC."""

    answers: Sequence[Answer]
    outcomes: Sequence[Outcome]
    more: bool
    at_us: int
    took_s: float

    @property
    def missing(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.is_missing]

    @property
    def is_complete(self) -> bool:
        return not any(one.is_missing or one.more for one in self.outcomes)


class Asking(Shared):
    def __init__(self, configuration: Configuration, question: Question, plan: Plan, at_us: int) -> None:
        super().__init__()
        self.configuration = configuration
        self.question = question
        self.plan = plan
        self.at_us = at_us
        self.events: list[Event] = []
        self._gathered = Gathered(question.level)
        self._outcomes: list[Outcome] = []
        self._took_s = 0.0
        self._settled: Result | None = None

    async def run(self, fan_out: FanOut) -> None:
        """To be started."""
        begun_s = asyncio.get_running_loop().time()
        try:
            self._outcomes = await fan_out.run(self.plan)
        finally:
            self._took_s = asyncio.get_running_loop().time() - begun_s

    # ---- while it runs

    def take(self, source: Source, rows: Sequence[Row]) -> int:
        """How many of them were of no use."""
        nameless = self._gathered.add(source.id, rows)
        self.events.append(Came(source, rows))
        self._tell()
        return nameless

    def ended(self, outcome: Outcome) -> None:
        self.events.append(outcome)
        self._tell()

    async def watch(self) -> AsyncIterator[Event]:
        """What has come, then what comes, until it is over. Hold an `interest` meanwhile."""
        seen = 0
        while True:
            news = self._news
            while seen < len(self.events):
                yield self.events[seen]
                seen += 1
            if self.is_over:
                return
            await news.wait()

    # ---- what came of it

    async def settled(self) -> Result:
        """Once all sources have answered, failed, or are no longer waited for. Raises SpanningFailed as the
        configuration has it, and where none has answered: that is not an empty answer."""
        await self._wait()
        self._check_ended()
        self.check()
        return self.so_far()

    @property
    def outcome(self) -> QueryOutcome:
        """As it stands; for whoever leaves before it is over, cancelled."""
        if self.is_cancelled or self._task is None or not self._task.done() or self._task.cancelled():
            return QueryOutcome.CANCELLED
        try:
            self._task.result()
            self.check()
        except Exception:
            return QueryOutcome.FAILED
        missing = any(one.is_missing for one in self._outcomes)
        return QueryOutcome.PARTIAL if missing else QueryOutcome.COMPLETE

    @property
    def waiting_for(self) -> list[Source]:
        """Sources that owe an answer, in the order they are asked."""
        if self.is_over:
            return []
        ended = {one.source.id for one in self.events if isinstance(one, Outcome)}
        return [step.source for step in self.plan.steps if step.source.id not in ended]

    def so_far(self) -> Result:
        """Of the sources that have ended, and the rows of those that have not."""
        if self._settled is None:
            found = self._merged()
            if not self.is_over:
                return found
            self._settled = found
        return self._settled

    def joined(self) -> list[Answer]:
        """All answers, rows of one entity as one whatever the configuration says."""
        return self._answers(joined=True)

    def _answers(self, *, joined: bool) -> list[Answer]:
        standings = [
            Standing(source.id, rank, source.issuer) for rank, source in enumerate(self.plan.trusted)
        ]
        return self._gathered.answers(standings, joined=joined)

    def _merged(self) -> Result:
        question = self.question
        answers = self._answers(joined=self.configuration.deduplication_enabled)
        wanted = answers[question.offset : question.rows_max]
        outcomes = self._outcomes or [one for one in self.events if isinstance(one, Outcome)]
        return Result(wanted, outcomes, len(answers) > question.rows_max, self.at_us, self._took_s)

    def check(self) -> None:
        """Raises SpanningFailed."""
        missing = [one for one in self._outcomes if one.is_missing]
        if not missing:
            return
        if not any(one.ended is Ended.ANSWERED for one in self._outcomes):
            raise SpanningFailed("None of the sources answered:", self._outcomes)
        if self.plan.strategy is FailureStrategy.PARTIAL_RESULTS:
            return
        raise SpanningFailed(
            f"{self.configuration.name} requires all of its sources, and not all answered:", self._outcomes
        )
