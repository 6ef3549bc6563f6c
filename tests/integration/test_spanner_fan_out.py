"""Asking archives that hang, refuse, break off, babble, flood and lie: the others' answers are untouched by
it, and nothing lasts longer than it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from isocenter.dicom.dictionary import tag_of
from isocenter.dicom.levels import Level
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.doors.spanning.qido_routes import events
from isocenter.features.spanner.adapters import Adapter
from isocenter.features.spanner.asking import Came, Result, SpanningFailed
from isocenter.features.spanner.configurations import SetUp
from isocenter.features.spanner.dimse_adapter import DimseAdapter
from isocenter.features.spanner.entries import (
    Configuration,
    FailureStrategy,
    Limits,
    Mapped,
    Quirks,
    Source,
    SourceType,
)
from isocenter.features.spanner.failures import Ended
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.rows import first_value
from isocenter.features.spanner.service import Spanner
from isocenter.kit.clock import SystemClock
from services.pacs import Fault, SimulatedPacs, simulated, study

RETURNED = frozenset(map(tag_of, ("StudyDate", "StudyDescription", "PatientName", "PatientID")))


def asked(level: Level = Level.STUDY, limit: int = 100, **keys: str) -> Question:
    return Question(level, {tag_of(keyword): text for keyword, text in keys.items()}, RETURNED, limit=limit)


PATIENT_1 = asked(PatientID="P1")
LONG_S = 20.0
"""Much longer than anything here may take, and much shorter than a source that hangs would."""


class Fleet:
    """Simulated archives as the sources of one configuration."""

    def __init__(self, *archives: SimulatedPacs, **configuration: Any) -> None:
        self.archives = archives
        self.configuration = Configuration(
            1, "fleet", **{"timeout_seconds": 2.0, "retry_attempts": 2, "cache_seconds": 0, **configuration}
        )
        self.sources = [
            Source(number, f"PACS {number}", SourceType.DIMSE) for number in range(1, len(archives) + 1)
        ]
        self.priorities = [100] * len(archives)

    def change(self, number: int, **values: Any) -> None:
        self.sources[number - 1] = replace(self.sources[number - 1], **values)

    async def get(self, organization_id: int, config_id: int) -> SetUp:
        mapped = zip(self.sources, self.priorities, strict=True)
        return SetUp(self.configuration, tuple(Mapped(source, priority) for source, priority in mapped))

    async def __aenter__(self) -> Spanner:
        self._listening = simulated(*self.archives)
        await self._listening.__aenter__()
        self.remotes = Remotes()

        def adapt(organization_id: int, source: Source) -> Adapter:
            port = self.archives[source.id - 1].port
            peer = Peer("127.0.0.1", port, f"PACS{source.id}", "US", associations_max=source.limits.at_once)
            return DimseAdapter(self.remotes, peer, source.quirks)

        self.spanner = Spanner(self, adapt, SystemClock())  # type: ignore[arg-type]
        return self.spanner

    async def __aexit__(self, *_: object) -> None:
        await self.spanner.close()
        await self.remotes.close()
        await self._listening.__aexit__(None, None, None)

    async def ask(self, question: Question = PATIENT_1) -> Result:
        return (await self.spanner.ask(1, 1, question)).result


def uids(result: Result) -> list[str]:
    return sorted(answer.identity[-1] for answer in result.answers)


def ended(result: Result) -> list[Ended]:
    return [one.ended for one in sorted(result.outcomes, key=lambda one: one.source.id)]


HEALTHY: Sequence[dict[str, str]] = (study(1), study(2), study(3, patient=2))


@pytest.mark.parametrize(
    ("fault", "how", "rows"),
    [
        (Fault.HANGING, Ended.TIMED_OUT, 0),
        (Fault.STALLING, Ended.TIMED_OUT, 1),
        (Fault.REFUSING, Ended.REFUSED, 0),
        (Fault.ABORTING, Ended.FAILED, 1),
        (Fault.DROPPING, Ended.FAILED, 1),
        (Fault.BABBLING, Ended.FAILED, 0),
        (Fault.MALFORMED, Ended.FAILED, 0),
    ],
)
async def test_one_that_fails_leaves_the_others_answers_intact(fault: Fault, how: Ended, rows: int) -> None:
    sick = SimulatedPacs([study(8), study(9)], fault=fault)
    fleet = Fleet(SimulatedPacs(HEALTHY), sick, timeout_seconds=0.5)
    async with fleet:
        async with asyncio.timeout(LONG_S):
            result = await fleet.ask()
    assert ended(result) == [Ended.ANSWERED, how]
    assert uids(result) == ["2.25.99.1", "2.25.99.2"] + ["2.25.99.8"] * rows
    assert not result.is_complete
    assert result.missing[0].detail


@pytest.mark.parametrize("fault", [Fault.CONGESTED, Fault.BUSY])
async def test_what_is_worth_it_is_tried_again(fault: Fault) -> None:
    fleet = Fleet(SimulatedPacs(HEALTHY, fault=fault))
    async with fleet:
        result = await fleet.ask()
    assert ended(result) == [Ended.ANSWERED]
    assert result.outcomes[0].attempts == 3
    assert uids(result) == ["2.25.99.1", "2.25.99.2"]


async def test_endless_answers_are_cut_and_the_source_is_told_to_stop() -> None:
    flooding = SimulatedPacs([study(1)], fault=Fault.FLOODING)
    fleet = Fleet(flooding, SimulatedPacs(HEALTHY))
    async with fleet:
        result = await fleet.ask(asked(PatientID="P1", limit=50))
        await flooding.until(lambda pacs: pacs.cancelled)
    assert ended(result) == [Ended.ANSWERED, Ended.ANSWERED]
    assert [one.more for one in sorted(result.outcomes, key=lambda one: one.source.id)] == [True, False]
    assert uids(result) == ["2.25.99.1", "2.25.99.2"]
    assert not result.is_complete


async def test_rows_that_were_not_asked_for_are_dropped() -> None:
    fleet = Fleet(SimulatedPacs([study(1), study(2, patient=2)], fault=Fault.SLOPPY))
    async with fleet:
        result = await fleet.ask()
    assert uids(result) == ["2.25.99.1"]
    assert result.outcomes[0].dropped == 1


async def test_one_that_fails_again_and_again_is_left_alone() -> None:
    sick = SimulatedPacs(fault=Fault.ABORTING)
    fleet = Fleet(SimulatedPacs(HEALTHY), sick, retry_attempts=0)
    async with fleet:
        for _ in range(5):
            assert ended(await fleet.ask()) == [Ended.ANSWERED, Ended.FAILED]
        asked_before = sick.associations
        result = await fleet.ask()
        assert ended(result) == [Ended.ANSWERED, Ended.NOT_ASKED]
        assert sick.associations == asked_before
        health = await fleet.spanner.health(1, fleet.sources[1])
        assert health.is_reachable  # an echo is answered
        assert len(health.mishaps) == 5
        await fleet.ask()
        assert sick.associations > asked_before + 1  # and so it is asked again


async def test_the_same_question_at_the_same_time_is_asked_once() -> None:
    archive = SimulatedPacs(HEALTHY, latency_s=0.05)
    fleet = Fleet(archive)
    async with fleet:
        results = await asyncio.gather(*(fleet.ask() for _ in range(20)))
        assert archive.questions == 1
        assert {tuple(uids(result)) for result in results} == {("2.25.99.1", "2.25.99.2")}
        await fleet.ask()
        assert archive.questions == 2


async def test_an_answer_is_kept_for_a_while_with_its_age_and_only_if_it_is_complete() -> None:
    archive, sick = SimulatedPacs(HEALTHY), SimulatedPacs(fault=Fault.REFUSING)
    fleet = Fleet(archive, cache_seconds=60)
    async with fleet as spanner:
        await fleet.ask()
        again = await spanner.ask(1, 1, PATIENT_1)
        assert archive.questions == 1
        assert again.age_s > 0
        assert (await spanner.ask(1, 1, PATIENT_1, fresh=True)).age_s == 0
        await spanner.ask(2, 1, PATIENT_1)  # another organisation's is none of its business
        assert archive.questions == 3
    fleet = Fleet(SimulatedPacs(HEALTHY), sick, cache_seconds=60)
    async with fleet:
        await fleet.ask()
        await fleet.ask()
        assert fleet.archives[0].questions == 2


async def test_when_nobody_waits_any_more_the_source_is_told_to_stop() -> None:
    archive = SimulatedPacs(HEALTHY, latency_s=30)
    fleet = Fleet(archive, timeout_seconds=60)
    async with fleet:
        two = [asyncio.create_task(fleet.ask()) for _ in range(2)]
        await archive.until(lambda pacs: pacs.questions)
        two[0].cancel()
        await asyncio.wait([two[0]])
        assert not archive.cancelled
        assert archive.open == 1
        two[1].cancel()
        await asyncio.wait([two[1]])
        await archive.until(lambda pacs: pacs.cancelled)


async def test_a_full_line_refuses_and_does_not_blame_the_source() -> None:
    archive = SimulatedPacs(HEALTHY, latency_s=0.2)
    fleet = Fleet(archive)
    fleet.change(1, limits=Limits(at_once=1, waiting=1))
    async with fleet:
        questions = [asked(PatientID="P1", StudyDate=f"2026010{day}-") for day in range(1, 8)]
        results = await asyncio.gather(*(fleet.ask(one) for one in questions), return_exceptions=True)
        refused = [one for one in results if isinstance(one, SpanningFailed)]
        assert len(refused) == 5
        assert ended(await fleet.ask(asked(PatientID="P1", StudyDate="20260108-"))) == [Ended.ANSWERED]


async def test_who_never_had_a_turn_tells_nothing_of_the_source() -> None:
    """A source that rested is tried by one question; who is refused meanwhile must not let another in."""
    archive = SimulatedPacs(HEALTHY, latency_s=0.3)
    fleet = Fleet(archive, retry_attempts=0)
    async with fleet as spanner:
        breaker = spanner.turnstile(1, fleet.sources[0]).breaker
        breaker.failures_max, breaker.rest_s = 1, 0.0
        breaker.failed(0.0)
        questions = [asked(PatientID="P1", StudyDate=f"2026010{day}-") for day in range(1, 6)]
        results = await asyncio.gather(*(fleet.ask(one) for one in questions), return_exceptions=True)
        assert archive.questions == 1
        assert sum(isinstance(one, SpanningFailed) for one in results) == 4
        assert (await fleet.ask()).is_complete


async def test_between_attempts_the_failure_is_what_is_told() -> None:
    fleet = Fleet(SimulatedPacs(fault=Fault.ABORTING), timeout_seconds=0.5, retry_attempts=10)
    async with fleet:
        with pytest.raises(SpanningFailed) as caught:
            await fleet.ask()
    assert [one.ended for one in caught.value.outcomes] == [Ended.FAILED]
    assert "ended" in caught.value.outcomes[0].detail


async def test_fail_fast_does_not_wait_for_the_others() -> None:
    slow = SimulatedPacs(HEALTHY, latency_s=30)
    fleet = Fleet(
        slow,
        SimulatedPacs(fault=Fault.REFUSING),
        timeout_seconds=60,
        failure_strategy=FailureStrategy.FAIL_FAST,
    )
    async with fleet:
        with pytest.raises(SpanningFailed) as caught:
            async with asyncio.timeout(LONG_S):
                await fleet.ask()
        assert [one.ended for one in caught.value.outcomes] == [Ended.CANCELLED, Ended.REFUSED]
        await slow.until(lambda pacs: pacs.cancelled)


async def test_not_all_at_once_and_never_longer_than_the_deadline() -> None:
    """The second keeps the only place until the end."""
    archives = [
        SimulatedPacs([study(1)]),
        SimulatedPacs(fault=Fault.HANGING),
        SimulatedPacs(fault=Fault.HANGING),
    ]
    fleet = Fleet(*archives, max_concurrent_sources=1, timeout_seconds=0.5)
    async with fleet:
        async with asyncio.timeout(LONG_S):
            result = await fleet.ask()
        assert ended(result) == [Ended.ANSWERED, Ended.TIMED_OUT, Ended.TIMED_OUT]
        assert uids(result) == ["2.25.99.1"]


async def test_rows_that_nothing_tells_apart_are_counted_as_dropped() -> None:
    fleet = Fleet(SimulatedPacs([study(1), {**study(2), "StudyInstanceUID": ""}]))
    async with fleet:
        result = await fleet.ask()
    assert uids(result) == ["2.25.99.1"]
    assert (result.outcomes[0].rows, result.outcomes[0].dropped) == (1, 1)


async def test_who_watches_hears_that_it_is_still_asked() -> None:
    """A proxy takes a silent connection for a dead one."""
    fleet = Fleet(SimulatedPacs(fault=Fault.HANGING), timeout_seconds=1.0)
    async with fleet as spanner:
        asking = await spanner.begin(1, 1, PATIENT_1)
        told = [event async for event in events(asking, silence_s=0.05)]
    assert told[0] == b": still asking\n\n"
    assert told[-2].startswith(b"event: source")
    assert told[-1].startswith(b"event: end")


# --- quirks


async def test_a_source_that_knows_no_wild_cards_is_asked_without() -> None:
    class Literal(SimulatedPacs):
        def _matches(self, asked: Any, transfer_syntax: str) -> list[bytes]:
            assert not any(isinstance(one.value, bytes) and b"*" in one.value for one in asked)
            return super()._matches(asked, transfer_syntax)

    fleet = Fleet(Literal(HEALTHY))
    fleet.change(1, quirks=Quirks(wildcards=False))
    async with fleet:
        result = await fleet.ask(asked(PatientName="FAMILY1*"))
    assert uids(result) == ["2.25.99.1", "2.25.99.2"]
    assert result.outcomes[0].dropped == 1


async def test_a_source_that_declares_the_wrong_character_set() -> None:
    names = [study(1, PatientName="MÜLLER^JÜRGEN")]
    fleet = Fleet(SimulatedPacs(names, character_set="ISO_IR 100", declared="ISO_IR 192"))
    fleet.change(1, quirks=Quirks(character_set="ISO_IR 100"))
    async with fleet:
        result = await fleet.ask(asked(PatientName="MÜLL*"))
    assert [first_value(one.row, 0x00100010) for one in result.answers] == ["MÜLLER^JÜRGEN"]


async def test_a_source_that_caps_its_results_is_known_to_have_more() -> None:
    fleet = Fleet(SimulatedPacs([study(number) for number in range(20)], rows_max=10))
    fleet.change(1, quirks=Quirks(results_max=10))
    async with fleet:
        result = await fleet.ask()
    assert len(result.answers) == 10
    assert result.outcomes[0].more


# --- recall and precision


async def test_the_merged_answer_is_exactly_what_there_is() -> None:
    """Eight archives with overlapping content; every answer is compared with the truth."""
    truth = [study(number, patient=number % 5) for number in range(60)]
    archives = [
        SimulatedPacs(
            [one for number, one in enumerate(truth) if (number + shift) % 3],
            fault=Fault.SLOPPY if shift == 4 else Fault.NONE,
        )
        for shift in range(8)
    ]
    fleet = Fleet(*archives)
    async with fleet:
        for patient in range(5):
            result = await fleet.ask(asked(PatientID=f"P{patient}"))
            expected = sorted(one["StudyInstanceUID"] for one in truth if one["PatientID"] == f"P{patient}")
            assert uids(result) == expected
            assert all(len(answer.found_in) in {5, 6} for answer in result.answers)
            assert not any(answer.contradictions for answer in result.answers)


async def test_rows_are_told_as_they_come() -> None:
    fleet = Fleet(SimulatedPacs(HEALTHY), SimulatedPacs([study(7)], latency_s=0.3))
    async with fleet as spanner:
        asking = await spanner.begin(1, 1, PATIENT_1)
        with asking.interest():
            told = [
                ("rows" if isinstance(event, Came) else "ended", event.source.id)
                async for event in asking.watch()
            ]
        assert told[-2:] == [("rows", 2), ("ended", 2)]
        assert told.index(("ended", 1)) < told.index(("rows", 2))
