"""What a provider says of itself (OpenID Connect Discovery 1.0) and its keys (RFC 7517), kept for an hour."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from isocenter.features.accounts.openid.addresses import checked_endpoint, is_loopback
from isocenter.features.accounts.openid.errors import ProviderBroken, ProviderUnreachable
from isocenter.features.accounts.openid.fetching import Answer, Fetcher
from isocenter.features.accounts.openid.keys import ALGORITHMS, VerificationKey, keys_in
from isocenter.kit.clock import Clock

T = TypeVar("T")

WELL_KNOWN = "/.well-known/openid-configuration"
_KEPT_S = 3600.0
_KEPT_MAX = 200
_PLAIN = "client_secret_basic"


@dataclass(frozen=True, slots=True)
class Metadata:
    """Of what a provider says, what we use. Addresses that it does not have are empty.

    ``auth_method``: how a client shows its secret. ``names_itself``: its answers carry ``iss`` (RFC 9207).
    ``s256``: whether it says that it looks at PKCE; None: it says nothing.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    end_session_endpoint: str
    auth_method: str
    algorithms: tuple[str, ...]
    names_itself: bool
    s256: bool | None


class Discovery:
    """Raises ProviderUnreachable, ProviderBroken, Busy."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self._fetcher = fetcher
        self._metadata: _Kept[Metadata] = _Kept(clock)
        self._keys: _Kept[tuple[VerificationKey, ...]] = _Kept(clock)

    async def metadata(self, issuer: str, *, fresh: bool = False) -> Metadata:
        return await self._metadata.get(issuer, lambda: self._discovered(issuer), fresh=fresh)

    async def keys(self, metadata: Metadata, *, fresh: bool = False) -> tuple[VerificationKey, ...]:
        """``fresh``: a token names a key that was not among them."""
        key = f"{metadata.issuer} {metadata.jwks_uri}"
        return await self._keys.get(key, lambda: self._fetched(metadata), fresh=fresh)

    async def _discovered(self, issuer: str) -> Metadata:
        answer = await self._fetcher.get(issuer.rstrip("/") + WELL_KNOWN, loopback=is_loopback(issuer))
        _check_status(answer, "discovery document")
        return metadata_in(answer.document("discovery document"), issuer)

    async def _fetched(self, metadata: Metadata) -> tuple[VerificationKey, ...]:
        answer = await self._fetcher.get(metadata.jwks_uri, loopback=is_loopback(metadata.issuer))
        _check_status(answer, "key set")
        keys = keys_in(answer.document("key set"))
        if not keys:
            raise ProviderBroken(f"it has no key for {', '.join(ALGORITHMS)} that can be used")
        return keys


def metadata_in(document: dict[str, Any], issuer: str) -> Metadata:
    """Raises ProviderBroken; says so where the issuer is another one (Discovery 1.0 §4.3)."""
    if document.get("issuer") != issuer:
        raise ProviderBroken(
            f"the document under {issuer} is another issuer's",
            f"Is this the issuer: {_shown(document.get('issuer'))}? It has to be written exactly so.",
        )
    loopback = is_loopback(issuer)

    def endpoint(name: str) -> str:
        return checked_endpoint(document.get(name), loopback=loopback, what=name)

    def endpoint_or_none(name: str) -> str:
        return endpoint(name) if document.get(name) else ""

    if "code" not in _words(document, "response_types_supported", ["code"]):
        raise ProviderBroken("it does not offer the authorization code flow")
    methods = _words(document, "code_challenge_methods_supported", [])
    return Metadata(
        issuer=issuer,
        authorization_endpoint=endpoint("authorization_endpoint"),
        token_endpoint=endpoint("token_endpoint"),
        jwks_uri=endpoint("jwks_uri"),
        userinfo_endpoint=endpoint_or_none("userinfo_endpoint"),
        end_session_endpoint=endpoint_or_none("end_session_endpoint"),
        auth_method=_auth_method(_words(document, "token_endpoint_auth_methods_supported", [_PLAIN])),
        algorithms=_algorithms(_words(document, "id_token_signing_alg_values_supported", ["RS256"])),
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        s256="S256" in methods if methods else None,
    )


def _auth_method(offered: list[str]) -> str:
    for method in (_PLAIN, "client_secret_post", "none"):
        if method in offered:
            return method
    raise ProviderBroken(
        "it takes a client's secret neither as client_secret_basic nor as client_secret_post"
    )


def _algorithms(offered: list[str]) -> tuple[str, ...]:
    common = tuple(algorithm for algorithm in ALGORITHMS if algorithm in offered)
    if not common:
        raise ProviderBroken(f"it signs with none of {', '.join(ALGORITHMS)}")
    return common


def _words(document: dict[str, Any], name: str, default: list[str]) -> list[str]:
    found = document.get(name)
    if found is None:
        return default
    if not isinstance(found, list):
        raise ProviderBroken(f"{name} in its discovery document is no list")
    return [word for word in found if isinstance(word, str)]


def _shown(value: object) -> str:
    """For an administrator's eyes; printable, and not a whole page."""
    text = value if isinstance(value, str) else "none at all"
    return "".join(character for character in text[:200] if character.isprintable())


def _check_status(answer: Answer, what: str) -> None:
    if answer.status >= 500:
        raise ProviderUnreachable(f"its {what} answers {answer.status}")
    if answer.status != 200:
        raise ProviderBroken(f"its {what} answers {answer.status}, not 200")


class _Kept(Generic[T]):
    """Values of the last hour, so many at most; of several who ask for a new one at once, one fetches it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, key: str, fetch: Callable[[], Awaitable[T]], *, fresh: bool) -> T:
        if not fresh and (found := self._found(key)):
            return found[1]
        asked_s = self._clock.monotonic_s()
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            found = self._found(key)
            if found and (not fresh or found[0] > asked_s):
                return found[1]
            value = await fetch()
            self._values[key] = (self._clock.monotonic_s(), value)
            self._values.move_to_end(key)
            while len(self._values) > _KEPT_MAX:
                self._values.popitem(last=False)
            return value

    def _found(self, key: str) -> tuple[float, T] | None:
        found = self._values.get(key)
        if found is None or self._clock.monotonic_s() - found[0] >= _KEPT_S:
            return None
        return found
