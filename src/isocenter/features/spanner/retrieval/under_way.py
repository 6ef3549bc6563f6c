"""A retrieval under way: from several sources at once, object by object; others stand in for those that fail.

Whoever asks for the same meanwhile shares it; when nobody is interested any more, sources are told to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic

from isocenter.features.spanner.entries import Source
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.fan_out import Outcome
from isocenter.features.spanner.retrieval.keeping import H
from isocenter.features.spanner.retrieval.orders import Order, orders
from isocenter.features.spanner.retrieval.wanted import Holding, Key, Wanted
from isocenter.kit.errors import IsocenterError, Unavailable
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

Fetch = Callable[[Order], Awaitable[None]]
"""Has a source give what is ordered; objects come by `Retrieval.came`. Raises SourceFailed."""


class RetrievalIncomplete(Unavailable):
    default_code = "retrieval-incomplete"

    def __init__(self, missing: int, expected: int, why: Sequence[str]) -> None:
        super().__init__(
            f"{missing} of {expected} objects could not be had: {'; '.join(why)}.",
            remedy="Ask again: what has come is at hand. GET /api/v1/sources/{id}/health tells what is wrong"
            " with a source.",
        )


class Retrieval(Generic[H]):
    """``held``: what is at hand, in the order in which it came. ``outcomes``: how asking who has it ended.
    ``archive_agrees``: the archive's copy, if there is one, is the same patient's."""

    def __init__(
        self,
        wanted: Wanted,
        holdings: Sequence[Holding],
        ranking: Sequence[Source],
        outcomes: Sequence[Outcome],
        *,
        archive_agrees: bool,
        attempts_max: int,
    ) -> None:
        self.wanted = wanted
        self.archive_agrees = archive_agrees
        self.outcomes = outcomes
        self.held: list[H] = []
        self.is_cancelled = False
        self._holdings = list(holdings)
        self._missing: dict[Key, None] = dict.fromkeys(one.key for one in holdings)
        self._sources = {source.id: source for source in ranking}
        self._ranking = [source.id for source in ranking]
        self._attempts_max = attempts_max
        self._attempts: dict[int, int] = {}
        self._tried: dict[Key, set[int]] = {}
        self._why: dict[int, str] = {}
        self._refused: dict[str, str] = {}
        self._broken: IsocenterError | None = None
        self._known: set[Key] = set()
        self._attending = 0
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    # ---- running

    def start(self, fetch: Fetch, over: Callable[[], None]) -> None:
        self._task = asyncio.create_task(self._run(fetch), name="spanned retrieval")
        self._task.add_done_callback(lambda _: self._tell())
        self._task.add_done_callback(lambda _: over())

    async def _run(self, fetch: Fetch) -> None:
        while self._broken is None and (
            ordered := orders(self.wanted, self._holdings, self._missing, self._tried, self._ranking)
        ):
            tasks = [asyncio.create_task(self._fetch(fetch, order)) for order in ordered]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, fetch: Fetch, order: Order) -> None:
        source_id = order.source_id
        try:
            await fetch(order)
        except Exception as error:
            failure = error if isinstance(error, SourceFailed) else _unforeseen(source_id)
            self._why[source_id] = failure.detail
            self._attempts[source_id] = self._attempts.get(source_id, 0) + 1
            log.warning("A source failed to give objects", source=source_id, reason=failure.detail)
            if failure.worth_retrying and self._attempts[source_id] < self._attempts_max:
                return
        else:
            if not self._missing.keys().isdisjoint(order.keys):
                self._why.setdefault(source_id, "it did not give all that it says it has")
        for key in order.keys:
            if key in self._missing:
                self._tried.setdefault(key, set()).add(source_id)

    # ---- what comes (keeping.Arrivals)

    def expects(self, one: H) -> bool:
        """A source may have got more of the study since it was asked; it may not give another study."""
        return one.study_instance_uid == self.wanted.study_uid and self.wanted.includes(
            one.series_instance_uid, one.sop_instance_uid
        )

    def came(self, one: H) -> bool:
        """False: it was there already, from another source or an attempt before."""
        key = one.series_instance_uid, one.sop_instance_uid
        if key in self._known:
            return False
        self._known.add(key)
        self._missing.pop(key, None)
        self.held.append(one)
        self._tell()
        return True

    def refused(self, sop_instance_uid: str, why: str) -> None:
        self._refused[sop_instance_uid] = why

    def broke(self, error: IsocenterError) -> None:
        self._broken = self._broken or error
        if self._task is not None:
            self._task.cancel()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # ---- for whoever asked

    @property
    def holdings(self) -> Sequence[Holding]:
        return self._holdings

    def in_order(self) -> list[H]:
        """What is at hand as the answers about it are ordered, whichever came first."""
        place = {one.key: number for number, one in enumerate(self._holdings)}
        last = len(place)
        return sorted(
            self.held, key=lambda one: place.get((one.series_instance_uid, one.sop_instance_uid), last)
        )

    @property
    def expected(self) -> int:
        """How many objects there will be, as far as it is known."""
        return len(self.held) + len(self._missing)

    @property
    def missing_uids(self) -> list[str]:
        return [uid for _, uid in self._missing]

    @property
    def is_over(self) -> bool:
        return self._task is not None and self._task.done()

    @property
    def is_complete(self) -> bool:
        return self.is_over and not self._missing and self._broken is None

    def attend(self) -> None:
        self._attending += 1

    @contextmanager
    def attending(self) -> Iterator[None]:
        """For whoever `Retrievals.begin` gave it to; when the last of them has gone, the sources are told to
        stop."""
        try:
            yield
        finally:
            self._attending -= 1
            if not self._attending:
                self.cancel()

    def cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self.is_cancelled = True
            self._task.cancel()

    async def batches(self) -> AsyncGenerator[Sequence[H], None]:
        """What has come, then what comes, as much of it as there is each time, until it is over."""
        seen = 0
        while True:
            news, is_over = self._news, self.is_over
            if batch := self.held[seen:]:
                seen += len(batch)
                yield batch
            elif is_over:
                return
            else:
                await news.wait()

    async def settled(self) -> list[H]:
        """All of it. Raises as `check` does."""
        assert self._task is not None
        await asyncio.wait([self._task])
        self.check()
        return self.held

    def check(self) -> None:
        """Raises RetrievalIncomplete; what went wrong here, where nothing could be taken in."""
        assert self._task is not None
        if self._broken is not None:
            raise self._broken
        if self._task.cancelled():
            raise Unavailable("The retrieval was cancelled.", code="query-cancelled", remedy="Ask again.")
        self._task.result()
        if self._missing:
            raise RetrievalIncomplete(len(self._missing), self.expected, self.reasons())

    def reasons(self) -> list[str]:
        """Why something is missing, in words, each once."""
        names: Mapping[int, Source] = self._sources
        found = [f"{names[source_id].name}: {why}" for source_id, why in self._why.items()]
        if self._broken is not None:
            found.append(self._broken.detail)
        found += [why for uid, why in self._refused.items() if uid in set(self.missing_uids)]
        return list(dict.fromkeys(found)) or ["no source is left that has them"]


def _unforeseen(source_id: int) -> SourceFailed:
    """What others give must not be lost for what we did not foresee of this one."""
    log.exception("Retrieving from a source failed", source=source_id)
    return SourceFailed(Ended.FAILED, "what it gave could not be understood: a fault of ours")
