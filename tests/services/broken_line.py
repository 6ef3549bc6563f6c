"""A line to a real server that breaks, or falls silent, after so many bytes of its answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class BrokenLine:
    """``bytes_max``: what all its connections together carry back from the server. ``silent``: it stays open
    then, and nothing more comes; else it is cut, and nobody is let through any more."""

    def __init__(self, server_port: int, bytes_max: int, *, silent: bool = False) -> None:
        self.carried = 0
        self.port = 0
        self._server_port = server_port
        self._bytes_max = bytes_max
        self._silent = silent
        self._open: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def standing(self) -> AsyncIterator[BrokenLine]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._open):
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
            asking = asyncio.create_task(_pass_on(reader, to_server))
            try:
                await self._answer(there, writer)
            finally:
                asking.cancel()
                to_server.close()
                writer.close()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await there.read(4096):
            self.carried += len(piece)
            if self.carried > self._bytes_max:
                if self._silent:
                    await asyncio.Event().wait()
                return
            writer.write(piece)
            await writer.drain()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
