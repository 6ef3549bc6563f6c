"""What came of questions, as it is counted: sources that answer when a test lets them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from isocenter.dicom.levels import Level
from isocenter.features.spanner.adapters import Reached
from isocenter.features.spanner.asking import QueryOutcome, SpanningFailed
from isocenter.features.spanner.configurations import Configurations
from isocenter.features.spanner.entries import Configuration, FailureStrategy, Limits, Source, SourceType
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.flights import CacheResult
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.rows import Row
from isocenter.features.spanner.service import Spanner
from isocenter.features.spanner.sources import Sources
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import InvalidInput, Unavailable
from isocenter.platform.security.sealed_words import SealedWords
from services.archive import ORGANIZATION, opened
from services.schema import fresh_url

QUESTION = Question(Level.STUDY, {0x00100020: "P1"}, frozenset())


@dataclass
class Archives:
    """Adapters of sources: each question waits for ``may_answer``; those of ``failing`` fail at once."""

    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    failing: set[int] = field(default_factory=set)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def adapter(self, _organization_id: int, source: Source) -> Archive:
        return Archive(self, source.id)


@dataclass
class Archive:
    archives: Archives
    source_id: int

    async def ask(self, _question: Question) -> AsyncGenerator[Sequence[Row], None]:
        self.archives.asked.release()
        if self.source_id in self.archives.failing:
            raise SourceFailed(Ended.FAILED, "out of order")
        await self.archives.may_answer.wait()
        yield []

    async def reach(self) -> Reached:
        return Reached(0.0)

    async def close(self) -> None:
        pass


@dataclass
class Span:
    spanner: Spanner
    archives: Archives
    clock: ManualClock
    sources: Sources
    configurations: Configurations
    config_id: int = 0

    async def configure(self, count: int, at_once: int = 4, **fields: object) -> list[int]:
        made = await self.configurations.add(
            ORGANIZATION,
            Configuration(0, "all", retry_attempts=0, **fields),  # type: ignore[arg-type]
        )
        self.config_id = made.id
        numbers = []
        for number in range(count):
            wanted = Source(0, f"S{number}", SourceType.LOCAL, limits=Limits(at_once))
            source = await self.sources.add(ORGANIZATION, wanted)
            await self.configurations.put_source(ORGANIZATION, made.id, source.id)
            numbers.append(source.id)
        return numbers

    async def ask(self, *, fresh: bool = False) -> None:
        await self.spanner.ask(ORGANIZATION, self.config_id, QUESTION, fresh=fresh)

    async def asked(self, times: int) -> None:
        for _ in range(times):
            await self.archives.asked.acquire()

    @property
    def queries(self) -> dict[QueryOutcome, int]:
        return dict(self.spanner.measures.queries)

    def ended(self, source_id: int) -> dict[Ended, int]:
        questions = self.spanner.measures.questions.items()
        return {ended: count for (key, ended), count in questions if key == (ORGANIZATION, source_id)}


@pytest.fixture
async def span(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Span]:
    clock, archives = ManualClock(), Archives()
    with fresh_url(request, "sqlite", tmp_path) as url:
        async with opened(url, tmp_path, clock=clock) as archive:
            configurations = Configurations(archive.database, clock)
            sources = Sources(archive.database, clock, SealedWords(b"k" * 32))
            spanner = Spanner(configurations, archives.adapter, clock)
            yield Span(spanner, archives, clock, sources, configurations)
            await spanner.close()


async def test_queries_end_complete_partial_or_failed(span: Span) -> None:
    first, second = await span.configure(2)
    span.archives.may_answer.set()
    await span.ask()
    span.archives.failing = {second}
    await span.ask(fresh=True)
    span.archives.failing = {first, second}
    with pytest.raises(SpanningFailed):
        await span.ask(fresh=True)

    assert span.queries == {QueryOutcome.COMPLETE: 1, QueryOutcome.PARTIAL: 1, QueryOutcome.FAILED: 1}
    assert span.ended(first) == {Ended.ANSWERED: 2, Ended.FAILED: 1}
    assert span.ended(second) == {Ended.ANSWERED: 1, Ended.FAILED: 2}
    assert sum(span.spanner.measures.source_s[ORGANIZATION, first].counts) == 3


async def test_where_all_are_required_one_failure_is_a_failed_query(span: Span) -> None:
    _, second = await span.configure(2, failure_strategy=FailureStrategy.ALL_REQUIRED)
    span.archives.may_answer.set()
    span.archives.failing = {second}
    with pytest.raises(SpanningFailed):
        await span.ask()
    assert span.queries == {QueryOutcome.FAILED: 1}


async def test_how_long_whoever_asked_waited(span: Span) -> None:
    await span.configure(1)
    asking = asyncio.create_task(span.ask())
    await span.asked(1)
    span.clock.advance(2.0)
    span.archives.may_answer.set()
    await asking
    query_s = span.spanner.measures.query_s
    assert query_s.sum == 2.0
    assert dict(zip(query_s.bounds, query_s.counts, strict=False))[2.0] == 1


async def test_who_is_spared_asking(span: Span) -> None:
    await span.configure(1, cache_seconds=5)
    together = [asyncio.create_task(span.ask()) for _ in range(3)]
    await span.asked(1)
    span.archives.may_answer.set()
    await asyncio.gather(*together)
    await span.ask()
    span.clock.advance(6)
    await span.ask()

    wanted = {CacheResult.MISS: 2, CacheResult.JOINED: 2, CacheResult.HIT: 1}
    assert span.spanner.cache_results == Counter(wanted)
    assert span.queries == {QueryOutcome.COMPLETE: 5}


async def test_what_sources_owe_an_answer_to(span: Span) -> None:
    numbers = await span.configure(2, at_once=1)
    asking = [asyncio.create_task(span.ask(fresh=True))]
    other = Question(Level.STUDY, {0x00100020: "P2"}, frozenset())
    asking.append(asyncio.create_task(_ignored(span.spanner.ask(ORGANIZATION, span.config_id, other))))
    await span.asked(2)

    assert span.spanner.pending == 4
    states = dict(span.spanner.source_states())
    assert {number: states[ORGANIZATION, number].waiting for number in numbers} == dict.fromkeys(numbers, 1)

    span.archives.may_answer.set()
    await asyncio.gather(*asking)
    assert span.spanner.pending == 0
    assert not any(state.waiting for _, state in span.spanner.source_states())


async def test_who_has_ended_owes_nothing(span: Span) -> None:
    _, second = await span.configure(2)
    span.archives.failing = {second}
    asking = await span.spanner.begin(ORGANIZATION, span.config_id, QUESTION)
    assert span.spanner.pending == 2
    with asking.interest():
        async with aclosing(asking.watch()) as events:
            await anext(events)
        assert span.spanner.pending == 1
        span.archives.may_answer.set()
        await asking.settled()
    assert span.spanner.pending == 0


async def test_a_source_that_is_switched_off_owes_nothing_and_fails_nothing(span: Span) -> None:
    first, second = await span.configure(2)
    found = await span.sources.get(ORGANIZATION, second)
    await span.sources.change(ORGANIZATION, replace(found, enabled=False), keep_secret=True)
    span.archives.may_answer.set()
    await span.ask()
    assert span.queries == {QueryOutcome.COMPLETE: 1}
    assert span.ended(first) == {Ended.ANSWERED: 1}
    assert span.ended(second) == {}


async def _ignored(asking: object) -> None:
    await asking  # type: ignore[misc]


async def test_who_leaves_is_neither_a_failure_nor_a_response_time(span: Span) -> None:
    [number] = await span.configure(1)
    asking = asyncio.create_task(span.ask())
    await span.asked(1)
    asking.cancel()
    await asyncio.wait([asking])
    assert span.queries == {QueryOutcome.CANCELLED: 1}
    assert not sum(span.spanner.measures.query_s.counts)
    assert (ORGANIZATION, number) not in span.spanner.measures.source_s


async def test_a_query_that_is_fetched_later_counts_when_it_is_over(span: Span) -> None:
    await span.configure(1)
    asking = await span.spanner.begin(ORGANIZATION, span.config_id, QUESTION)
    with asking.interest():
        assert span.queries == {}
        span.archives.may_answer.set()
        await asking.settled()
        await asyncio.sleep(0)  # whoever wants to hear of its end is told then
    assert span.queries == {QueryOutcome.COMPLETE: 1}


async def test_a_question_that_nobody_was_asked_is_no_query(span: Span) -> None:
    await span.configure(1, enterprise_mode=True)
    with pytest.raises(InvalidInput):
        await span.spanner.ask(ORGANIZATION, span.config_id, Question(Level.STUDY, {}, frozenset()))
    assert span.queries == {}


async def test_a_source_is_up_until_it_is_left_alone(span: Span) -> None:
    [number] = await span.configure(1)
    span.archives.may_answer.set()
    span.archives.failing = {number}

    def is_up() -> bool | None:
        state = dict(span.spanner.source_states()).get((ORGANIZATION, number))
        return None if state is None else state.is_up

    assert is_up() is None, "nobody has asked it"
    for times in range(5):
        with pytest.raises((SpanningFailed, Unavailable)):
            await span.ask()
        assert is_up() is (times < 4)
    span.clock.advance(30)
    assert is_up() is False, "until it has answered"
    span.archives.failing = set()
    await span.ask()
    assert is_up() is True
    span.clock.advance(3601)
    assert is_up() is None, "nobody asks it any more"
    await span.ask()
    span.spanner.forget_source(ORGANIZATION, number)
    assert is_up() is None
