"""Asking many archives one question: what stands behind the API, the viewer, the command, the AE title."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from isocenter.features.spanner.adapters import Adapt, Adapters, Reached
from isocenter.features.spanner.asking import Asking, QueryOutcome, Result
from isocenter.features.spanner.breaker import BreakerState
from isocenter.features.spanner.configurations import Configurations, SetUp
from isocenter.features.spanner.entries import Source
from isocenter.features.spanner.failures import SourceFailed
from isocenter.features.spanner.fan_out import FanOut, Outcome
from isocenter.features.spanner.flights import CacheResult, Flights
from isocenter.features.spanner.measures import Measures, SourceKey, SourceState
from isocenter.features.spanner.plan import plan
from isocenter.features.spanner.query_log import (
    Asker,
    LoggedQuery,
    QueryLog,
    keywords_of,
    source_outcomes,
)
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.turnstile import Mishap, Turnstile
from isocenter.kit.clock import Clock, now_us

_SET_UP_KEPT_S = 1.0
"""A change by another process is seen so much later."""

_SET_UPS_MAX = 1000
NOBODY = Asker("service", "")
"""Of this program's own accord."""

_STATE_TOLD_S = 3600.0
"""How long after it was last asked a source's state is told: it may have been taken out of use since."""


@dataclass(frozen=True, slots=True)
class Spanned:
    """``age_s``: how long ago the sources were asked; 0: now."""

    result: Result
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """``problem``: why it cannot be reached; empty: it can. ``median_s``: how long it took to answer of late.
    ``mishaps``: the latest first."""

    reached: Reached | None
    problem: str
    remedy: str
    breaker: BreakerState
    median_s: float | None
    mishaps: tuple[Mishap, ...]

    @property
    def is_reachable(self) -> bool:
        return self.reached is not None


@dataclass(slots=True)
class _Kept:
    version: int
    turnstile: Turnstile
    used_s: float


