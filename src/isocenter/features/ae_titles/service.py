"""Which AE titles may call, kept by people: register, remove, list; and who was refused."""

from __future__ import annotations

from isocenter.features.ae_titles import queries
from isocenter.features.ae_titles.admission import REFRESH_S, Admission
from isocenter.features.ae_titles.entries import RefusalReason, RefusedPeer, RegisteredTitle
from isocenter.features.ae_titles.titles import address_of, checked_host, checked_title, network_of
from isocenter.kit.clock import Clock
from isocenter.kit.errors import NotFound
from isocenter.platform.db import Database, Row, Work


class AeTitles:
    """The list of those who may call, and the doorkeepers who go by it. ``close`` writes what waits.

    ``admit_any``: every title may call. ``loopback_exempt``: whoever calls from this machine always may.
    Changes by another process count within ``refresh_s``, changes by this one at once.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        admit_any: bool = False,
        loopback_exempt: bool = True,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self._database = database
        self._clock = clock
        self._admit_any = admit_any
        self._loopback_exempt = loopback_exempt
        self._refresh_s = refresh_s
        self._admissions: dict[int, Admission] = {}

    def admission(self, organization_id: int) -> Admission:
        """The organisation's doorkeeper, the same one each time."""
        admission = self._admissions.get(organization_id)
        if admission is None:
            admission = self._admissions[organization_id] = Admission(
                self._database,
                self._clock,
                organization_id,
                admit_any=self._admit_any,
                loopback_exempt=self._loopback_exempt,
                refresh_s=self._refresh_s,
            )
        return admission

    async def close(self) -> None:
        for admission in self._admissions.values():
            await admission.close()

    async def register(
        self, organization_id: int, title: str, *, host: str = "", description: str = ""
    ) -> RegisteredTitle:
        """Let ``title`` call, from ``host`` (address or network) or, when empty, from anywhere.

        Registering what is registered changes its description. Raises InvalidInput.
        """
        now_us = int(self._clock.now().timestamp() * 1_000_000)
        registered = await self._database.write(
            _register, organization_id, checked_title(title), checked_host(host), description.strip(), now_us
        )
        self.admission(organization_id).expire()
        return registered

    async def remove(self, organization_id: int, title: str, *, host: str | None = None) -> int:
        """Take back the title's registration from ``host`` (None: all of them); how many that were.

        Raises NotFound, InvalidInput.
        """
        title = checked_title(title)
        host = None if host is None else checked_host(host)
        removed = await self._database.write(_remove, organization_id, title, host)
        if not removed:
            where = f" for {host}" if host else ""
            raise NotFound(
                f"The AE title {title} is not registered{where}.",
                remedy="'isocenter ae list' shows those that are.",
            )
        self.admission(organization_id).expire()
        return removed

    async def titles(self, organization_id: int) -> list[RegisteredTitle]:
        """All registrations, by title and host."""
        return await self._database.read(_titles, organization_id)

    async def refused(self, organization_id: int, *, limit: int = 100) -> list[RefusedPeer]:
        """Who was refused, the latest first."""
        return await self._database.read(_refused, organization_id, limit)


def _register(
    organization_id: int, title: str, host: str, description: str, now_us: int
) -> Work[RegisteredTitle]:
    rows = yield queries.PUT_TITLE(
        organization_id=organization_id, title=title, host=host, description=description, now_us=now_us
    )
    refused = yield queries.LIST_REFUSED_OF_TITLE(
        organization_id=organization_id, title=title, reason=RefusalReason.CALLING_NOT_REGISTERED
    )
    let_in = [row["id"] for row in refused if _covers(host, row["peer_host"])]
    if let_in:
        yield queries.FORGET_REFUSED(organization_id=organization_id, ids=let_in)
    return _registered(rows[0])


def _covers(host: str, peer_host: str) -> bool:
    address = address_of(peer_host)
    return not host or (address is not None and address in network_of(host))


def _remove(organization_id: int, title: str, host: str | None) -> Work[int]:
    if host is None:
        rows = yield queries.REMOVE_TITLE(organization_id=organization_id, title=title)
    else:
        rows = yield queries.REMOVE_TITLE_AT_HOST(organization_id=organization_id, title=title, host=host)
    return len(rows)


def _titles(organization_id: int) -> Work[list[RegisteredTitle]]:
    rows = yield queries.LIST_TITLES(organization_id=organization_id)
    return [_registered(row) for row in rows]


def _registered(row: Row) -> RegisteredTitle:
    return RegisteredTitle(
        row["title"],
        row["host"],
        row["description"],
        row["created_at_us"],
        row["last_seen_at_us"],
        row["last_seen_host"],
    )


def _refused(organization_id: int, limit: int) -> Work[list[RefusedPeer]]:
    rows = yield queries.LIST_REFUSED(organization_id=organization_id, limit=limit)
    refused = [
        RefusedPeer(
            row["calling_ae_title"],
            row["peer_host"],
            row["called_ae_title"],
            row["reason"],
            row["times"],
            row["first_at_us"],
            row["last_at_us"],
        )
        for row in rows
    ]
    titles = yield queries.FIND_ADMITTED(organization_id=organization_id)
    return [peer for peer in refused if not _let_in_since(peer, titles)]


def _let_in_since(peer: RefusedPeer, titles: list[Row]) -> bool:
    return peer.reason == RefusalReason.CALLING_NOT_REGISTERED and any(
        row["title"] == peer.calling_ae_title and _covers(row["host"], peer.peer_host) for row in titles
    )
