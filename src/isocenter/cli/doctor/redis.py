"""Does the Redis answer that several servers count attempts in?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

from isocenter.cli.doctor.findings import Finding, bad, good
from isocenter.cli.doctor.services import unreachable
from isocenter.kit.clock import SystemClock
from isocenter.kit.errors import InvalidInput
from isocenter.platform.cache import RedisAway, open_redis
from isocenter.platform.settings import Settings
from isocenter.platform.settings.model import shown

_PORT = 6379
_ALONE = "until then each server counts by itself"
# What Redis begins its refusals with, and what it means (redis.io, ACL and replication).
_MEANINGS = {
    "authentication required": (
        "it asks for a password, and redis_url has none",
        "Write the password into redis_url: redis://:password@host:6379/0",
    ),
    "invalid username-password": (
        "it refuses the user name or the password",
        "Correct them in redis_url; ACL LIST on the Redis shows its users.",
    ),
    "invalid password": ("it refuses the password", "Correct it in redis_url."),
    "no permissions": (
        "its user may not run scripts or write keys that begin with isocenter:",
        "Give it both: ACL SETUSER name ~isocenter:* +@scripting +@write +@read.",
    ),
    "read only replica": ("it is a replica, which cannot be written to", "Name its master in redis_url."),
    "maxmemory": ("its memory is full", "Raise its maxmemory, or use one with nothing else in it."),
}


def redis(settings: Settings) -> Iterator[Finding]:
    """Nothing where none is set: one server counts by itself and needs none."""
    url = settings.redis_url
    if not url:
        return
    named, parts = shown("redis_url", url), urlsplit(url)
    if parts.hostname and (away := unreachable(parts.hostname, parts.port or _PORT)):
        yield bad("redis", f"{away} {_ALONE.capitalize()}.", "Start Redis, or correct --redis-url.")
        return
    try:
        asyncio.run(_probed(url))
    except InvalidInput as error:
        yield bad("redis", error.detail, error.remedy)
    except RedisAway as error:
        says, remedy = next(
            (meaning for words, meaning in _MEANINGS.items() if words in error.reason.lower()),
            (f"it answers as no Redis does ({error.reason})", "Correct --redis-url, or look into its log."),
        )
        yield bad("redis", f"{named} cannot be used: {says}; {_ALONE}.", remedy)
    else:
        yield good("redis", f"{named} answers; servers that use it count attempts together.")


async def _probed(url: str) -> None:
    link = open_redis(url, SystemClock(), call_s=3.0)
    try:
        await link.probe()
    finally:
        await link.close()
