"""Audit messages as syslog over TLS: RFC 5424's format, RFC 5425's octet counting, one connection kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import sys
from collections.abc import Sequence

from isocenter.features.audit.dicom_messages import dicom_message, instant
from isocenter.features.audit.entries import Entry
from isocenter.kit.errors import Unavailable

_PRIORITY = 10 * 8 + 5  # security/authorization, notice
_MESSAGE_ID = "DICOM+RFC3881"  # PS3.15 A.6.1
_BOM = b"\xef\xbb\xbf"
_SIOCOUTQ = 0x5411  # Linux: bytes that the peer's machine has not acknowledged
_LOOK_S = 0.005


def syslog_frame(entry: Entry, source: str, host: str) -> bytes:
    """One message with its length before it."""
    at = instant(entry).isoformat(timespec="microseconds").replace("+00:00", "Z")
    head = f"<{_PRIORITY}>1 {at} {_word(host, 255)} {_word(source, 48)} {os.getpid()} {_MESSAGE_ID} - "
    message = head.encode() + _BOM + dicom_message(entry, source)
    return b"%d %s" % (len(message), message)


def _word(text: str, characters_max: int) -> str:
    """PRINTUSASCII, no blanks; "-" for nothing (RFC 5424 §6)."""
    return "".join(character for character in text if "!" <= character <= "~")[:characters_max] or "-"


class SyslogReceiver:
    """A connection to one receiver, opened when it is needed."""

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext, *, source: str, timeout_s: float = 20
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._source = source
        self._timeout_s = timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def target(self) -> str:
        return f"{self._host}:{self._port}"

    async def send(self, entries: Sequence[Entry]) -> None:
        """Return when the receiver's machine has all of it. Raises Unavailable; then the connection is gone,
        and nobody knows how much of what went over it was kept."""
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await self._open()
                if reader.at_eof():
                    raise ConnectionResetError
                host = socket.gethostname()
                writer.write(b"".join(syslog_frame(entry, self._source, host) for entry in entries))
                await writer.drain()
                await _acknowledged(writer)
                if reader.at_eof() or writer.transport.is_closing():
                    raise ConnectionResetError
        except (OSError, TimeoutError, ssl.SSLError) as error:
            await self.close()
            raise Unavailable(
                f"The audit repository {self.target} does not take messages ({type(error).__name__}).",
                code="audit-repository-away",
                remedy="Check audit_syslog, its certificate (audit_syslog_ca) and that the repository runs.",
            ) from error

    async def close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                self._host, self._port, ssl=self._tls, server_hostname=self._host
            )
        return self._streams


async def _acknowledged(writer: asyncio.StreamWriter) -> None:
    """Wait until nothing is on its way any more, where the system tells (Linux). TLS and syslog have no
    receipt of their own; this is as far as one can see."""
    connection = writer.get_extra_info("socket")
    if connection is None or sys.platform != "linux":
        return
    from fcntl import ioctl

    while not writer.transport.is_closing():
        try:
            (waiting,) = struct.unpack("i", ioctl(connection.fileno(), _SIOCOUTQ, bytes(4)))
        except OSError:
            return
        if not waiting and not writer.transport.get_write_buffer_size():
            return
        await asyncio.sleep(_LOOK_S)


def client_tls(ca: str = "", cert: str = "", key: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer; the receiver's certificate is checked against ``ca`` (empty: the system's), ours is
    shown where there is one. Files are PEM."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert:
        context.load_cert_chain(cert, key or None)
    return context
