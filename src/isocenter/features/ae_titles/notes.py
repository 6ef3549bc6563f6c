"""What is written down about associations, later and in one go, so that no association waits for it.

Bounded against a flood of invented titles: at most ``waiting_max`` refused peers wait in memory (further
new ones are counted, not kept) and the table keeps the ``rows_max`` that were refused last.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from isocenter.features.ae_titles import queries
from isocenter.features.ae_titles.callers import Caller
from isocenter.features.ae_titles.entries import RefusalReason
from isocenter.features.ae_titles.titles import admitting_command, shown_host
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import Database, IntegrityViolation, Work
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

REFUSED_ROWS_MAX = 1000
_SEEN_EVERY_S = 60.0
_SAID_EVERY_S = 60.0

_Key = tuple[int, str, str]
"""Organisation, AE title, and where it called from or where it is registered."""


@dataclass(slots=True)
class _Refusal:
    called_ae_title: str
    reason: RefusalReason
    certificate: str
    times: int
    first_at_us: int
    last_at_us: int


class AssociationNotes:
    """Collects refusals and sightings; writes them ``flush_s`` after the first that waits."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        flush_s: float = 1.0,
        waiting_max: int = 256,
        rows_max: int = REFUSED_ROWS_MAX,
    ) -> None:
        self._database = database
        self._clock = clock
        self._flush_s = flush_s
        self._waiting_max = waiting_max
        self._rows_max = rows_max
        self._refusals: dict[_Key, _Refusal] = {}
        self._seen: dict[_Key, tuple[str, int]] = {}
        self._seen_at_s: OrderedDict[_Key, float] = OrderedDict()
        self._said_at_s: OrderedDict[_Key, float] = OrderedDict()
        self._not_kept = 0
        self._flushing: asyncio.Task[None] | None = None

    def seen(self, organization_id: int, title: str, host: str, peer_host: str) -> None:
        """A registered title called. Written at most once a minute for each registration."""
        key, now_s = (organization_id, title, host), self._clock.monotonic_s()
        if not _is_due(self._seen_at_s, key, now_s, _SEEN_EVERY_S, 4 * self._waiting_max):
            return
        self._seen[key] = (shown_host(peer_host), self._now_us())
        self._flush_soon()

    def refused(
        self, organization_id: int, caller: Caller, called_ae_title: str, reason: RefusalReason
    ) -> None:
        """Somebody was refused: remembered, and said in the log once a minute for each peer."""
        key, now_us = (organization_id, caller.ae_title, shown_host(caller.host)), self._now_us()
        certificate = caller.certificate.fingerprint if caller.certificate else ""
        refusal = self._refusals.get(key)
        if refusal is not None:
            refusal.called_ae_title, refusal.reason = called_ae_title, reason
            refusal.certificate = certificate
            refusal.times += 1
            refusal.last_at_us = now_us
        elif len(self._refusals) >= self._waiting_max:
            self._not_kept += 1
        else:
            self._refusals[key] = _Refusal(called_ae_title, reason, certificate, 1, now_us, now_us)
            self._say(key, called_ae_title, reason, certificate)
        self._flush_soon()

    async def flush(self) -> None:
        """Write what waits. What cannot be written stays, within the bounds."""
        refusals, self._refusals = self._refusals, {}
        seen, self._seen = self._seen, {}
        if self._not_kept:
            log.warning("Too many refused callers to remember them all", not_kept=self._not_kept)
            self._not_kept = 0
        for organization_id in sorted({key[0] for key in [*refusals, *seen]}):
            of_one = {key: refusals[key] for key in refusals if key[0] == organization_id}
            seen_by_one = {key: seen[key] for key in seen if key[0] == organization_id}
            try:
                await self._database.write(_write, organization_id, of_one, seen_by_one, self._rows_max)
            except IntegrityViolation:
                continue  # the organisation is there no more
            except IsocenterError as error:
                log.warning("Refused callers cannot be written down now", reason=error.detail)
                self._put_back(of_one, seen_by_one)

    async def close(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait({self._flushing})
        await self.flush()

    def _put_back(self, refusals: dict[_Key, _Refusal], seen: dict[_Key, tuple[str, int]]) -> None:
        for key, refusal in refusals.items():
            newer = self._refusals.get(key)
            if newer is not None:
                newer.times += refusal.times
                newer.first_at_us = refusal.first_at_us
            elif len(self._refusals) < self._waiting_max:
                self._refusals[key] = refusal
        self._seen = seen | self._seen

    def _say(self, key: _Key, called_ae_title: str, reason: RefusalReason, certificate: str) -> None:
        if not _is_due(self._said_at_s, key, self._clock.monotonic_s(), _SAID_EVERY_S, self._waiting_max):
            return
        _, title, peer_host = key
        told = {"calling_ae_title": title, "peer_host": peer_host}
        match reason:
            case RefusalReason.CALLING_NOT_REGISTERED:
                log.warning(
                    "Refused a caller that is not registered",
                    **told,
                    let_it_in=admitting_command(title, peer_host),
                )
            case RefusalReason.CERTIFICATE_DIFFERS:
                log.warning(
                    "Refused a caller with another certificate than it is registered with",
                    **told,
                    certificate=certificate or "none",
                    remedy="'isocenter ae list' shows the command that lets it in.",
                )
            case RefusalReason.IDENTITY_NOT_ACCEPTED:
                log.warning(
                    "Refused a caller whose user identity was not accepted",
                    **told,
                    remedy="Correct the user name and passcode, or the token, at the peer.",
                )
            case RefusalReason.CALLED_NOT_OURS:
                log.warning(
                    "Refused a caller that asked for another AE title",
                    **told,
                    called_ae_title=called_ae_title,
                    remedy="Correct the called AE title at the peer, or our own with --ae-title.",
                )

    def _flush_soon(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_later(), name="association-notes")

    async def _flush_later(self) -> None:
        while self._refusals or self._seen or self._not_kept:
            await asyncio.sleep(self._flush_s)
            # Shielded: close() cancels the waiting, not a write under way.
            await asyncio.shield(asyncio.ensure_future(self.flush()))

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


def _is_due(
    done_at_s: OrderedDict[_Key, float],
    key: _Key,
    now_s: float,
    every_s: float,
    entries_max: int,
) -> bool:
    """Whether ``key`` was not done within ``every_s``; notes that it is done now. Forgets the oldest."""
    last_s = done_at_s.get(key)
    if last_s is not None and now_s - last_s < every_s:
        return False
    done_at_s[key] = now_s
    done_at_s.move_to_end(key)
    if len(done_at_s) > entries_max:
        done_at_s.popitem(last=False)
    return True


def _write(
    organization_id: int,
    refusals: dict[_Key, _Refusal],
    seen: dict[_Key, tuple[str, int]],
    rows_max: int,
) -> Work[None]:
    if seen:
        yield queries.NOTE_SEEN.many(
            [
                {
                    "organization_id": organization_id,
                    "title": title,
                    "host": host,
                    "peer_host": peer_host,
                    "at_us": at_us,
                }
                for (_, title, host), (peer_host, at_us) in sorted(seen.items())
            ]
        )
    if refusals:
        yield queries.NOTE_REFUSED.many(
            [
                {
                    "organization_id": organization_id,
                    "title": title,
                    "peer_host": peer_host,
                    "called_ae_title": refusal.called_ae_title,
                    "reason": refusal.reason,
                    "certificate": refusal.certificate,
                    "times": refusal.times,
                    "first_at_us": refusal.first_at_us,
                    "last_at_us": refusal.last_at_us,
                }
                for (_, title, peer_host), refusal in sorted(refusals.items())
            ]
        )
        yield queries.FORGET_OLDEST_REFUSED(organization_id=organization_id, rows_max=rows_max)
