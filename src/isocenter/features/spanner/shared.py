"""Work that is done once for all who want the same: they wait for it or watch it; who leaves last ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from isocenter.kit.errors import Unavailable


class Shared:
    """One piece of such work. `start` it once."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._attending = 0
        self._news = asyncio.Event()
        self.is_cancelled = False
        """Nobody wanted it any more."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(lambda _: self._tell())

    def when_over(self, call: Callable[[], None]) -> None:
        """Called when it has ended, however; also at once."""
        assert self._task is not None
        self._task.add_done_callback(lambda _: call())

    @property
    def is_over(self) -> bool:
        return self._task is not None and self._task.done()

    def attend(self) -> None:
        """For whoever gets it and enters `attending` later."""
        self._attending += 1

    @contextmanager
    def attending(self) -> Iterator[None]:
        """For whoever was counted by `attend`; it is cancelled when nobody attends it any more."""
        try:
            yield
        finally:
            self._attending -= 1
            if not self._attending:
                self.cancel()

    @contextmanager
    def interest(self) -> Iterator[None]:
        self.attend()
        with self.attending():
            yield

    def cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self.is_cancelled = True
            self._task.cancel()

    async def _wait(self) -> None:
        assert self._task is not None
        await asyncio.wait([self._task])

    def _check_ended(self) -> None:
        """Once it is over. Raises what it raised; Unavailable where it was cancelled."""
        assert self._task is not None
        if self._task.cancelled():
            raise Unavailable("It was cancelled.", code="query-cancelled", remedy="Ask again.")
        self._task.result()

    def _tell(self) -> None:
        """Whoever watches looks again."""
        self._news.set()
        self._news = asyncio.Event()


S = TypeVar("S", bound=Shared)


class UnderWay(Generic[S]):
    """What is under way, by what makes it the same."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, S] = {}

    def get(self, key: Hashable) -> S | None:
        """None also for what nobody wanted any more: it ends just now."""
        found = self._by_key.get(key)
        return None if found is None or found.is_over or found.is_cancelled else found

    def put(self, key: Hashable, one: S) -> S:
        """Until it is over."""
        self._by_key[key] = one
        one.when_over(lambda: self._over(key, one))
        return one

    def _over(self, key: Hashable, one: S) -> None:
        if self._by_key.get(key) is one:
            del self._by_key[key]

    def __iter__(self) -> Iterator[S]:
        return iter(list(self._by_key.values()))

    def cancel(self) -> None:
        for one in self:
            one.cancel()
