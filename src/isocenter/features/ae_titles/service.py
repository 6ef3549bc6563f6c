"""Which AE titles may call, kept by people: register, remove, list; and who was refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from isocenter.dicom.ae_title import checked_title
from isocenter.features.ae_titles import queries
from isocenter.features.ae_titles.admission import DEFAULT_ORGANIZATION, REFRESH_S, Admission
from isocenter.features.ae_titles.certificates import checked_certificate
from isocenter.features.ae_titles.entries import (
    AeService,
    RefusalReason,
    RefusedPeer,
    RegisteredTitle,
    checked_services,
    services_of,
)
from isocenter.features.ae_titles.titles import address_of, checked_host, network_of
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Conflict, NotFound
from isocenter.platform.db import Database, Row, Work


class AeTitles:
    """The list of those who may call, and the doorkeeper who goes by it. ``close`` writes what waits.

    ``admit_any``: every title may call. ``loopback_exempt``: whoever calls from this machine always may.
    Unregistered, those work for ``default_organization_id``.
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
        default_organization_id: int = DEFAULT_ORGANIZATION,
    ) -> None:
        self._database = database
        self._clock = clock
        self.admission = Admission(
            database,
            clock,
            admit_any=admit_any,
            loopback_exempt=loopback_exempt,
            refresh_s=refresh_s,
            default_organization_id=default_organization_id,
        )

    async def close(self) -> None:
        await self.admission.close()

    async def register(
        self,
        organization_id: int,
        title: str,
        *,
        host: str = "",
        description: str = "",
        services: Iterable[str] | None = None,
        certificate: str | None = None,
        by_operator: bool = False,
    ) -> RegisteredTitle:
        """Let ``title`` call, from ``host`` (address or network) or, when empty, from anywhere; for these
        services (``AeService``, or ``none`` for C-ECHO alone), and only with this certificate.

        Registering what is registered changes its description, and services and certificate where they are
        given. Raises InvalidInput, Conflict where another organisation has the title at that place, or in a
        network that overlaps: since the narrowest network wins, whoever administers one hospital could draw
        another's objects to it. Operators may; they know both.
        """
        now_us = microseconds(self._clock.now())
        if not by_operator:
            await self._database.read_across(
                _check_nobody_elses, organization_id, checked_title(title), checked_host(host)
            )
        registered = await self._database.write(
            _register,
            organization_id,
            _Wanted(
                checked_title(title),
                checked_host(host),
                description.strip(),
                None if services is None else checked_services(services),
                None if certificate is None else checked_certificate(certificate),
            ),
            now_us,
        )
        self.admission.expire()
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
        self.admission.expire()
        return removed

    async def titles(self, organization_id: int) -> list[RegisteredTitle]:
        """All registrations, by title and host."""
        return await self._database.read(_titles, organization_id)

    async def refused(self, organization_id: int, *, limit: int = 100) -> list[RefusedPeer]:
        """Who was refused, the latest first."""
        return await self._database.read(_refused, organization_id, limit)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A registration as the table has it; None: as it is, or the default for a new one."""

    title: str
    host: str
    description: str
    services: str | None
    certificate: str | None


def _register(organization_id: int, wanted: _Wanted, now_us: int) -> Work[RegisteredTitle]:
    title, host = wanted.title, wanted.host
    change = queries.CHANGE_TITLE(organization_id=organization_id, **asdict(wanted))
    rows = yield change
    if not rows:
        rows = yield queries.ADD_TITLE(
            organization_id=organization_id,
            title=title,
            host=host,
            description=wanted.description,
            services=checked_services(AeService) if wanted.services is None else wanted.services,
            certificate=wanted.certificate or "",
            now_us=now_us,
        )
    if not rows:  # somebody was faster: of this organisation, or of another
        rows = yield change
    if not rows:
        raise _taken(title, host)
    registered = _registered(rows[0])
    refused = yield queries.LIST_REFUSED_OF_TITLE(organization_id=organization_id, title=title)
    let_in = [row["id"] for row in refused if _lets_in(title, host, registered.certificate, _refusal_of(row))]
    if let_in:
        yield queries.FORGET_REFUSED(organization_id=organization_id, ids=let_in)
    return registered


def _check_nobody_elses(organization_id: int, title: str, host: str) -> Work[None]:
    rows = yield queries.FIND_PLACES_OF_OTHERS(organization_id=organization_id, title=title)
    for row in rows:
        place = row["host"]
        if not host or not place or network_of(host).overlaps(network_of(place)):
            raise _taken(title, host)


def _taken(title: str, host: str) -> Conflict:
    return Conflict(
        f"The AE title {title} cannot be registered for {host or 'any address'}: it is taken there.",
        code="ae-title-taken",
        remedy="Bind it to the address that it calls from, give it another title, or ask the operator.",
    )


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
        services_of(row["services"]),
        row["certificate"],
    )


def _refused(organization_id: int, limit: int) -> Work[list[RefusedPeer]]:
    rows = yield queries.LIST_REFUSED(organization_id=organization_id, limit=limit)
    titles = yield queries.FIND_LET_IN(organization_id=organization_id)
    slug = ""
    if organization_id != DEFAULT_ORGANIZATION:
        [found] = yield queries.FIND_SLUG(organization_id=organization_id)
        slug = found["slug"]
    return [
        RefusedPeer(
            row["calling_ae_title"],
            row["peer_host"],
            row["called_ae_title"],
            row["reason"],
            row["times"],
            row["first_at_us"],
            row["last_at_us"],
            row["certificate"],
            slug,
        )
        for row in rows
        if not any(
            _lets_in(one["title"], one["host"], one["certificate"], _refusal_of(row)) for one in titles
        )
    ]


_Refusal = tuple[str, str, str, str]
"""Title, address, reason, and the fingerprint of the certificate shown."""


def _refusal_of(row: Row) -> _Refusal:
    return row["calling_ae_title"], row["peer_host"], row["reason"], row["certificate"]


def _lets_in(title: str, host: str, certificate: str, refused: _Refusal) -> bool:
    """Whether a registration answers a refusal. One by a certificate's name may or may not: that stays."""
    its_title, peer_host, reason, shown = refused
    if title != its_title or not _covers(host, peer_host):
        return False
    if reason == RefusalReason.CALLING_NOT_REGISTERED:
        return True
    return reason == RefusalReason.CERTIFICATE_DIFFERS and certificate in {"", shown}
