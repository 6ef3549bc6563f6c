"""What is looked at before a request is let in: its Host, its address, where a browser's page came from.

CORS: pages of exactly the origins that the operator lists may read answers, with credentials; from a page of
any other origin its browser withholds the answer. A preflight carries no credentials and needs none
(Fetch §3.2.2): it says only what any page of such an origin could learn by trying.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Scope

from isocenter.doors.http.refusals import TooManyParameters, UnknownHost, UrlTooLong

Header = tuple[bytes, bytes]

PATH_BYTES_MAX = 16 << 10
QUERY_PARAMETERS_MAX = 1000

_EXPOSED = (
    b"Content-Disposition, Content-Range, ETag, Location, Retry-After, Warning, WWW-Authenticate,"
    b" X-Total-Count, X-Trace-Id"
)
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = b"Accept, Authorization, Content-Type, If-Match, If-None-Match, Range, traceparent, X-CSRF-Token"
_PREFLIGHT_KEPT_S = b"600"
_HEALTH = "/health/"

# Answers hold patient data: no cache may keep them, no page may embed them, no browser may take them for a
# page (OWASP REST security). CORP stops `<img>` and `<script>` of other sites; viewers read by CORS.
_ALWAYS: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HSTS: Header = (b"strict-transport-security", b"max-age=31536000")


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """``origins`` of pages that may read answers; ``hosts``: the names that are answered, empty: any."""

    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()

    def check(self, scope: Scope) -> None:
        """Raises UnknownHost, UrlTooLong, TooManyParameters."""
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        if len(path) > PATH_BYTES_MAX:
            raise UrlTooLong(PATH_BYTES_MAX)
        if scope["query_string"].count(b"&") >= QUERY_PARAMETERS_MAX:
            raise TooManyParameters(QUERY_PARAMETERS_MAX)
        # Probes of an orchestrator know an address only, and health tells nothing.
        if self.hosts and not scope["path"].startswith(_HEALTH):
            named = [value for name, value in scope["headers"] if name == b"host"]
            if len(named) != 1 or host_name(named[0].decode("latin-1")) not in self.hosts:
                raise UnknownHost

    def is_preflight(self, scope: Scope) -> bool:
        if not self.origins or scope["method"] != "OPTIONS" or not self._origin(scope):
            return False
        return any(name == b"access-control-request-method" for name, _ in scope["headers"])

    def cross_origin(self, scope: Scope) -> list[Header]:
        """For every answer; a preflight's answer has those of `preflight` too."""
        if not self.origins:
            return []
        origin = self._origin(scope)
        varies = [(b"vary", b"Origin")]
        if not origin:
            return varies
        return [
            *varies,
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def _origin(self, scope: Scope) -> bytes:
        """The page's, where it is one of ours; empty otherwise."""
        found = [value for name, value in scope["headers"] if name == b"origin"]
        if len(found) == 1 and found[0].decode("latin-1") in self.origins:
            return bytes(found[0])
        return b""


def preflight() -> list[Header]:
    return [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-max-age", _PREFLIGHT_KEPT_S),
    ]


def guarded(headers: Iterable[Header], *, encrypted: bool) -> list[Header]:
    """With what every answer carries unless its route says otherwise; HSTS where TLS is spoken."""
    given = list(headers)
    present = {name for name, _ in given}
    given.extend(pair for pair in _ALWAYS if pair[0] not in present)
    if encrypted:
        given.append(_HSTS)
    return given


def host_name(authority: str) -> str:
    """Of ``Host: name:port``, in lower case; an IPv6 address keeps its brackets (RFC 3986 §3.2.2)."""
    name, colon, port = authority.rpartition(":")
    bare = name if colon and (port.isdigit() or not port) else authority
    return bare.lower().removesuffix(".")
