"""What every source can be asked, whichever way it is reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from isocenter.features.spanner.entries import Source
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.retrieval.keeping import Landing
from isocenter.features.spanner.retrieval.orders import Order
from isocenter.features.spanner.rows import Row

Rows = AsyncGenerator[Sequence[Row], None]


@dataclass(frozen=True, slots=True)
class Reached:
    """A source that answered a call. ``echo_s``: how long that took; ``supports``: what it says it can do, as
    far as it tells: ``find-study-root``, ``qido`` …"""

    echo_s: float
    supports: tuple[str, ...] = ()


class Adapter(Protocol):
    def ask(self, question: Question) -> Rows:
        """Rows as they come, some at a time; closing it early ends the question at the source.

        They may be more than were asked for: whoever asks checks them. Raises SourceFailed.
        """
        ...

    async def fetch(self, order: Order, landing: Landing) -> None:
        """Has it give what is ordered; cancelling ends that at the source. What it gave is what has come to
        the landing: it may be less, whether it says so or not. Raises SourceFailed."""
        ...

    async def reach(self) -> Reached:
        """Raises SourceFailed."""
        ...

    async def close(self) -> None: ...


Adapt = Callable[[int, Source], Adapter]
"""The adapter of an organisation's source. Raises SourceFailed where it cannot be called at all."""


class Adapters:
    """One adapter for each source, as long as the source stays as it is."""

    def __init__(self, make: Adapt) -> None:
        self._make = make
        self._kept: dict[tuple[int, int], tuple[int, Adapter]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, organization_id: int, source: Source) -> Adapter:
        """Raises SourceFailed."""
        key = organization_id, source.id
        known = self._kept.get(key)
        if known is not None and known[0] == source.version:
            return known[1]
        adapter = self._make(organization_id, source)
        self._kept[key] = source.version, adapter
        if known is not None:
            self._retire(known[1])
        return adapter

    def drop(self, organization_id: int, source_id: int) -> None:
        """The source was removed."""
        if (known := self._kept.pop((organization_id, source_id), None)) is not None:
            self._retire(known[1])

    def _retire(self, adapter: Adapter) -> None:
        task = asyncio.create_task(adapter.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        for _, adapter in self._kept.values():
            self._retire(adapter)
        self._kept.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)
