"""The DIMSE server: listens, keeps count of its connections, shuts down in good order."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl
from collections import Counter

from isocenter.dimse.net.acceptor import ServerConnection, ServerSettings
from isocenter.dimse.net.service import Service
from isocenter.dimse.net.transport_options import ReceiveBuffers
from isocenter.kit.clock import Clock, SystemClock
from isocenter.kit.errors import Unavailable

__all__ = ["DimseServer", "ServerSettings"]

logger = logging.getLogger(__name__)


class DimseServer:
    """``await start(host, port)``, then :attr:`port`; ``await shutdown(grace_s)`` ends it.

    ``answered``: operations by name (``C-STORE``) and family of their last status.
    """

    def __init__(
        self,
        service: Service,
        settings: ServerSettings | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.service = service
        self.settings = settings or ServerSettings()
        self.clock = clock or SystemClock()
        self.closing = False
        self.admitted = 0
        self.answered: Counter[tuple[str, str]] = Counter()
        self._tls = tls
        self._buffers = ReceiveBuffers()
        self._connections: set[ServerConnection] = set()
        self._silent: dict[ServerConnection, None] = {}  # asked for nothing yet; the oldest first
        self._server: asyncio.Server | None = None
        self._all_closed: asyncio.Future[None] | None = None
        self.port = 0

    async def start(self, host: str | None, port: int) -> None:
        """Listens; port 0 takes a free one. Raises Unavailable where the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._accept,
                host,
                port,
                ssl=self._tls,
                backlog=self.settings.backlog,
                ssl_handshake_timeout=self.settings.artim_s if self._tls else None,
            )
        except OSError as error:
            raise Unavailable(
                f"Port {port} for DIMSE cannot be opened ({os.strerror(error.errno or errno.EIO)}).",
                code="port-taken",
                remedy="Choose another with --dicom-port, or end what uses it; 'isocenter doctor' names it.",
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def open_associations(self) -> int:
        return self.admitted

    async def shutdown(self, grace_s: float) -> None:
        """Stops listening, lets what was begun finish, then aborts. A message in the middle of its
        arrival counts as begun; a sender between two messages gets an A-ABORT (source: service user),
        because few requestors understand a release that is not their own."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end_when_quiet()
        if self._connections and not await self._wait_closed(grace_s):
            for connection in list(self._connections):
                connection.end("the server shuts down")
                connection.hang_up()
            if not await self._wait_closed(1.0):
                for connection in list(self._connections):
                    connection.abandon()
                if not await self._wait_closed(1.0):
                    logger.error("%d associations did not end with the server", len(self._connections))

    async def _wait_closed(self, timeout_s: float) -> bool:
        if not self._connections:
            return True
        if self._all_closed is None or self._all_closed.done():
            self._all_closed = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._all_closed,), timeout=timeout_s)
        return bool(done)

    def _accept(self) -> ServerConnection:
        return ServerConnection(self, self._buffers)

    def connected(self, connection: ServerConnection) -> bool:
        """Where there is no room, whoever has said nothing for longest makes room: connections that are
        opened to keep others out are silent, and who wants something says so in its first packet."""
        self._connections.add(connection)
        if self.closing:
            return False
        self._silent[connection] = None
        if len(self._connections) > 2 * self.settings.associations_max:
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            if oldest is connection:
                return False
            oldest.cut("too many connections, and this one had said nothing for longest")
        return True

    def heard(self, connection: ServerConnection) -> None:
        self._silent.pop(connection, None)

    def disconnected(self, connection: ServerConnection) -> None:
        self._silent.pop(connection, None)
        self._connections.discard(connection)
        if not self._connections and self._all_closed is not None and not self._all_closed.done():
            self._all_closed.set_result(None)
