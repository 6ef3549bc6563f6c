"""One question, asked of all sources of a plan at once: rows as they come, and how it ended with each.

Whatever a source does (hangs, refuses, breaks off, floods), the others' answers are untouched by it, and
nothing lasts longer than its time-out and the plan's deadline.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from isocenter.features.spanner.adapters import Adapt, Adapter
from isocenter.features.spanner.entries import FailureStrategy, Source
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.filtering import Filter
from isocenter.features.spanner.plan import LeftOut, Plan, Skipped, Step
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.rows import Row
from isocenter.features.spanner.turnstile import Turnstile
from isocenter.platform.telemetry import get_logger

ROWS_MAX = 100_000
"""Of one source. More is nothing that anybody reads, and memory that everybody has to share."""

_GRACE_S = 0.03
"""For sources to tell how they ended that run out of their own time at the deadline."""

_FIRST_PAUSE_S = 0.05
_PAUSE_MAX_S = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How asking one source ended.

    ``rows`` that answer the question, ``dropped`` that did not; ``more``: it had more than were taken.
    ``took_s`` from its turn on; ``attempts``: 0: it was never asked. ``excused``: nobody expected an answer.
    """

    source: Source
    ended: Ended
    rows: int = 0
    dropped: int = 0
    took_s: float = 0.0
    attempts: int = 0
    more: bool = False
    detail: str = ""
    remedy: str = ""
    excused: bool = False

    @property
    def is_missing(self) -> bool:
        """Whether something it may have is not in the answer for want of it."""
        return self.ended is not Ended.ANSWERED and not self.excused


@dataclass(slots=True)
class Tally:
    """What came of one source, over all attempts. ``under_way``: it owes an answer at this moment; ``last``:
    how the attempt before this one failed."""

    under_way: bool = False
    last: SourceFailed | None = None
    rows: int = 0
    dropped: int = 0
    attempts: int = 0
    more: bool = False


log = get_logger(__name__)

Take = Callable[[Source, Sequence[Row]], int]
"""What happens with rows, and how many of them were of no use, having nothing to be told apart by. Those of
an attempt that failed come again with the next."""

Ending = Callable[[Outcome], None]


