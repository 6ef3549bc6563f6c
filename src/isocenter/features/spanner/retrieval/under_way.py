"""A retrieval under way: from several sources at once, object by object; others stand in for those that fail.

Whoever asks for the same meanwhile shares it (`Shared`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Generic

from isocenter.features.spanner.entries import Source
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.fan_out import Outcome
from isocenter.features.spanner.retrieval.keeping import H, key_of
from isocenter.features.spanner.retrieval.orders import Order, orders
from isocenter.features.spanner.retrieval.wanted import Holding, Key, Wanted
from isocenter.features.spanner.shared import Shared
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


class Retrieval(Shared, Generic[H]):
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
        super().__init__()
        self.wanted = wanted
        self.archive_agrees = archive_agrees
        self.outcomes = outcomes
        self.held: list[H] = []
        self.holdings = holdings
        self._missing: dict[Key, None] = dict.fromkeys(one.key for one in holdings)
        self._names = {source.id: source.name for source in ranking}
        self._ranking = [source.id for source in ranking]
        self._attempts_max = attempts_max
        self._attempts: dict[int, int] = {}
        self._tried: dict[Key, set[int]] = {}
        self._why: dict[int, str] = {}
        self._refused: dict[str, str] = {}
        self._broken: IsocenterError | None = None
        self._known: set[Key] = set()

    # ---- running

    async def run(self, fetch: Fetch) -> None:
        """To be started."""
        while self._broken is None and (
            ordered := orders(self.wanted, self.holdings, self._missing, self._tried, self._ranking)
        ):
            async with asyncio.TaskGroup() as group:
                for order in ordered:
                    group.create_task(self._fetch(fetch, order))

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
        key = key_of(one)
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
        self.cancel()

    # ---- for whoever asked

    def in_order(self) -> list[H]:
        """What is at hand as the answers about it are ordered, whichever came first."""
        place = {one.key: number for number, one in enumerate(self.holdings)}
        last = len(place)
        return sorted(self.held, key=lambda one: place.get(key_of(one), last))

    @property
    def expected(self) -> int:
        """How many objects there will be, as far as it is known."""
        return len(self.held) + len(self._missing)

    @property
    def missing_uids(self) -> list[str]:
        return [uid for _, uid in self._missing]

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
        await self._wait()
        self.check()
        return self.held

    def check(self) -> None:
        """Once it is over. Raises RetrievalIncomplete, and what kept us from taking anything in."""
        if self._broken is not None:
            raise self._broken
        self._check_ended()
        if self._missing:
            raise RetrievalIncomplete(len(self._missing), self.expected, self.reasons())

    def reasons(self) -> list[str]:
        """Why something is missing, in words, each once."""
        missing = set(self.missing_uids)
        found = [f"{self._names[source_id]}: {why}" for source_id, why in self._why.items()]
        if self._broken is not None:
            found.append(self._broken.detail)
        found += [why for uid, why in self._refused.items() if uid in missing]
        return list(dict.fromkeys(found)) or ["no source is left that has them"]


def _unforeseen(source_id: int) -> SourceFailed:
    """What others give must not be lost for what we did not foresee of this one."""
    log.exception("Retrieving from a source failed", source=source_id)
    return SourceFailed(Ended.FAILED, "what it gave could not be understood: a fault of ours")
