"""Attempts as several processes count them together: one sorted set in Redis for each address and login.

A member is one attempt, its score the moment. What is older than the window is thrown away at each look; a
set that nobody looks at any more ends by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.kit.clock import Clock
from isocenter.platform.cache import RedisAway, RedisLink

_PREFIX = "isocenter:{attempts}:"

# Looks at all keys before it counts under any: a refused attempt is none.
_BEGIN = """
local now, window, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for _, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
    if redis.call('ZCARD', key) >= most then
        return redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] + window - now
    end
end
for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, now, ARGV[4])
    redis.call('PEXPIRE', key, window)
end
return 0
"""

_FORGIVE = """
for _, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[1]) end
return 0
"""


class SharedAttempts:
    """At most ``attempts_max`` in ``window_s`` under one key, in all processes over this Redis."""

    def __init__(self, redis: RedisLink, clock: Clock, *, attempts_max: int, window_s: float) -> None:
        self._redis = redis
        self._clock = clock
        self._attempts_max = attempts_max
        self._window_ms = int(window_s * 1000)

    async def begin(self, keys: Sequence[str], attempt: str) -> float:
        """Seconds until there may be one more; 0: it is counted, or Redis is away and nobody can say."""
        now_ms = int(self._clock.now().timestamp() * 1000)
        arguments = (now_ms, self._window_ms, self._attempts_max, attempt)
        try:
            waits_ms = int(await self._redis.run(_BEGIN, _named(keys), arguments))
        except RedisAway:
            return 0
        # Another server's clock may be ahead of ours.
        return min(max(waits_ms, 0), self._window_ms) / 1000

    async def forgive(self, keys: Sequence[str], attempt: str) -> None:
        try:
            await self._redis.run(_FORGIVE, _named(keys), (attempt,))
        except RedisAway:
            return  # it counts for a minute


def _named(keys: Sequence[str]) -> list[str]:
    return [_PREFIX + key for key in keys]
