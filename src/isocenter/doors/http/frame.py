"""Around every request: trace id, limits, errors as problem documents, security headers, access log.

Pure ASGI: the busiest routes answer in half a millisecond, a middleware that builds request and
response objects would cost a tenth of that. No patient data is logged: the query string may hold names and is
left out, of an unexpected exception only its type and where it was raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import traceback
from collections.abc import Sequence
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isocenter.doors.http.guards import HttpPolicy, guarded, preflight
from isocenter.doors.http.measures import HttpMeasures
from isocenter.doors.http.problems import problem
from isocenter.doors.http.refusals import BodyTooLarge, MethodNotAllowed, NoSuchPage, RequestTimeout
from isocenter.doors.http.services import HttpLimits
from isocenter.kit.clock import Clock
from isocenter.kit.errors import InternalError, InvalidInput, IsocenterError, Unauthenticated, Unavailable
from isocenter.platform.telemetry.privacy import logged_path

log = structlog.get_logger("isocenter.http")

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CLIENT_CLOSED = 499  # nginx's number for the log line; nobody receives it
_STACK_FRAMES_MAX = 20
_LINGER_S = 2.0
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class Frame:
    """``object_prefixes`` are the paths under which a body may be as large as its objects are."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: HttpLimits,
        policy: HttpPolicy,
        clock: Clock,
        measures: HttpMeasures,
        object_prefixes: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._policy = policy
        self._limits = limits
        self._clock = clock
        self._measures = measures
        self._object_prefixes = tuple(object_prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(
            scope,
            receive,
            send,
            limits=self._limits,
            policy=self._policy,
            bytes_max=self._bytes_max(scope),
        )
        started_s = self._clock.monotonic_s()
        try:
            self._policy.check(scope)
            exchange.check_declared_length()
            if self._policy.is_preflight(scope):
                await exchange.answer_preflight()
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the server is ending and has waited for as long as it may
            await exchange.fail(
                Unavailable("The server is being stopped.", code="stopping", remedy="Try again in a moment."),
                linger=False,
            )
        except Exception as error:  # the last line of defence
            await exchange.fail(error)
        finally:
            took_s = self._clock.monotonic_s() - started_s
            self._measures.answered(scope["method"], exchange.status, took_s)
            exchange.log(took_s)

    def _bytes_max(self, scope: Scope) -> int | None:
        if scope["path"].startswith(self._object_prefixes):
            return self._limits.object_body_bytes_max
        return self._limits.body_bytes_max


class _Exchange:
    """One request and its answer on their way through the frame."""

    __slots__ = (
        "_body_complete",
        "_bytes_max",
        "_limits",
        "_policy",
        "_receive",
        "_received_bytes",
        "_scope",
        "_send",
        "_sent_bytes",
        "status",
        "trace_id",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        limits: HttpLimits,
        policy: HttpPolicy,
        bytes_max: int | None,
    ) -> None:
        self._policy = policy
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limits = limits
        self._body_complete = False
        self._bytes_max = bytes_max
        self._received_bytes = 0
        self._sent_bytes = 0
        self.status = 0
        self.trace_id = _trace_id(scope)
        scope.setdefault("state", {})["trace_id"] = self.trace_id

    def check_declared_length(self) -> None:
        """Refuse at once what says itself that it is too large."""
        if self._bytes_max is None:
            return
        for name, value in self._scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._bytes_max:
                raise BodyTooLarge(self._bytes_max)

    async def receive(self) -> Message:
        if self.status:  # the answer has begun: this waits for the client to leave, however long that takes
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.body_silence_s):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout(self._limits.body_silence_s) from None
        self._received_bytes += len(message.get("body", b""))
        self._body_complete = not message.get("more_body")
        if self._bytes_max is not None and self._received_bytes > self._bytes_max:
            raise BodyTooLarge(self._bytes_max)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = guarded(message.get("headers", ()), encrypted=self._scope["scheme"] == "https")
            headers.extend(self._policy.cross_origin(self._scope))
            headers.append((b"x-trace-id", self.trace_id.encode()))
            message["headers"] = headers
        else:
            self._sent_bytes += len(message.get("body", b""))
        await self._send(message)

    async def answer_preflight(self) -> None:
        await self.send({"type": "http.response.start", "status": 204, "headers": preflight()})
        await self.send({"type": "http.response.body", "body": b""})

    async def fail(self, error: Exception, *, linger: bool = True) -> None:
        if isinstance(error, ClientDisconnect):
            self.status = self.status or _CLIENT_CLOSED
            return
        typed = _typed(error)
        if isinstance(typed, InternalError):
            log.error(
                "http.fault",
                trace_id=self.trace_id,
                error=type(error).__name__,
                stack="".join(traceback.format_tb(error.__traceback__)[-_STACK_FRAMES_MAX:]),
            )
        else:
            # Not its detail, which quotes what the client sent: the client has it, with the trace id.
            log.info("http.problem", trace_id=self.trace_id, code=typed.code)
        if self.status:
            # Too late for a status: returning now makes the server cut the connection, so that the client
            # sees an incomplete answer instead of a wrong one.
            return
        status, headers, body = problem(typed, self.trace_id)
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        pairs.append((b"content-length", str(len(body)).encode()))
        early = not self._body_complete and self._scope["method"] not in _WITHOUT_BODY
        if early:
            pairs.append((b"connection", b"close"))
        early = early and linger
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body, "more_body": early})
        if early:
            await self._linger()
            await self.send({"type": "http.response.body", "body": b""})

    async def _linger(self) -> None:
        """Take what the client still sends, for a moment: closing at once would reset the connection, and the
        client would see that instead of the answer (RFC 9112 §9.6)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while (await self._receive()).get("more_body"):
                    pass

    def log(self, duration_s: float) -> None:
        client = self._scope.get("client")
        log.info(
            "http.request",
            method=self._scope["method"],
            path=logged_path(self._scope["path"]),
            status=self.status,
            ms=round(duration_s * 1000, 2),
            received_bytes=self._received_bytes,
            sent_bytes=self._sent_bytes,
            client=client[0] if client else "",
            trace_id=self.trace_id,
        )


def _trace_id(scope: Scope) -> str:
    """The caller's (W3C Trace Context) or a new one: 32 hexadecimal digits."""
    for name, value in scope["headers"]:
        if name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value)):
            return match[1].decode()
    return f"{random.getrandbits(128):032x}"


def _typed(error: Exception) -> IsocenterError:
    """Whatever was raised as one of our own errors; nothing of a foreign message reaches the user."""
    if isinstance(error, IsocenterError):
        return error
    if isinstance(error, HTTPException):
        return _of_framework(error)
    return InternalError(
        "Something went wrong inside the server.",
        remedy="Try again; if it stays, tell the operator the trace_id: the log has the details.",
    )


def _of_framework(error: HTTPException) -> IsocenterError:
    headers: dict[str, Any] = dict(error.headers or {})
    match error.status_code:
        case 404:
            return NoSuchPage()
        case 405:
            return MethodNotAllowed("This method", headers.get("Allow", ""))
        case 401:
            return Unauthenticated("Nobody is signed in.")
        case status if status < 500:
            return InvalidInput("The request breaks a rule of HTTP.")
        case _:
            return InternalError("Something went wrong inside the server.")
