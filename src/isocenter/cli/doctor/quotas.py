"""Is an organisation about to be refused for its quota?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from isocenter.cli.doctor.findings import Finding, bad, good
from isocenter.kit.errors import IsocenterError
from isocenter.kit.sizes import format_bytes
from isocenter.platform.db import open_database
from isocenter.platform.db.open import sqlite_path
from isocenter.platform.settings import Settings

if TYPE_CHECKING:
    from isocenter.features.archive.holdings import Held

_NEARLY_FULL_PERCENT = 95


def quotas(settings: Settings) -> Iterator[Finding]:
    """Silent where nobody has a quota, and where the database cannot tell: its own check says why."""
    try:
        limited = [held for held in _held(settings) if held.percent_of_quota is not None]
    except IsocenterError:
        return
    limited.sort(key=lambda held: held.percent_of_quota or 0)
    if not limited:
        return
    nearly_full = [held for held in limited if (held.percent_of_quota or 0) >= _NEARLY_FULL_PERCENT]
    if not nearly_full:
        yield good("quotas", f"The fullest: {_told(limited[-1])}.")
        return
    yield bad(
        "quotas",
        f"{'; '.join(map(_told, reversed(nearly_full)))}. At 100 % its senders are refused.",
        f"Delete, or raise it: isocenter org set {nearly_full[-1].slug} quota_bytes=…",
    )


def _told(held: Held) -> str:
    return f"{held.slug} uses {held.percent_of_quota:.1f} % of its {format_bytes(held.quota_bytes or 0)}"


def _held(settings: Settings) -> list[Held]:
    url = settings.database_url_or_default
    path = sqlite_path(url)
    if path is not None and not path.exists():
        return []

    async def ask() -> list[Held]:
        from isocenter.features.archive.holdings import Holdings
        from isocenter.kit.clock import SystemClock

        database = await open_database(url, migrate=False)
        try:
            return await Holdings(database, SystemClock()).of_all()
        finally:
            await database.close()

    return asyncio.run(ask())
