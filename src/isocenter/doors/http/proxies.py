"""Where a request came from, where proxies stand in between: X-Forwarded-For and Forwarded (RFC 7239).

They are believed only where the peer is a proxy that the operator named: anybody else may write into them
what they like, and a forged address would pass for another's in login limits and in the audit trail.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOPS_MAX = 20
_PAIR = re.compile(r'(?:^|;)\s*(for|proto)=("?)([^";,\s]*)\2\s*(?=;|$)', re.IGNORECASE)


class TrustedProxies:
    """Outermost of all, so that logs and limits see the client's address."""

    def __init__(self, app: ASGIApp, *, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = tuple(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._proxies and scope.get("client"):
            peer, port = scope["client"]
            address = _address(peer)
            if address is not None and self._trusts(address):
                headers = scope["headers"]
                client, scheme = self._client(headers, peer), _scheme(headers)
                scope = {
                    **scope,
                    "client": (client, port if client == peer else 0),
                    "scheme": scheme or scope["scheme"],
                }
        await self._app(scope, receive, send)

    def _client(self, headers: Sequence[tuple[bytes, bytes]], peer: str) -> str:
        """The last hop that is no proxy of ours. Where both headers are there and differ, one was sent by the
        client and passed on by a proxy that writes the other: neither is believed."""
        chains = [chain for chain in (_forwarded_for(headers), _forwarded(headers)) if chain]
        found = {self._last_stranger(chain, peer) for chain in chains}
        return found.pop() if len(found) == 1 else peer

    def _last_stranger(self, chain: list[str], peer: str) -> str:
        seen = peer
        for hop in reversed(chain[-_HOPS_MAX:]):
            address = _address(hop)
            if address is None:
                return seen
            seen = str(address)
            if not self._trusts(address):
                return seen
        return seen

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)


def _values(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> Iterator[str]:
    for name, value in headers:
        if name == wanted:
            yield from (part.strip() for part in value.decode("latin-1").split(","))


def _forwarded_for(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    return list(_values(headers, b"x-forwarded-for"))


def _forwarded(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    return [_pairs(element).get("for", "") for element in _values(headers, b"forwarded")]


def _scheme(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """What the nearest proxy says it was asked by; empty where it says nothing sound or two things."""
    said = {value.lower() for value in list(_values(headers, b"x-forwarded-proto"))[-1:]}
    last = list(_values(headers, b"forwarded"))[-1:]
    said |= {_pairs(element).get("proto", "").lower() for element in last}
    said.discard("")
    return said.pop() if len(said) == 1 and said <= {"http", "https"} else ""


def _pairs(element: str) -> dict[str, str]:
    return {name.lower(): value for name, _, value in _PAIR.findall(element)}


def _address(text: str) -> Address | None:
    """Of ``192.0.2.1``, ``192.0.2.1:4711``, ``2001:db8::1`` or ``[2001:db8::1]:4711``."""
    bare = text
    if text.startswith("["):
        bare = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        bare = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