class FanOut:
    """``take`` and ``ending`` are called while it runs, from its event loop.

    Making one raises InvalidInput for a key whose attribute cannot have that value.
    """

    def __init__(
        self,
        organization_id: int,
        question: Question,
        adapt: Adapt,
        turnstiles: Mapping[int, Turnstile],
        *,
        take: Take,
        ending: Ending,
    ) -> None:
        self._organization_id = organization_id
        self._question = question
        self._adapt = adapt
        self._turnstiles = turnstiles
        self._take = take
        self._ending = ending
        self._outcomes: dict[int, Outcome] = {}
        self._filter = Filter(question)

    async def run(self, plan: Plan) -> list[Outcome]:
        """How it ended with each source, in the order of their standing. Cancelling it cancels the question
        at every source."""
        for left_out in plan.left_out:
            self._end(_not_asked(left_out))
        places = asyncio.Semaphore(max(plan.at_once, 1))
        tasks = [asyncio.create_task(self._ask(step, places)) for step in plan.steps]
        in_time = await self._wait(tasks, plan) if tasks else True
        for step in plan.steps:
            if step.source.id not in self._outcomes:
                self._end(_not_waited_for(step, in_time=in_time))
        order = {step.source.id: step.rank for step in plan.steps}
        return sorted(self._outcomes.values(), key=lambda one: order.get(one.source.id, len(order)))

    async def _wait(self, tasks: Sequence[asyncio.Task[None]], plan: Plan) -> bool:
        """Whether it ended before the deadline."""
        waiting = set(tasks)
        fails_fast = plan.strategy is FailureStrategy.FAIL_FAST
        return_when = asyncio.FIRST_COMPLETED if fails_fast else asyncio.ALL_COMPLETED
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + plan.deadline_s + _GRACE_S
        try:
            while waiting and not (fails_fast and self._is_missing_something()):
                left_s = max(deadline_s - loop.time(), 0)
                done, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=return_when)
                if not done or (waiting and not fails_fast):
                    return False
            return True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _is_missing_something(self) -> bool:
        return any(one.is_missing for one in self._outcomes.values())

    async def _ask(self, step: Step, places: asyncio.Semaphore) -> None:
        async with places:
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            tally = Tally()
            turnstile = self._turnstiles[step.source.id]
            try:
                async with asyncio.timeout(step.timeout_s):
                    await self._attempts(step, turnstile, tally)
            except TimeoutError:
                late = _timed_out(step, tally)
                if tally.under_way:
                    turnstile.failed(late)
                outcome = _failed(step.source, late, tally, loop.time() - begun_s)
            except SourceFailed as failure:
                outcome = _failed(step.source, failure, tally, loop.time() - begun_s)
            except Exception:
                # The others' answers must not be lost for what we did not foresee of this one.
                log.exception("Asking a source failed", source=step.source.id)
                fault = SourceFailed(Ended.FAILED, "its answer could not be understood: a fault of ours")
                outcome = _failed(step.source, fault, tally, loop.time() - begun_s)
            else:
                took_s = loop.time() - begun_s
                turnstile.answered(took_s)
                outcome = Outcome(
                    step.source, Ended.ANSWERED, tally.rows, tally.dropped, took_s, tally.attempts, tally.more
                )
            self._end(outcome)

    async def _attempts(self, step: Step, turnstile: Turnstile, tally: Tally) -> None:
        """Raises SourceFailed, after the last one."""
        for attempt in range(step.attempts):
            tally.rows = tally.dropped = 0
            try:
                async with turnstile.turn():
                    tally.attempts += 1
                    tally.under_way = True
                    adapter = self._adapt(self._organization_id, step.source)
                    await self._answer(step, adapter, tally)
            except SourceFailed as failure:
                if failure.ended is Ended.NOT_ASKED and tally.last is not None:
                    raise tally.last from failure  # it is left alone for that, among others
                tally.under_way, tally.last = False, failure
                if not failure.worth_retrying or attempt + 1 == step.attempts:
                    raise
            else:
                return
            # Jitter: what fell over under many questions is not to get them all again at one moment.
            await asyncio.sleep(min(_FIRST_PAUSE_S * 2**attempt, _PAUSE_MAX_S) * random.uniform(0.5, 1.5))  # noqa: S311

    async def _answer(self, step: Step, adapter: Adapter, tally: Tally) -> None:
        quirks = step.source.quirks
        check = Filter(self._question, quirks.unreturned) if quirks.unreturned else self._filter
        rows_max = min(self._question.rows_max, ROWS_MAX)
        async with aclosing(adapter.ask(self._question)) as found:
            async for rows in found:
                fitting = [row for row in rows if check.passes(row)]
                tally.dropped += len(rows) - len(fitting)
                room = rows_max - tally.rows
                if len(fitting) > room:
                    tally.more = True
                    fitting = fitting[:room]
                nameless = self._take(step.source, fitting) if fitting else 0
                tally.rows += len(fitting) - nameless
                tally.dropped += nameless
                if tally.more:
                    return
        if quirks.results_max and tally.rows + tally.dropped >= quirks.results_max:
            tally.more = True

    def _end(self, outcome: Outcome) -> None:
        self._outcomes[outcome.source.id] = outcome
        self._ending(outcome)


def _failed(source: Source, failure: SourceFailed, tally: Tally, took_s: float) -> Outcome:
    return Outcome(
        source,
        failure.ended,
        tally.rows,
        tally.dropped,
        took_s,
        tally.attempts,
        detail=failure.detail,
        remedy=failure.remedy,
    )


def _timed_out(step: Step, tally: Tally) -> SourceFailed:
    if not tally.under_way:
        return tally.last or SourceFailed(
            Ended.TIMED_OUT,
            f"its turn did not come within {step.timeout_s:g} s: others were asking it",
            remedy="Ask again in a moment, or let it be asked more at once.",
            blamed=False,
        )
    return SourceFailed(
        Ended.TIMED_OUT,
        f"no complete answer within {step.timeout_s:g} s",
        remedy="Give it more time with timeout_override, or see why it is slow.",
    )


def _not_asked(left_out: LeftOut) -> Outcome:
    excused = left_out.why is Skipped.DISABLED
    return Outcome(
        left_out.source, Ended.NOT_ASKED, detail=left_out.detail, remedy=left_out.remedy, excused=excused
    )


def _not_waited_for(step: Step, *, in_time: bool) -> Outcome:
    if in_time:
        return Outcome(step.source, Ended.CANCELLED, detail="another source failed, and all were required")
    return Outcome(
        step.source,
        Ended.TIMED_OUT,
        detail="its turn did not come before the deadline",
        remedy="Let more sources be asked at the same time with max_concurrent_sources.",
    )
