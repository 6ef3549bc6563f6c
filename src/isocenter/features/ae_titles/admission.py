"""Who a caller is here: whose AE title it has, and what that may do; answered from memory.

The list of registered titles is read again when it is older than ``refresh_s``, by whoever asks first
then; so a title registered or removed by another process counts for every association and operation begun
more than ``refresh_s`` later. While the database is out of reach the last list counts on: an archive that
cannot store right now should say that (A700H), not that it has forgotten its senders.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from isocenter.features.ae_titles import queries
from isocenter.features.ae_titles.callers import Caller, Grant
from isocenter.features.ae_titles.entries import ALL_SERVICES, AeService, RefusalReason, services_of
from isocenter.features.ae_titles.notes import AssociationNotes
from isocenter.features.ae_titles.titles import Network, address_of, is_loopback, network_of
from isocenter.kit.clock import Clock
from isocenter.kit.errors import IsocenterError, Unavailable
from isocenter.platform.db import Database, Work

REFRESH_S = 1.0
DEFAULT_ORGANIZATION = 1
_RELOAD_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class _Place:
    """One registration. ``network`` None: anywhere."""

    organization_id: int
    host: str
    network: Network | None
    services: frozenset[AeService]
    certificate: str

    @property
    def precision(self) -> int:
        return -1 if self.network is None else self.network.prefixlen

    def covers(self, caller: Caller) -> bool:
        if self.network is None:
            return True
        address = address_of(caller.host)
        return address is not None and address in self.network


@dataclass(slots=True)
class _Snapshot:
    """``places`` of each title, the most specific first."""

    read_at_s: float
    places: dict[str, list[_Place]] = field(default_factory=dict)

    def place(self, caller: Caller) -> _Place | None:
        """The registration that speaks of this caller: that of the narrowest network around it."""
        return next((place for place in self.places.get(caller.ae_title, ()) if place.covers(caller)), None)


class Admission:
    """The DIMSE door's doorkeeper, for all organisations. ``close`` writes what is not yet written.

    ``admit_any``: every title may call. ``loopback_exempt``: whoever calls from this machine always may.
    Those two work for ``default_organization_id``, unless their title is registered.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        admit_any: bool = False,
        loopback_exempt: bool = True,
        refresh_s: float = REFRESH_S,
        default_organization_id: int = DEFAULT_ORGANIZATION,
        notes: AssociationNotes | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._admit_any = admit_any
        self._loopback_exempt = loopback_exempt
        self._refresh_s = refresh_s
        self._default_organization_id = default_organization_id
        self._snapshot: _Snapshot | None = None
        self._reloading: asyncio.Task[None] | None = None
        self.notes = notes or AssociationNotes(database, clock)

    async def admit(self, caller: Caller, called_ae_title: str) -> Grant | None:
        """What this caller may do; None: nothing. A refusal, and when a title was last seen, is noted.

        Microseconds, apart from one read of the list each ``refresh_s``. Raises Unavailable only when the
        list was never read and cannot be.
        """
        place, grant = await self._find(caller)
        if grant is None:
            reason = RefusalReason.CERTIFICATE_DIFFERS if place else RefusalReason.CALLING_NOT_REGISTERED
            owner = place.organization_id if place else self._default_organization_id
            self.notes.refused(owner, caller, called_ae_title, reason)
        elif place is not None:
            self.notes.seen(place.organization_id, caller.ae_title, place.host, caller.host)
        return grant

    async def upholds(self, grant: Grant, service: AeService | None = None) -> bool:
        """Whether it still stands now, and (None: whatever it may do) for this service. An association may
        last for days, and its title be taken back meanwhile."""
        if service is not None and service not in grant.services:
            return False
        _, now = await self._find(grant.caller)
        if now is None or now.organization_id != grant.organization_id:
            return False
        return service is None or service in now.services

    def refuse(
        self,
        caller: Caller,
        called_ae_title: str,
        reason: RefusalReason,
        *,
        organization_id: int | None = None,
    ) -> None:
        """Note a refusal that was decided elsewhere; of an unknown caller the default organisation hears."""
        self.notes.refused(
            self._default_organization_id if organization_id is None else organization_id,
            caller,
            called_ae_title,
            reason,
        )

    def expire(self) -> None:
        """The list was changed by this process: the next association reads it again."""
        if self._snapshot is not None:
            self._snapshot.read_at_s = float("-inf")

    async def close(self) -> None:
        if self._reloading is not None:
            await asyncio.wait({self._reloading})
        await self.notes.close()

    async def _find(self, caller: Caller) -> tuple[_Place | None, Grant | None]:
        exempt = self._admit_any or (self._loopback_exempt and is_loopback(caller.host))
        unregistered = Grant(self._default_organization_id, ALL_SERVICES, caller) if exempt else None
        try:
            place = (await self._current()).place(caller)
        except IsocenterError:
            if exempt:
                return None, unregistered
            raise
        if place is None:
            return None, unregistered
        if place.certificate and not (caller.certificate and caller.certificate.satisfies(place.certificate)):
            return place, None
        return place, Grant(place.organization_id, place.services, caller)

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
            read = await self._database.read_across(_places)
        except IsocenterError:
            if self._snapshot is None:
                raise
            self._snapshot.read_at_s = asked_at_s  # try again in a while, not with each association
            return
        places: dict[str, list[_Place]] = {}
        for title, place in read:
            places.setdefault(title, []).append(place)
        for of_title in places.values():
            of_title.sort(key=lambda place: place.precision, reverse=True)
        self._snapshot = _Snapshot(asked_at_s, places)

    def _reloaded(self, task: asyncio.Task[None]) -> None:
        self._reloading = None
        if not task.cancelled():
            task.exception()  # seen: whoever waited was told


def _places() -> Work[list[tuple[str, _Place]]]:
    rows = yield queries.FIND_ADMITTED()
    return [
        (
            row["title"],
            _Place(
                row["organization_id"],
                row["host"],
                network_of(row["host"]) if row["host"] else None,
                frozenset(services_of(row["services"])),
                row["certificate"],
            ),
        )
        for row in rows
    ]
