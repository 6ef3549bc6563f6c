"""Whether a calling AE title may have an association, answered from memory.

The list of registered titles is read again when it is older than ``refresh_s``, by whoever asks first
then; so a title registered or removed by another process counts for every association asked for more than
``refresh_s`` later. While the database is out of reach the last list counts on: an archive that cannot store
right now should say that (A700H), not that it has forgotten its senders.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from isocenter.features.ae_titles import queries
from isocenter.features.ae_titles.entries import RefusalReason
from isocenter.features.ae_titles.notes import AssociationNotes
from isocenter.features.ae_titles.titles import Network, address_of, is_loopback, network_of
from isocenter.kit.clock import Clock
from isocenter.kit.errors import IsocenterError, Unavailable
from isocenter.platform.db import Database, Work

REFRESH_S = 1.0
_RELOAD_S_MAX = 2.0


@dataclass(slots=True)
class _Snapshot:
    """``places`` of each title, with their text in the table; None as a network: anywhere."""

    read_at_s: float
    places: dict[str, list[tuple[str, Network | None]]] = field(default_factory=dict)

    def place(self, title: str, peer_host: str) -> str | None:
        """The registration that lets this peer in, by its host's text; None where there is none."""
        for host, network in self.places.get(title, ()):
            if network is None:
                return host
            address = address_of(peer_host)
            if address is not None and address in network:
                return host
        return None


class Admission:
    """The doorkeeper of one organisation's DIMSE door. ``close`` writes what is not yet written.

    ``admit_any``: every title may call. ``loopback_exempt``: whoever calls from this machine always may.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        organization_id: int,
        *,
        admit_any: bool = False,
        loopback_exempt: bool = True,
        refresh_s: float = REFRESH_S,
        notes: AssociationNotes | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._organization_id = organization_id
        self._admit_any = admit_any
        self._loopback_exempt = loopback_exempt
        self._refresh_s = refresh_s
        self._snapshot: _Snapshot | None = None
        self._reloading: asyncio.Task[None] | None = None
        self.notes = notes or AssociationNotes(database, clock, organization_id)

    async def admits(self, calling_ae_title: str, peer_host: str, called_ae_title: str) -> bool:
        """Whether this peer may call; a refusal, and when a title was last seen, is noted.

        Microseconds, apart from one read of the list each ``refresh_s``. Raises Unavailable only when the
        list was never read and cannot be.
        """
        exempt = self._admit_any or (self._loopback_exempt and is_loopback(peer_host))
        try:
            snapshot = await self._current()
        except IsocenterError:
            if exempt:
                return True
            raise
        place = snapshot.place(calling_ae_title, peer_host)
        if place is not None:
            self.notes.seen(calling_ae_title, place, peer_host)
        elif not exempt:
            self.refuse(calling_ae_title, peer_host, called_ae_title, RefusalReason.CALLING_NOT_REGISTERED)
            return False
        return True

    def refuse(
        self, calling_ae_title: str, peer_host: str, called_ae_title: str, reason: RefusalReason
    ) -> None:
        """Note a refusal that was decided elsewhere."""
        self.notes.refused(calling_ae_title, peer_host, called_ae_title, reason)

    def expire(self) -> None:
        """The list was changed by this process: the next association reads it again."""
        if self._snapshot is not None:
            self._snapshot.read_at_s = float("-inf")

    async def close(self) -> None:
        if self._reloading is not None:
            await asyncio.wait({self._reloading})
        await self.notes.close()

    async def _current(self) -> _Snapshot:
        snapshot = self._snapshot
        if snapshot is not None and self._clock.monotonic_s() - snapshot.read_at_s <= self._refresh_s:
            return snapshot
        if self._reloading is None:
            self._reloading = asyncio.create_task(self._reload(), name="ae-titles")
            self._reloading.add_done_callback(self._reloaded)
        reloading = self._reloading
        # Bounded: a database that hangs must not hold up peers that the last list knows.
        await asyncio.wait({reloading}, timeout=None if snapshot is None else _RELOAD_S_MAX)
        if self._snapshot is None:
            error = reloading.exception()
            raise error or Unavailable("The list of AE titles could not be read.", retry_after_s=5)
        return self._snapshot

    async def _reload(self) -> None:
        asked_at_s = self._clock.monotonic_s()
        try:
            rows = await self._database.read(_admitted, self._organization_id)
        except IsocenterError:
            if self._snapshot is None:
                raise
            self._snapshot.read_at_s = asked_at_s  # try again in a while, not with each association
            return
        places: dict[str, list[tuple[str, Network | None]]] = {}
        for title, host in rows:
            places.setdefault(title, []).append((host, network_of(host) if host else None))
        self._snapshot = _Snapshot(asked_at_s, places)

    def _reloaded(self, task: asyncio.Task[None]) -> None:
        self._reloading = None
        if not task.cancelled():
            task.exception()  # seen: whoever waited was told


def _admitted(organization_id: int) -> Work[list[tuple[str, str]]]:
    rows = yield queries.FIND_ADMITTED(organization_id=organization_id)
    return [(row["title"], row["host"]) for row in rows]