class Spanner:
    """One in a process: it knows how the sources do."""

    def __init__(
        self, configurations: Configurations, adapt: Adapt, clock: Clock, *, query_log: QueryLog | None = None
    ) -> None:
        self._query_log = query_log
        self._configurations = configurations
        self.adapters = Adapters(adapt)
        self._clock = clock
        self._turnstiles: dict[SourceKey, _Kept] = {}
        self._flights = Flights(clock)
        self._set_ups: dict[tuple[int, int], tuple[float, SetUp]] = {}
        self.measures = Measures()

    async def ask(
        self,
        organization_id: int,
        config_id: int,
        question: Question,
        *,
        asker: Asker = NOBODY,
        fresh: bool = False,
    ) -> Spanned:
        """The merged answer. ``fresh``: not one that was kept.

        Raises NotFound, InvalidInput, and SpanningFailed as the configuration has it.
        """
        begun_s = self._clock.monotonic_s()
        set_up = await self.set_up(organization_id, config_id)
        key = _key(organization_id, set_up, question)
        if not fresh:
            kept = self._flights.kept(key, age_max_s=set_up.configuration.cache_seconds)
            if kept is not None:
                self._query_ended(QueryOutcome.COMPLETE, begun_s)
                spanned = Spanned(kept.asking.so_far(), kept.age_s)
                self._note(organization_id, config_id, question, asker, spanned, QueryOutcome.COMPLETE)
                return spanned
        asking = self._begin(organization_id, set_up, question, key)
        try:
            with asking.interest():
                result = await asking.settled()
        finally:
            self._query_ended(asking.outcome, begun_s)
            self._note(organization_id, config_id, question, asker, Spanned(asking.so_far()), asking.outcome)
        self._flights.keep(key, asking)
        return Spanned(result)

    async def begin(
        self, organization_id: int, config_id: int, question: Question, *, asker: Asker = NOBODY
    ) -> Asking:
        """For who watches or comes back later: hold an interest in it. Raises NotFound, InvalidInput."""
        begun_s = self._clock.monotonic_s()
        set_up = await self.set_up(organization_id, config_id)
        asking = self._begin(organization_id, set_up, question, _key(organization_id, set_up, question))

        def over() -> None:
            self._query_ended(asking.outcome, begun_s)
            self._note(organization_id, config_id, question, asker, Spanned(asking.so_far()), asking.outcome)

        asking.when_over(over)
        return asking

    async def gather(self, organization_id: int, set_up: SetUp, question: Question) -> Asking:
        """Asked for a retrieval, now or of late, and settled. Raises as `ask` does."""
        key = _key(organization_id, set_up, question)
        kept = self._flights.kept(key, age_max_s=set_up.configuration.cache_seconds)
        if kept is not None:
            return kept.asking
        asking = self._begin(organization_id, set_up, question, key)
        with asking.interest():
            await asking.settled()
        self._flights.keep(key, asking)
        return asking

    def _query_ended(self, outcome: QueryOutcome, begun_s: float) -> None:
        self.measures.query_ended(outcome, self._clock.monotonic_s() - begun_s)

    def _note(  # noqa: PLR0917 - one line of the log
        self,
        organization_id: int,
        config_id: int,
        question: Question,
        asker: Asker,
        spanned: Spanned,
        outcome: QueryOutcome,
    ) -> None:
        if self._query_log is None:
            return
        result = spanned.result
        self._query_log.note(
            LoggedQuery(
                organization_id,
                config_id,
                now_us(self._clock),
                asker,
                question.level,
                keywords_of(question),
                len(result.answers),
                outcome,
                round(result.took_s * 1000),
                round(spanned.age_s * 1000),
                source_outcomes(result.outcomes),
            )
        )

    def _begin(self, organization_id: int, set_up: SetUp, question: Question, key: Hashable) -> Asking:
        """The one under way, or a new one. Raises InvalidInput before anybody is asked."""

        def begin() -> Asking:
            sources = [mapped.source for mapped in set_up.sources]
            turnstiles = {one.id: self.turnstile(organization_id, one) for one in sources}
            conditions = {source_id: one.condition() for source_id, one in turnstiles.items()}
            planned = plan(set_up.configuration, set_up.sources, question, conditions)
            asking = Asking(set_up.configuration, question, planned, now_us(self._clock))

            def ended(outcome: Outcome) -> None:
                self.measures.source_ended(organization_id, outcome)
                asking.ended(outcome)

            fan_out = FanOut(
                organization_id,
                question,
                self.adapters.of,
                turnstiles,
                take=asking.take,
                ending=ended,
            )
            asking.start(asking.run(fan_out))
            return asking

        return self._flights.join(key, begin)

    async def health(self, organization_id: int, source: Source) -> Health:
        """Calls it. A source that is reached is no longer left alone."""
        turnstile = self.turnstile(organization_id, source)
        reached, problem, remedy = None, "", ""
        try:
            reached = await self.adapters.of(organization_id, source).reach()
        except SourceFailed as failure:
            problem, remedy = failure.detail, failure.remedy
        else:
            turnstile.breaker.answered()
        record = turnstile.record
        mishaps = tuple(reversed(record.mishaps))
        return Health(reached, problem, remedy, turnstile.state(), record.median_s, mishaps)

    def turnstile(self, organization_id: int, source: Source) -> Turnstile:
        """How it does is forgotten when it is changed: it may be another one now."""
        key = organization_id, source.id
        now_s = self._clock.monotonic_s()
        known = self._turnstiles.get(key)
        if known is None or known.version != source.version:
            known = _Kept(source.version, Turnstile(source.limits, self._clock), now_s)
            self._turnstiles[key] = known
        known.used_s = now_s
        return known.turnstile

    @property
    def cache_results(self) -> Counter[CacheResult]:
        return self._flights.results

    @property
    def pending(self) -> int:
        """Questions that sources owe an answer to, those in line included."""
        return self._flights.pending

    def source_states(self) -> Iterator[tuple[SourceKey, SourceState]]:
        """How the sources do that were asked of late."""
        since_s = self._clock.monotonic_s() - _STATE_TOLD_S
        for key, kept in self._turnstiles.items():
            if kept.used_s >= since_s:
                is_up = kept.turnstile.state() is BreakerState.CLOSED
                yield key, SourceState(is_up, kept.turnstile.waiting)

    def forget_source(self, organization_id: int, source_id: int) -> None:
        """It was removed."""
        self._turnstiles.pop((organization_id, source_id), None)
        self.adapters.drop(organization_id, source_id)

    def forget(self, organization_id: int) -> None:
        """Somebody changed its sources or configurations."""
        self._set_ups = {key: kept for key, kept in self._set_ups.items() if key[0] != organization_id}

    async def set_up(self, organization_id: int, config_id: int) -> SetUp:
        """Raises NotFound."""
        key, now_s = (organization_id, config_id), self._clock.monotonic_s()
        known = self._set_ups.get(key)
        if known is not None and now_s - known[0] < _SET_UP_KEPT_S:
            return known[1]
        found = await self._configurations.get(organization_id, config_id)
        if len(self._set_ups) >= _SET_UPS_MAX:
            self._set_ups.clear()
        self._set_ups[key] = now_s, found
        return found

    async def close(self) -> None:
        """Questions under way are cancelled at their sources."""
        self._flights.cancel()
        await self.adapters.close()


def _key(organization_id: int, set_up: SetUp, question: Question) -> Hashable:
    return (
        organization_id,
        set_up.configuration.id,
        set_up.configuration.version,
        tuple((one.source.id, one.source.version) for one in set_up.sources),
        question.level,
        tuple(sorted(question.matches.items())),
        question.returned,
        question.limit,
        question.offset,
    )
