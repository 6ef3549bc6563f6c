"""How often somebody may try: a sliding window for each address and each login, bounded in memory.

Each process counts what it sees. With a Redis all of them count together too; when that is away, what this
process has seen still counts, so nobody gets more tries here, and nobody is locked out.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass

from isocenter.features.accounts.shared_attempts import SharedAttempts
from isocenter.kit.clock import Clock
from isocenter.kit.errors import RateLimited
from isocenter.platform.cache import RedisLink

ATTEMPTS_MAX = 5
_WINDOW_S = 60.0
_IPV6_NETWORK_BITS = 64  # what one household or server is given: changing the rest costs nothing


@dataclass(frozen=True, slots=True)
class Counted:
    """What an attempt was counted under, and as what."""

    keys: tuple[str, ...]
    attempt: str


class Attempts:
    """At most ``attempts_max`` a minute under one key; the ``keys_max`` keys used last are remembered.

    ``scope`` tells what is tried apart where several share a Redis; it begins each key.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        attempts_max: int = ATTEMPTS_MAX,
        keys_max: int = 20_000,
        scope: str = "",
        redis: RedisLink | None = None,
    ) -> None:
        self._clock = clock
        self._attempts_max = attempts_max
        self._keys_max = keys_max
        self._scope = scope
        self._shared = (
            SharedAttempts(redis, clock, attempts_max=attempts_max, window_s=_WINDOW_S) if redis else None
        )
        self._at_s: OrderedDict[str, deque[float]] = OrderedDict()

    async def begin(self, address: str, login: str = "") -> Counted:
        """Count an attempt before it is looked at, so that many at once are counted too.

        What it was counted under, for ``forgive``. Raises RateLimited; that is no attempt.
        """
        named = (_address_key(address), *([_login_key(login)] if login else []))
        keys = tuple(self._scope + key for key in named)
        counted = Counted(keys, secrets.token_hex(8))
        self._count(keys)
        if self._shared is not None and (wait_s := await self._shared.begin(keys, counted.attempt)):
            self._uncount(keys)
            raise _too_many(wait_s)
        return counted

    async def forgive(self, counted: Counted) -> None:
        """This attempt was right: a ward behind one address logs in without being held up."""
        self._uncount(counted.keys)
        if self._shared is not None:
            await self._shared.forgive(counted.keys, counted.attempt)

    def _count(self, keys: tuple[str, ...]) -> None:
        """In this process. Raises RateLimited."""
        now_s = self._clock.monotonic_s()
        for key in keys:
            at_s = self._at_s.get(key)
            while at_s and now_s - at_s[0] >= _WINDOW_S:
                at_s.popleft()
            if at_s and len(at_s) >= self._attempts_max:
                raise _too_many(_WINDOW_S - (now_s - at_s[0]))
        for key in keys:
            self._at_s.setdefault(key, deque()).append(now_s)
            self._at_s.move_to_end(key)
        while len(self._at_s) > self._keys_max:
            self._at_s.popitem(last=False)

    def _uncount(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            if at_s := self._at_s.get(key):
                at_s.pop()


def _too_many(wait_s: float) -> RateLimited:
    return RateLimited(
        "There were too many attempts.",
        remedy="Wait a minute; an administrator can give you a new password.",
        retry_after_s=int(wait_s) + 1,
    )


def _address_key(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"address {address[:64]}"
    if parsed.version == 6:
        return f"address {ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False)}"
    return f"address {parsed}"


def _login_key(login: str) -> str:
    """A hash: what somebody typed here may be a password, and is of any length."""
    return hashlib.sha256(login.encode("utf-8", "surrogatepass")).hexdigest()
