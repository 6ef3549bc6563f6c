"""What is known of those who may call and of those who were refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from isocenter.dicom.ae_title import is_ae_title
from isocenter.features.ae_titles.titles import admitting_command
from isocenter.kit.errors import InvalidInput


class AeService(StrEnum):
    """What an AE title may be let do here. Verification (C-ECHO) is for everybody who may call."""

    STORE = "store"
    FIND = "find"
    MOVE = "move"  # have objects sent to a destination of its organisation
    GET = "get"  # have them sent over its own association
    COMMIT = "commit"  # ask for storage commitment, and report it to us
    WORKLIST = "worklist"  # ask what is to be done, and say what is being done


ALL_SERVICES = frozenset(AeService)
NO_SERVICE = "none"


class RefusalReason(StrEnum):
    CALLING_NOT_REGISTERED = "calling-ae-title-not-registered"
    CALLED_NOT_OURS = "called-ae-title-not-ours"
    CERTIFICATE_DIFFERS = "certificate-differs"
    IDENTITY_NOT_ACCEPTED = "user-identity-not-accepted"


@dataclass(frozen=True, slots=True)
class RegisteredTitle:
    """``host``: the address or network that the title may call from; empty: any. ``certificate``: what the
    peer's must be (``certificates.py``); empty: none is asked for. Times: µs since 1970 UTC."""

    title: str
    host: str
    description: str
    created_at_us: int
    last_seen_at_us: int | None
    last_seen_host: str
    services: tuple[AeService, ...] = tuple(AeService)
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class RefusedPeer:
    """Somebody who wanted an association and got none. ``certificate``: the fingerprint of the one that it
    showed. ``organization``: the slug to name in the command; empty for the default one. Times: µs since
    1970 UTC."""

    calling_ae_title: str
    peer_host: str
    called_ae_title: str
    reason: str
    times: int
    first_at_us: int
    last_at_us: int
    certificate: str = ""
    organization: str = ""

    @property
    def command(self) -> str:
        """The command that lets it in; empty where the peer must correct its own or the called title."""
        if not is_ae_title(self.calling_ae_title):
            return ""
        if self.reason == RefusalReason.CALLING_NOT_REGISTERED:
            return admitting_command(self.calling_ae_title, self.peer_host, organization=self.organization)
        if self.reason == RefusalReason.CERTIFICATE_DIFFERS:
            return admitting_command(
                self.calling_ae_title,
                self.peer_host,
                organization=self.organization,
                certificate=self.certificate,
            )
        return ""


def services_of(text: str) -> tuple[AeService, ...]:
    """From the table's text, in the order in which services are shown."""
    named = set(text.split(","))
    return tuple(one for one in AeService if one in named)


def checked_services(names: Iterable[str]) -> str:
    """The table's text for these services; ``none`` alone stands for no service but Verification. Raises
    InvalidInput for an empty list, or one that does not exist."""
    wanted = {name.strip().lower() for name in names} - {""}
    if wanted == {NO_SERVICE}:
        return ""
    if not wanted or wanted - {service.value for service in AeService}:
        raise InvalidInput(
            f"{','.join(sorted(wanted))[:60]!r} names no services.",
            code="invalid-services",
            remedy=f"Name some of {', '.join(AeService)}, separated by commas; or none, for C-ECHO alone.",
        )
    return ",".join(service for service in AeService if service in wanted)
