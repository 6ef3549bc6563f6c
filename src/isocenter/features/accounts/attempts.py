"""How often somebody may try: a sliding window for each address and each login, bounded in memory."""

from __future__ import annotations

import hashlib
import ipaddress
from collections import OrderedDict, deque

from isocenter.kit.clock import Clock
from isocenter.kit.errors import RateLimited

_WINDOW_S = 60.0
_IPV6_NETWORK_BITS = 64  # what one household or server is given: changing the rest costs nothing


class Attempts:
    """At most ``attempts_max`` a minute under one key; the ``keys_max`` keys used last are remembered."""

    def __init__(self, clock: Clock, *, attempts_max: int = 5, keys_max: int = 20_000) -> None:
        self._clock = clock
        self._attempts_max = attempts_max
        self._keys_max = keys_max
        self._at_s: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, address: str, login: str = "") -> tuple[str, ...]:
        """Count an attempt before it is looked at, so that many at once are counted too.

        The keys it was counted under, for ``forgive``. Raises RateLimited; that is no attempt.
        """
        now_s = self._clock.monotonic_s()
        keys = (_address_key(address), *([_login_key(login)] if login else []))
        for key in keys:
            at_s = self._at_s.get(key)
            while at_s and now_s - at_s[0] >= _WINDOW_S:
                at_s.popleft()
            if at_s and len(at_s) >= self._attempts_max:
                raise RateLimited(
                    "There were too many attempts.",
                    remedy="Wait a minute; an administrator can give you a new password.",
                    retry_after_s=int(_WINDOW_S - (now_s - at_s[0])) + 1,
                )
        for key in keys:
            self._at_s.setdefault(key, deque()).append(now_s)
            self._at_s.move_to_end(key)
        while len(self._at_s) > self._keys_max:
            self._at_s.popitem(last=False)
        return keys

    def forgive(self, keys: tuple[str, ...]) -> None:
        """This attempt was right: a ward behind one address logs in without being held up."""
        for key in keys:
            if at_s := self._at_s.get(key):
                at_s.pop()


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
