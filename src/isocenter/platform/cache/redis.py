"""A Redis or Valkey that may be away: calls are short, and after a failed one there is none for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from isocenter.kit.clock import Clock
from isocenter.kit.errors import InvalidInput

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool

log = structlog.get_logger("isocenter.redis")

CALL_S = 1.0
PAUSE_S = 5.0
_PROBE = "redis.call('SET', KEYS[1], 1, 'PX', 1000) return redis.call('DEL', KEYS[1])"
_CONNECTIONS_MAX = 16


class RedisAway(Exception):
    """Caught by whoever asked, who then goes on alone. ``reason`` names no password."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def open_redis(url: str, clock: Clock, *, call_s: float = CALL_S) -> RedisLink:
    """Connects at the first call. Raises InvalidInput for a URL that says what this program does not know."""
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS_MAX,
            timeout=None,  # it would run out together with ours
            # The driver can lose a cancellation while it waits for a connection; its own limit is 10 s.
            socket_timeout=call_s,
            socket_connect_timeout=call_s,
            protocol=2,  # Redis 5 and whatever is compatible speaks it too
            retry=Retry(NoBackoff(), 1),  # a kept connection may have ended unseen
            decode_responses=True,
        )
        pool.make_connection()  # type: ignore[no-untyped-call]  # not connected; it looks at what the URL's query says
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            "redis_url cannot be understood.",
            code="invalid-redis-url",
            remedy="Write it as redis://:password@host:6379/0, with TLS as rediss://…",
        ) from error
    return RedisLink(pool, clock, server=_named(url), call_s=call_s)


class RedisLink:
    """``server`` is its address for people; ``call_s`` what one call may take."""

    def __init__(
        self, pool: BlockingConnectionPool, clock: Clock, *, server: str, call_s: float = CALL_S
    ) -> None:
        from redis.asyncio import Redis

        self._pool = pool
        self._redis = Redis(connection_pool=pool)
        self._clock = clock
        self._server = server
        self._call_s = call_s
        self._scripts: dict[str, Any] = {}
        self._reason = ""  # why it is away
        self._asked_again_s = 0.0

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """What a Lua script returns; all of it happens at once. Raises RedisAway."""
        if self._reason:
            now_s = self._clock.monotonic_s()
            if now_s < self._asked_again_s:
                raise RedisAway(self._reason)
            self._asked_again_s = now_s + PAUSE_S  # the others go on alone meanwhile
        try:
            answer = await self._call(script, keys, arguments)
        except RedisAway as error:
            self._note_gone(error.reason)
            raise
        if self._reason:
            self._reason = ""
            log.info("Redis is back; processes count together again", server=self._server)
        return answer

    async def probe(self) -> None:
        """Whether it can be written to now, without a word in the log. Raises RedisAway."""
        await self._call(_PROBE, ["isocenter:probe"], ())

    async def close(self) -> None:
        await self._redis.aclose()
        await self._pool.disconnect()

    async def _call(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        from redis.exceptions import RedisError

        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(script)
        try:
            async with asyncio.timeout(self._call_s):
                return await self._scripts[script](keys=keys, args=arguments)
        except TimeoutError as error:
            raise RedisAway(f"no answer within {self._call_s:g} s") from error
        except (RedisError, OSError) as error:
            raise RedisAway(_said(error)) from error

    def _note_gone(self, reason: str) -> None:
        if not self._reason:
            log.warning(
                "Redis cannot be used; this process counts by itself until it is back",
                server=self._server,
                reason=reason,
                remedy="See whether it runs and redis_url is right; 'isocenter doctor' looks too.",
            )
        self._reason = reason
        self._asked_again_s = self._clock.monotonic_s() + PAUSE_S


def _said(error: Exception) -> str:
    """An error of the driver in a few words."""
    words = str(error) or type(error).__name__
    return words.partition("\n")[0][:200]


def _named(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
