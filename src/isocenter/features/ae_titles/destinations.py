"""Where AE titles are reached: for objects that somebody has sent to them, and for what is reported to them.

Not the list of callers: who may call says nothing of whom we call. An organisation knows its own destinations
only, and a title leads to one place in each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from isocenter.dicom.ae_title import checked_title
from isocenter.dicom.transfer_syntaxes import TRANSFER_SYNTAXES
from isocenter.features.ae_titles import queries
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import InvalidInput, NotFound
from isocenter.kit.hosts import checked_host_name
from isocenter.platform.db import Database, Row, Work

ASSOCIATIONS_MAX = 64
AVAILABILITY_AFTER_S_MAX = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Destination:
    """``address``: a host's name or address. ``tls_name``: the name in its certificate; empty: the address.

    ``transfer_syntaxes``: what it likes best, in order; an object that cannot be had so goes in its own.
    ``associations_max``: how many we open to it at once. ``availability_after_s``: studies that rest so long
    are told to it (Instance Availability Notification); None: none are. Times: µs since 1970 UTC.
    """

    title: str
    address: str
    port: int
    tls: bool = False
    tls_name: str = ""
    transfer_syntaxes: tuple[str, ...] = ()
    associations_max: int = 4
    availability_after_s: int | None = None
    description: str = ""
    created_at_us: int = 0


class Destinations:
    """The list, kept by people."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def put(self, organization_id: int, wanted: Destination) -> Destination:
        """Add it, or change the one of that title to it. Raises InvalidInput."""
        now_us = microseconds(self._clock.now())
        return await self._database.write(_put, organization_id, checked(wanted), now_us)

    async def remove(self, organization_id: int, title: str) -> None:
        """Raises NotFound, InvalidInput."""
        if not await self._database.write(_remove, organization_id, checked_title(title)):
            raise NotFound(
                f"There is no destination {title}.",
                code="no-such-destination",
                remedy="'isocenter ae list' shows those that there are.",
            )

    async def all(self, organization_id: int) -> list[Destination]:
        """By title."""
        return await self._database.read(_all, organization_id)

    async def find(self, organization_id: int, title: str) -> Destination | None:
        return await self._database.read(_find, organization_id, title)

    async def told_of_studies(self) -> list[tuple[int, Destination]]:
        """Of all organisations, those to whom the availability of studies is told, each with whose it is."""
        return await self._database.read_across(_told_of_studies)


def checked(wanted: Destination) -> Destination:
    """The same in canonical form. Raises InvalidInput."""
    address = checked_host_name(wanted.address)
    for name, value, least, most in (
        ("port", wanted.port, 1, 65535),
        ("number of associations", wanted.associations_max, 1, ASSOCIATIONS_MAX),
        ("time of rest in seconds", wanted.availability_after_s or 1, 1, AVAILABILITY_AFTER_S_MAX),
    ):
        if not least <= value <= most:
            raise InvalidInput(
                f"The {name} is {value}.",
                code="invalid-destination",
                remedy=f"It is between {least} and {most}.",
            )
    return replace(
        wanted,
        title=checked_title(wanted.title),
        address=address,
        tls_name=wanted.tls_name.strip(),
        transfer_syntaxes=_checked_syntaxes(wanted.transfer_syntaxes),
        description=wanted.description.strip(),
    )


def _checked_syntaxes(uids: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(uid.strip() for uid in uids if uid.strip()))
    for uid in wanted:
        if uid not in TRANSFER_SYNTAXES:
            raise InvalidInput(
                f"{uid[:70]!r} is no transfer syntax.",
                code="unknown-transfer-syntax",
                remedy="Give UIDs such as 1.2.840.10008.1.2.1 (Explicit VR Little Endian).",
            )
    return wanted


def _put(organization_id: int, wanted: Destination, now_us: int) -> Work[Destination]:
    values = asdict(wanted) | {
        "tls": int(wanted.tls),
        "transfer_syntaxes": ",".join(wanted.transfer_syntaxes),
        "created_at_us": now_us,
    }
    rows = yield queries.PUT_DESTINATION(organization_id=organization_id, **values)
    return _destination(rows[0])


def _remove(organization_id: int, title: str) -> Work[bool]:
    rows = yield queries.REMOVE_DESTINATION(organization_id=organization_id, title=title)
    return bool(rows)


def _all(organization_id: int) -> Work[list[Destination]]:
    rows = yield queries.LIST_DESTINATIONS(organization_id=organization_id)
    return [_destination(row) for row in rows]


def _find(organization_id: int, title: str) -> Work[Destination | None]:
    rows = yield queries.FIND_DESTINATION(organization_id=organization_id, title=title)
    return _destination(rows[0]) if rows else None


def _told_of_studies() -> Work[list[tuple[int, Destination]]]:
    rows = yield queries.FIND_TOLD_OF_STUDIES()
    return [(row["organization_id"], _destination(row)) for row in rows]


def _destination(row: Row) -> Destination:
    return Destination(
        row["title"],
        row["address"],
        row["port"],
        bool(row["tls"]),
        row["tls_name"],
        tuple(uid for uid in row["transfer_syntaxes"].split(",") if uid),
        row["associations_max"],
        row["availability_after_s"],
        row["description"],
        row["created_at_us"],
    )
