"""A syslog receiver with TLS (RFC 5425), on loopback, that can go away and come back."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path


def make_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """Certificate and key, self-signed, by openssl."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


class SyslogServer:
    """``messages`` are those received whole, in order. After ``hang_up_after`` of them it breaks the
    connection without a word, once."""

    def __init__(self, cert: Path, key: Path, *, client_ca: Path | None = None) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(cert, key)
        if client_ca is not None:
            self._tls.load_verify_locations(client_ca)
            self._tls.verify_mode = ssl.CERT_REQUIRED
        self.messages: list[bytes] = []
        self.faults: list[str] = []
        self.connections = 0
        self.hang_up_after: int | None = None
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._arrived = asyncio.Condition()

    async def start(self) -> None:
        """On the same port each time."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def received(self, count: int) -> list[bytes]:
        async with asyncio.timeout(30), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            while True:
                length = await reader.readuntil(b" ")
                if not length[:-1].isdigit() or length.startswith(b"0"):
                    self.faults.append(f"no octet count: {length[:20]!r}")
                    return
                message = await reader.readexactly(int(length))
                if self.hang_up_after is not None and len(self.messages) >= self.hang_up_after:
                    self.hang_up_after = None
                    writer.transport.abort()
                    return
                async with self._arrived:
                    self.messages.append(message)
                    self._arrived.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
