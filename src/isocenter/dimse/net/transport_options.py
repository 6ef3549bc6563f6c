"""Socket settings that decide whether DICOM is fast, and the buffer that all connections read into."""

from __future__ import annotations

import asyncio
import contextlib
import socket

RECEIVE_BUFFER_BYTES = 256 << 10
WRITE_HIGH_WATER_BYTES = 1 << 20
WRITE_LOW_WATER_BYTES = 256 << 10
UNWRITTEN_BYTES_MAX = 64 << 10  # what may wait for the end of a turn, so that whoever never waits is felt too

_TCP_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class QuickAck:
    """Acknowledges each read at once.

    DCMTK and others leave Nagle on and write the header and the body of a PDU apart: the second write
    waits for our acknowledgement, which the kernel delays by 40 ms, for every message. The kernel
    switches the option off again by itself, so it is set anew after each read.
    """

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._socket: socket.socket | None = None
        given = transport.get_extra_info("socket")
        if given is None or given.family not in (socket.AF_INET, socket.AF_INET6):
            return
        given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        given.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # uvloop's stand-in for the socket makes a new object at each call; one of our own is ten times
        # cheaper. It shares the descriptor and must let go of it before the transport closes it.
        self._socket = socket.socket(given.family, given.type, given.proto, fileno=given.fileno())

    def rearm(self) -> None:
        if self._socket is not None and _TCP_QUICKACK is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 1)

    def detach(self) -> None:
        if self._socket is not None:
            self._socket.detach()
            self._socket = None


class ReceiveBuffers:
    """One receive buffer for all connections of an event loop.

    What was read is used up before the loop reads for anybody else, so that connections cost no buffer
    each, and the one stays in the processor's cache. A connection that has to wait in the middle
    (back-pressure) keeps it, and the next read gets a new one.
    """

    def __init__(self, size: int = RECEIVE_BUFFER_BYTES) -> None:
        self._size = size
        self._buffer: memoryview | None = None

    def get(self) -> memoryview:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(self._size))
        return self._buffer

    def keep(self, buffer: memoryview) -> None:
        """The caller goes on using ``buffer``."""
        if self._buffer is buffer:
            self._buffer = None

    def give_back(self, buffer: memoryview) -> None:
        if self._buffer is None:
            self._buffer = buffer
