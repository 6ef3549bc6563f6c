"""One transport connection: reads into a shared buffer, lets the association think, writes what it says.

Both ends use it. What the events mean is the business of the subclass (``on_event``); it runs them in
order, and when one has to wait, reading stops, so that TCP makes the peer wait as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import cast

from isocenter.dimse.net.errors import AssociationAborted, DimseTimeout
from isocenter.dimse.net.transport_options import (
    UNWRITTEN_BYTES_MAX,
    WRITE_HIGH_WATER_BYTES,
    WRITE_LOW_WATER_BYTES,
    QuickAck,
    ReceiveBuffers,
)
from isocenter.dimse.protocol import command_set
from isocenter.dimse.protocol.association import Association, Buffer
from isocenter.dimse.protocol.events import Event
from isocenter.dimse.protocol.messages import Message


class Connection(asyncio.BufferedProtocol):
    """``idle_s``: how long the peer may be silent while we wait for it; ``write_stall_s``: how long it may
    leave our bytes unread."""

    def __init__(
        self, association: Association, buffers: ReceiveBuffers, *, idle_s: float, write_stall_s: float
    ) -> None:
        self.association = association
        self.loop = asyncio.get_running_loop()
        self.lost = False
        self.end_reason = ""
        self.received_bytes = 0
        self._buffers = buffers
        self._buffer = memoryview(b"")
        self._transport: asyncio.Transport | None = None
        self._quick_ack: QuickAck | None = None
        self._idle_s = idle_s
        self._write_stall_s = write_stall_s
        self._active_at_s = 0.0
        self._pending: deque[Event] = deque()
        self._waiting: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._write_paused_at_s: float | None = None
        self._send_lock: asyncio.Lock | None = None
        self._planned_flush: asyncio.Handle | None = None
        self._unwritten_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self._kept: set[asyncio.Task[None]] = set()

    # ---- for the subclass

    def on_event(self, event: Event) -> Awaitable[None] | None:
        """Returns an awaitable when the events after this one have to wait for it."""
        raise NotImplementedError

    def on_over(self) -> None:
        """The association is over, the transport perhaps not yet; may be called more than once. What works
        for this peer alone can stop."""
        raise NotImplementedError

    def on_closed(self) -> None:
        """The transport is gone, and every event was handled; called once."""
        raise NotImplementedError

    def expects_bytes(self) -> bool:
        """Whether silence of the peer is its fault now."""
        return True

    def on_idle(self) -> None:
        """The peer was silent for too long."""
        self.end(f"silent for {self._idle_s:g} s")

    # ---- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast(asyncio.Transport, transport)  # uvloop's has no common base
        stream.set_write_buffer_limits(WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES)
        self._quick_ack = QuickAck(transport)
        self._active_at_s = now_s = self.loop.time()
        self.association.transport_opened(now_s)
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        self._buffer = self._buffers.get()
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._active_at_s = now_s = self.loop.time()
        self.received_bytes += nbytes
        events = self.association.feed(self._buffer[:nbytes], now_s)
        if self._waiting is not None:  # some transports deliver once more after pause_reading
            self._keep_buffer()
            self._pending.extend(events)
        elif events:
            self._dispatch(events)
        self.flush()
        if self._quick_ack is not None:
            self._quick_ack.rearm()

    def eof_received(self) -> bool:
        return False  # half-open is no use in DICOM: the transport closes itself

    def pause_writing(self) -> None:
        self._writable = self.loop.create_future()
        self._write_paused_at_s = self.loop.time()
        self._arm_timer()

    def resume_writing(self) -> None:
        """It reads: that is no silence, however long an object takes."""
        self._write_paused_at_s = None
        self._active_at_s = self.loop.time()
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._quick_ack is not None:
            self._quick_ack.detach()
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        self.stop_work()
        if self._waiting is None:
            self._lost()
        # otherwise the waiting events are still handled, in order, before the end is told

    def peer_address(self) -> tuple[str, int]:
        address = self._transport.get_extra_info("peername") if self._transport is not None else None
        return (str(address[0]), int(address[1])) if address else ("", 0)

    # ---- sending

    def flush(self) -> None:
        """Hands the association's output to the transport, and closes it when all is said."""
        if self._planned_flush is not None:
            self._planned_flush.cancel()
            self._planned_flush = None
        self._unwritten_bytes = 0
        transport = self._transport
        if transport is None:
            return
        output = self.association.take_output()
        if output and not transport.is_closing():
            self._active_at_s = self.loop.time()
            transport.writelines(output)
        if self.association.closing and not transport.is_closing():
            self.hang_up()
        deadline_s = self.association.next_deadline_s()
        if self._timer is None or (deadline_s is not None and deadline_s < self._timer_at_s):
            self._arm_timer()

    async def drain(self) -> None:
        """Returns when the peer has taken enough of what was written. Raises AssociationAborted."""
        while self._writable is not None:
            await asyncio.shield(self._writable)
        self.check_open()

    def check_open(self) -> None:
        """Raises AssociationAborted where nothing can be sent any more."""
        if self.lost or not self.association.established:
            raise AssociationAborted(self.end_reason or "the association has ended")

    async def send_message(self, context_id: int, message: Message, data_set: Buffer | None = None) -> None:
        """Sends a message whose data set is at hand. Raises AssociationAborted."""
        await self.send_encoded(
            context_id, command_set.encode(message, has_data_set=data_set is not None), data_set
        )

    async def send_encoded(
        self, context_id: int, command: bytes, data_set: Buffer | None, *, at_once: bool = True
    ) -> None:
        """The same for a command set that was encoded before. Unless ``at_once``, it leaves with what is said
        next, at the latest when this turn of the event loop is over or when it is much: one write for many
        short messages."""
        if self._send_lock is not None:
            await self.turn()
        self.put(context_id, command, data_set, at_once=at_once)
        if self._writable is not None:
            await self.drain()

    async def turn(self) -> None:
        """Returns when no data set is half sent; what is put before the next await comes in between none."""
        while self._send_lock is not None and self._send_lock.locked():
            async with self._send_lock:
                pass

    def put(self, context_id: int, command: bytes, data_set: Buffer | None, *, at_once: bool = True) -> None:
        """Sends without waiting. Raises AssociationAborted."""
        self.check_open()
        self.association.send_command_bytes(context_id, command)
        if data_set is not None:
            self.association.send_data(context_id, data_set, is_last=True)
        self._active_at_s = self.loop.time()
        self._unwritten_bytes += len(command) + (0 if data_set is None else len(data_set))
        if at_once or self._unwritten_bytes >= UNWRITTEN_BYTES_MAX:
            self.flush()
        elif self._planned_flush is None:
            self._planned_flush = self.loop.call_soon(self.flush)

    async def lock_sending(self) -> asyncio.Lock:
        """For a data set that is sent in parts: no other message may come between (PS3.7 §6.3)."""
        if self._send_lock is None:
            self._send_lock = asyncio.Lock()
        await self._send_lock.acquire()
        return self._send_lock

    def keep(self, task: asyncio.Task[None]) -> None:
        """Holds a task that nobody awaits: the event loop alone does not."""
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    # ---- ending

    def end(self, reason: str) -> None:
        """Aborts the association as its user; the peer has ARTIM seconds to hang up."""
        self.end_reason = self.end_reason or reason
        self.association.abort(self.loop.time())
        self.flush()
        self.stop_work()

    def cut(self, reason: str) -> None:
        """Ends it now: what is still unsent is lost."""
        self.end_reason = self.end_reason or reason
        if self._transport is not None:
            self._transport.abort()

    def stop_work(self) -> None:
        """Tells ``on_over``, but never while a fragment is being written."""
        if self._waiting is None:
            self.on_over()

    def stop_waiting(self) -> None:
        """Gives up an event that still waits, and those behind it."""
        if self._waiting is not None:
            self._waiting.cancel()

    def hang_up(self) -> None:
        """Closes the transport once the output is written."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            if self._write_paused_at_s is None:
                self._write_paused_at_s = self.loop.time()
            self._arm_timer()

    # ---- events

    def _dispatch(self, events: Iterable[Event]) -> None:
        iterator = iter(events)
        for event in iterator:
            waiting = self.on_event(event)
            if waiting is not None:
                self._pending.extend(iterator)
                self._keep_buffer()
                if self._transport is not None and not self._transport.is_closing():
                    self._transport.pause_reading()
                self._waiting = self.loop.create_task(self._dispatch_after(waiting, self._buffer))
                return

    async def _dispatch_after(self, waiting: Awaitable[None], buffer: memoryview) -> None:
        try:
            await waiting
            while self._pending:
                following = self.on_event(self._pending.popleft())
                if following is not None:
                    await following
        finally:
            self._waiting = None
            self._pending.clear()
            self._buffers.give_back(buffer)
            self._active_at_s = self.loop.time()
            self.flush()
            if self.lost:
                self._lost()
            elif self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _keep_buffer(self) -> None:
        self._buffers.keep(self._buffer)

    def _lost(self) -> None:
        for event in self.association.transport_closed(self.loop.time()):
            waiting = self.on_event(event)
            assert waiting is None, "nothing can wait after the end"
        self.on_closed()

    # ---- time

    def _arm_timer(self) -> None:
        """One timer for all deadlines. Reads only note the time: the timer finds out when it fires."""
        if self.lost:
            return
        at_s = self._active_at_s + self._idle_s
        deadline_s = self.association.next_deadline_s()
        if deadline_s is not None:
            at_s = min(at_s, deadline_s)
        if self._write_paused_at_s is not None:
            at_s = min(at_s, self._write_paused_at_s + self._write_stall_s)
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self.loop.call_at(at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now_s = self.loop.time()
        deadline_s = self.association.next_deadline_s()
        if deadline_s is not None and now_s >= deadline_s:
            self.end_reason = self.end_reason or "ARTIM expired"
            for event in self.association.handle_timeout(now_s):
                self.on_event(event)
            if self._transport is not None and self._transport.get_write_buffer_size():
                self._transport.abort()  # close() would wait for a peer that does not read
        if self._write_paused_at_s is not None and now_s >= self._write_paused_at_s + self._write_stall_s:
            self.cut(f"did not read for {self._write_stall_s:g} s")
        elif now_s >= self._active_at_s + self._idle_s:
            if self._waiting is None and self.association.established and self.expects_bytes():
                self.on_idle()
            self._active_at_s = now_s
        self.flush()


def timeout_error(seconds: float, what: str) -> DimseTimeout:
    return DimseTimeout(f"{what} did not come within {seconds:g} s", remedy="Look whether that system is up.")


async def finish_quietly(awaitable: Awaitable[object]) -> None:
    """For clean-up whose failure must not hide what led to it."""
    with contextlib.suppress(Exception):
        await awaitable
