"""Asking an identity provider: bounded in time, size and number, without redirects, at vetted addresses.

No cookie, no environment (proxies, ~/.netrc) and no connection outlives a request: connections go to
addresses, and two providers behind one address must not get each other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
import orjson

from isocenter.features.accounts.openid.addresses import is_loopback, resolved
from isocenter.features.accounts.openid.errors import ProviderBroken, ProviderUnreachable
from isocenter.kit.errors import Busy

_CONNECT_S = 3.0
_DEADLINE_S = 10.0
_BYTES_MAX = 512 << 10
_IN_FLIGHT_MAX = 64
_IN_FLIGHT_PER_HOST_MAX = 16
_CAUSES_MAX = 10


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    def document(self, what: str) -> dict[str, Any]:
        """The JSON object in it. Raises ProviderBroken."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise ProviderBroken(f"its {what} is no JSON object")
        return found


class Fetcher:
    """``deadline_s`` is for one whole request. Raises ProviderUnreachable, ProviderBroken, Busy."""

    def __init__(self, *, deadline_s: float = _DEADLINE_S, bytes_max: int = _BYTES_MAX) -> None:
        self._deadline_s = deadline_s
        self._bytes_max = bytes_max
        self._in_flight: Counter[str] = Counter()
        self._tls: ssl.SSLContext | None = None

    async def get(self, url: str, *, loopback: bool, bearer: str = "") -> Answer:
        """``loopback``: the provider is on this machine, and this address may be too."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return await self._ask("GET", url, headers, b"", loopback=loopback)

    async def post(self, url: str, form: Mapping[str, str], *, loopback: bool, basic: str = "") -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if basic:
            headers["Authorization"] = f"Basic {basic}"
        return await self._ask("POST", url, headers, urlencode(form).encode(), loopback=loopback)

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes, *, loopback: bool
    ) -> Answer:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with self._counted(host):
            try:
                async with asyncio.timeout(self._deadline_s):
                    addresses = await resolved(host, port, loopback=loopback and is_loopback(url))
                    return await self._of_first(addresses, method, url, headers, content)
            except TimeoutError:
                raise ProviderUnreachable(f"{host} did not answer within {self._deadline_s:g} s") from None

    async def _of_first(
        self, addresses: list[str], method: str, url: str, headers: Mapping[str, str], content: bytes
    ) -> Answer:
        """Of the first address that can be connected to."""
        for address in addresses[:-1]:
            with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._of(address, method, url, headers, content)
        host = urlsplit(url).hostname
        try:
            return await self._of(addresses[-1], method, url, headers, content)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise ProviderUnreachable(f"{host} {_said(error)}") from None

    async def _of(
        self, address: str, method: str, url: str, headers: Mapping[str, str], content: bytes
    ) -> Answer:
        parts = urlsplit(url)
        own = {"Host": parts.netloc, "Accept": "application/json", "Accept-Encoding": "identity"}
        there = httpx2.URL(url).copy_with(host=address)
        timeout = httpx2.Timeout(self._deadline_s, connect=min(_CONNECT_S, self._deadline_s))
        async with (
            httpx2.AsyncClient(
                verify=await self._context(parts.scheme),
                trust_env=False,
                follow_redirects=False,
                timeout=timeout,
            ) as client,
            client.stream(
                method,
                there,
                headers={**own, **headers},
                content=content or None,
                extensions={"sni_hostname": parts.hostname},  # whose certificate is asked for and looked at
            ) as answer,
        ):
            if answer.is_redirect:
                raise ProviderBroken(f"{parts.hostname} redirects, which is not followed")
            return Answer(answer.status_code, await self._bounded(answer))

    async def _bounded(self, answer: httpx2.Response) -> bytes:
        """Undecoded: a small body cannot become a large one."""
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise ProviderBroken("it compresses what was asked for plain")
        found = bytearray()
        async for piece in answer.aiter_raw():
            found += piece
            if len(found) > self._bytes_max:
                raise ProviderBroken(f"it answers with more than {self._bytes_max >> 10} KB")
        return bytes(found)

    async def _context(self, scheme: str) -> ssl.SSLContext:
        """What this machine trusts (SSL_CERT_FILE and SSL_CERT_DIR count); read once, in a thread."""
        if scheme == "http":  # which speaks no TLS, but the client wants to be given something
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls

    @contextlib.contextmanager
    def _counted(self, host: str) -> Iterator[None]:
        """One slow provider must not take every place."""
        if self._in_flight[host] >= _IN_FLIGHT_PER_HOST_MAX or self._in_flight.total() >= _IN_FLIGHT_MAX:
            raise Busy("Too many logins wait for identity providers.", remedy="Try again in a moment.")
        self._in_flight[host] += 1
        try:
            yield
        finally:
            self._in_flight[host] -= 1
            if not self._in_flight[host]:
                del self._in_flight[host]


def _said(error: BaseException) -> str:
    """Why, in words of ours: messages of libraries hold addresses and values."""
    seen: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if seen is None:
            break
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"shows a certificate that this machine does not trust ({seen.verify_message})"
        if isinstance(seen, ssl.SSLError):
            return "does not speak TLS as it should"
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return "takes no connection"
    if isinstance(error, httpx2.TimeoutException):
        return "did not answer in time"
    return "broke off or does not speak HTTP"
