"""A few threads of our own for disk I/O, so that a slow disk cannot starve what else uses threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from isocenter.kit.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")


class IoThreads:
    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """One hop into a thread and back.

        Cancelled while it still waits, the work is dropped. Cancelled while it runs, this waits for its end
        first: the thread reads buffers that belong to the caller, who may fill them anew when we return.
        """
        try:
            job = self._pool.submit(work, *args, **kwargs)
        except RuntimeError as error:
            raise Unavailable("the object store has been closed", code="storage-closed") from error
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            done = asyncio.wrap_future(job)
            while not done.done():
                try:
                    await asyncio.wait((done,))
                except asyncio.CancelledError:
                    continue
            if not done.cancelled():
                done.exception()  # looked at, or asyncio complains that nobody did
            raise

    async def close(self) -> None:
        """Lets running work end and drops what still waits."""
        await asyncio.get_running_loop().run_in_executor(
            None, lambda: self._pool.shutdown(wait=True, cancel_futures=True)
        )
