"""uvicorn's HTTP/1.1 protocol with bounds on what comes before the body.

uvicorn waits for the end of a request's head for ever and keeps all of it: a few thousand connections that
send a byte a minute ("slow-loris"), or one that sends headers without end, would take the server down.
"""

from __future__ import annotations

import asyncio
import secrets
from http import HTTPStatus
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from isocenter.doors.http.guards import guarded
from isocenter.doors.http.problems import problem
from isocenter.kit.errors import InvalidInput, IsocenterError, TooLarge

log = structlog.get_logger("isocenter.http")


class BoundedHttpProtocol(HttpToolsProtocol):
    """Hand it to ``uvicorn.Config(http=…)``."""

    head_bytes_max = 64 << 10  # nginx and Apache take 32 KB and 8 KB
    head_s = 20.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > self.head_bytes_max:
                self._refuse(
                    TooLarge(
                        f"The request's headers are longer than {self.head_bytes_max} bytes.",
                        code="headers-too-large",
                        remedy="Send fewer or shorter headers; long searches can be asked in portions.",
                    )
                )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:  # another request on a connection that was kept
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_s, self._give_up)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        if self._head_bytes:
            self._refuse(
                InvalidInput(
                    f"The request's headers did not arrive within {self.head_s:.0f} s.",
                    code="request-timeout",
                    remedy="Send the whole request again.",
                )
            )
        else:
            self._head_arrived()
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's own refusal of what is no HTTP; its words are for its log."""
        self._refuse(
            InvalidInput(
                "The request cannot be read as HTTP/1.1.",
                code="malformed-request",
                remedy="Check that the port is right, and whether it speaks TLS.",
            )
        )

    def _refuse(self, error: IsocenterError) -> None:
        self._head_arrived()
        trace_id = secrets.token_hex(16)
        status, headers, body = problem(error, trace_id)
        log.info("http.problem", trace_id=trace_id, code=error.code, detail=error.detail)
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        encrypted = self.transport.get_extra_info("ssl_object") is not None
        lines += [name + b": " + value for name, value in guarded(pairs, encrypted=encrypted)]
        lines += [
            f"x-trace-id: {trace_id}".encode(),
            f"content-length: {len(body)}".encode(),
            b"connection: close",
            b"",
            b"",
        ]
        self.transport.write(b"\r\n".join(lines) + body)
        self.transport.close()
