"""Requests of ours that wait for answers: message IDs, the negotiated window, responses in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing

from isocenter.dimse.net.connection import Connection
from isocenter.dimse.net.errors import AssociationAborted
from isocenter.dimse.protocol import command_set, statuses
from isocenter.dimse.protocol.events import CommandReceived, DataFragment
from isocenter.dimse.protocol.messages import CCancelRequest, Request, Response
from isocenter.kit.errors import IsocenterError

RESPONSES_WAITING_MAX = 256
DATA_SET_BYTES_MAX = 16 << 20

Buffer = bytes | bytearray | memoryview


class Exchange:
    """One request and what was answered so far. A reader that is slow makes the peer wait."""

    def __init__(self, connection: Connection, message_id: int, context_id: int) -> None:
        self.message_id = message_id
        self.context_id = context_id
        self.over = False
        self.abandoned = False
        self._connection = connection
        self._responses: deque[tuple[Response, bytes | None]] = deque()
        self._error: IsocenterError | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def next(self) -> tuple[Response, bytes | None]:
        """The next response and its data set. Raises AssociationAborted or DimseTimeout."""
        while not self._responses:
            if self._error is not None:
                raise self._error
            self._arrival = self._connection.loop.create_future()
            await self._arrival
        response = self._responses.popleft()
        if self._room is not None and len(self._responses) < RESPONSES_WAITING_MAX // 2:
            room, self._room = self._room, None
            room.set_result(None)
        return response

    async def next_ones(self) -> list[tuple[Response, bytes | None]]:
        """The next response and all others that have come with it. Raises as `next` does."""
        first = await self.next()
        others = list(self._responses)
        self._responses.clear()
        self._make_room()
        return [first, *others]

    def put(self, response: Response, data_set: bytes | None) -> Awaitable[None] | None:
        if statuses.family(response.status) is not statuses.Family.PENDING:
            self.over = True
        if self.abandoned:
            return None
        self._responses.append((response, data_set))
        self._wake()
        if len(self._responses) < RESPONSES_WAITING_MAX:
            return None
        self._room = self._connection.loop.create_future()
        return self._room

    def fail(self, error: IsocenterError) -> None:
        self._error = error
        self.over = True
        self._wake()
        self._make_room()

    def abandon(self) -> None:
        """Nobody reads the rest: it is dropped as it comes."""
        self.abandoned = True
        self._responses.clear()
        self._make_room()

    def _wake(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)


class Invoker:
    """``window``: how many requests may be open at once (1 without asynchronous operations)."""

    def __init__(self, connection: Connection, window: int) -> None:
        self.window = window
        self._connection = connection
        self._exchanges: dict[int, Exchange] = {}
        self._last_message_id = 0
        self._places = asyncio.Semaphore(window)
        self._answer: Response | None = None
        self._data_set = bytearray()
        self._ended: IsocenterError | None = None
        self._quiet: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        return bool(self._exchanges)

    async def until_quiet(self) -> None:
        """Returns once no answer is due any more. One at a time may wait for that."""
        if self._exchanges:
            self._quiet = self._connection.loop.create_future()
            await self._quiet

    def widen(self, window: int) -> None:
        """More requests may be open at once, as negotiated."""
        for _ in range(window - self.window):
            self._places.release()
        self.window = max(window, self.window)

    async def open(self, context_id: int) -> Exchange:
        """Takes a place in the window and a message ID; what is sent with it is the caller's business."""
        await self._places.acquire()
        if self._ended is not None:
            self._places.release()
            raise self._ended
        message_id = self._last_message_id
        while True:
            message_id = message_id % 0xFFFF + 1
            if message_id not in self._exchanges:
                break
        self._last_message_id = message_id
        exchange = self._exchanges[message_id] = Exchange(self._connection, message_id, context_id)
        return exchange

    def close(self, exchange: Exchange) -> None:
        """Done with it. One that is not over yet keeps its place until its last response has come."""
        if exchange.over:
            self._remove(exchange)
        else:
            exchange.abandon()

    async def cancel(self, exchange: Exchange) -> None:
        if not exchange.over:
            message = CCancelRequest(message_id_being_responded_to=exchange.message_id)
            await self._connection.send_message(exchange.context_id, message)

    async def single(
        self, context_id: int, request: Request, data_set: Buffer | None = None
    ) -> tuple[Response, bytes | None]:
        """A request that has one response; its message ID is set here."""
        exchange = await self._send(context_id, request, data_set)
        try:
            await self._connection.drain()
            return await exchange.next()
        finally:
            self.close(exchange)

    async def many(
        self, context_id: int, request: Request, data_set: Buffer | None
    ) -> AsyncGenerator[tuple[Response, bytes | None], None]:
        """A request with pending responses; the last one yielded is the final one. Leaving early cancels."""
        async with aclosing(self.batches(context_id, request, data_set)) as batches:
            async for batch in batches:
                for one in batch:
                    yield one

    async def batches(
        self, context_id: int, request: Request, data_set: Buffer | None
    ) -> AsyncGenerator[list[tuple[Response, bytes | None]], None]:
        """The same, as many at a time as have come together."""
        exchange = await self._send(context_id, request, data_set)
        try:
            await self._connection.drain()
            while True:
                batch = await exchange.next_ones()
                yield batch
                if statuses.family(batch[-1][0].status) is not statuses.Family.PENDING:
                    return
        finally:
            if not exchange.over and not self._connection.lost:
                # Not awaited: an async generator that is being closed must not wait for the network.
                self._connection.keep(self._connection.loop.create_task(self._cancel_quietly(exchange)))
            self.close(exchange)

    async def _send(self, context_id: int, request: Request, data_set: Buffer | None) -> Exchange:
        exchange = await self.open(context_id)
        try:
            request.message_id = exchange.message_id
            command = command_set.encode(request, has_data_set=data_set is not None)
            await self._connection.turn()
            self._connection.put(context_id, command, data_set)
        except BaseException:
            self._remove(exchange)  # nothing was sent: no answer will free the place
            raise
        return exchange

    # ---- events

    def command(self, event: CommandReceived) -> Awaitable[None] | None:
        response = event.message
        assert isinstance(response, Response)
        if event.has_data_set:
            self._answer = response
            return None
        return self._deliver(response, None)

    def fragment(self, event: DataFragment) -> Awaitable[None] | None:
        if len(self._data_set) + len(event.data) > DATA_SET_BYTES_MAX:
            self._connection.end(f"answered with more than {DATA_SET_BYTES_MAX} bytes")
            return None
        self._data_set += event.data
        if not event.is_last:
            return None
        response, self._answer = self._answer, None
        data_set = bytes(self._data_set)
        self._data_set.clear()
        return None if response is None else self._deliver(response, data_set)

    @property
    def mid_answer(self) -> bool:
        return self._answer is not None

    def fail(self, error: IsocenterError) -> None:
        """The association is over: everyone who waits, and who comes later, is told."""
        self._ended = error
        for exchange in list(self._exchanges.values()):
            exchange.fail(error)
            if exchange.abandoned:
                self._remove(exchange)

    def _deliver(self, response: Response, data_set: bytes | None) -> Awaitable[None] | None:
        exchange = self._exchanges.get(response.message_id_being_responded_to)
        if exchange is None:
            self._connection.end("answered what was not asked")
            return None
        waiting = exchange.put(response, data_set)
        if exchange.over and exchange.abandoned:
            self._remove(exchange)
        return waiting

    def _remove(self, exchange: Exchange) -> None:
        if self._exchanges.pop(exchange.message_id, None) is not None:
            self._places.release()
        quiet = self._quiet
        if quiet is not None and not self._exchanges:
            self._quiet = None
            if not quiet.done():
                quiet.set_result(None)

    async def _cancel_quietly(self, exchange: Exchange) -> None:
        with contextlib.suppress(AssociationAborted):
            await self.cancel(exchange)
