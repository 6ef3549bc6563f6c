"""What is known of those who may call and of those who were refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isocenter.features.ae_titles.titles import admitting_command, is_ae_title


class RefusalReason(StrEnum):
    CALLING_NOT_REGISTERED = "calling-ae-title-not-registered"
    CALLED_NOT_OURS = "called-ae-title-not-ours"


@dataclass(frozen=True, slots=True)
class RegisteredTitle:
    """``host``: the address or network that the title may call from; empty: any. Times: µs since 1970 UTC."""

    title: str
    host: str
    description: str
    created_at_us: int
    last_seen_at_us: int | None
    last_seen_host: str


@dataclass(frozen=True, slots=True)
class RefusedPeer:
    """Somebody who wanted an association and got none. Times: µs since 1970 UTC."""

    calling_ae_title: str
    peer_host: str
    called_ae_title: str
    reason: str
    times: int
    first_at_us: int
    last_at_us: int

    @property
    def command(self) -> str:
        """The command that lets it in; empty where the peer must correct its own or the called title."""
        if self.reason != RefusalReason.CALLING_NOT_REGISTERED or not is_ae_title(self.calling_ae_title):
            return ""
        return admitting_command(self.calling_ae_title, self.peer_host)
