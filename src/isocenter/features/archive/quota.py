"""Quotas: an organisation keeps no more than the operator allows.

Whether there is room is decided by the transaction that files (``filing.py``), which sees what every other
process has taken: a quota is never exceeded, by no byte and however many fill it at once. Where there is
probably none, an object is refused before it is put into the store: else whoever goes on sending would
fill the disk with objects that nobody refers to.
"""

from __future__ import annotations

from isocenter.features.archive.filing import Filed
from isocenter.features.archive.queries_usage import FIND_KEPT
from isocenter.features.archive.usage import Usage, find_usage
from isocenter.kit.errors import OutOfSpace
from isocenter.kit.sizes import format_bytes
from isocenter.platform.db import Database, Work
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

WARNED_AT_PERCENT = (95, 80)


class QuotaReached(OutOfSpace):
    default_code = "quota-reached"

    def __init__(self, quota_bytes: int, used_bytes: int) -> None:
        allowed, used = format_bytes(quota_bytes), format_bytes(used_bytes)
        super().__init__(
            f"Over the organisation's quota of {allowed}: {used} are used.",
            remedy="Delete what is no longer needed and purge it, or have the operator raise the quota.",
        )
        self.used_bytes = used_bytes


def check_quota(quota_bytes: int | None, filed: Filed) -> None:
    """What adds nothing is welcome also over the quota, as when it was lowered. Raises QuotaReached."""
    if quota_bytes is None or filed.usage is None or filed.growth.bytes <= 0:
        return
    if filed.usage.bytes > quota_bytes:
        raise QuotaReached(quota_bytes, filed.usage.bytes - filed.growth.bytes)


class Quotas:
    """What this process has seen of the organisations' usage."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen_bytes: dict[int, int] = {}

    async def find_room(self, organization_id: int, quota_bytes: int, size: int, sha256: str) -> None:
        """Look before an object is put: the database is asked only where, by what was seen last, there might
        be no room. What is kept already is let pass, since a duplicate needs none. Raises QuotaReached."""
        seen = self._seen_bytes.get(organization_id)
        if seen is not None and seen + size <= quota_bytes:
            return
        usage, kept = await self._database.read(_look, organization_id, sha256)
        self.note(organization_id, usage.bytes)
        if usage.bytes + size > quota_bytes and not kept:
            raise QuotaReached(quota_bytes, usage.bytes)

    def note(self, organization_id: int, used_bytes: int) -> None:
        self._seen_bytes[organization_id] = used_bytes

    def filed(self, organization_id: int, quota_bytes: int | None, filed: Filed) -> None:
        """After a commit. Of all processes' commits one passes each mark, and that one warns."""
        if quota_bytes is None or filed.usage is None:
            return
        used_bytes = filed.usage.bytes
        self.note(organization_id, used_bytes)
        for percent in WARNED_AT_PERCENT:
            if used_bytes - filed.growth.bytes < _mark(quota_bytes, percent) <= used_bytes:
                log.warning(
                    "An organisation's quota is filling up",
                    organization_id=organization_id,
                    passed_percent=percent,
                    used_bytes=used_bytes,
                    quota_bytes=quota_bytes,
                )
                return


def _mark(quota_bytes: int, percent: int) -> int:
    """At least one byte: a quota of none is passed by nothing."""
    return max(1, -(-quota_bytes * percent // 100))


def _look(organization_id: int, sha256: str) -> Work[tuple[Usage, bool]]:
    usage = yield from find_usage(organization_id)
    beginning = f"{organization_id}/{sha256[:2]}/{sha256}"
    kept = yield FIND_KEPT(organization_id=organization_id, first=f"{beginning}.", beyond=f"{beginning}/")
    return usage, bool(kept)
