"""What an association tells its user. Fragments point into the receive buffer: they are valid until
the next ``feed``; whoever keeps their bytes copies them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isocenter.dimse.protocol.errors import RemoteProtocolError
from isocenter.dimse.protocol.messages import Message
from isocenter.dimse.protocol.pdu import AssociateAccept, AssociateReject, AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociateRequested:
    """A peer asks for an association; answer with ``accept`` or ``reject``."""

    request: AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociateAccepted:
    accept: AssociateAccept


@dataclass(frozen=True, slots=True)
class AssociateRejected:
    """The peer said no, or (``by_us``) the request was none that any user could have accepted."""

    reject: AssociateReject
    by_us: bool = False


@dataclass(slots=True)
class CommandReceived:
    """A command set is complete; where ``has_data_set``, :class:`DataFragment` events follow."""

    context_id: int
    message: Message
    has_data_set: bool


@dataclass(slots=True)
class DataFragment:
    """Some bytes of the data set of the last command; ``is_last`` on exactly the final one (may be empty)."""

    context_id: int
    data: memoryview
    is_last: bool


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer is done; answer with ``respond_release`` when nothing is left to send."""


@dataclass(frozen=True, slots=True)
class Released:
    """Our release was answered."""


class AbortedBy(StrEnum):
    PEER_USER = "the peer"
    PEER_PROVIDER = "the peer's network layer"
    LOCAL_PROVIDER = "us"
    CONNECTION_LOST = "the loss of the connection"


@dataclass(frozen=True, slots=True)
class Aborted:
    """The association is over without a release. ``error`` says what the peer did wrong, if it did."""

    by: AbortedBy
    reason: int = 0
    error: RemoteProtocolError | None = None


Event = (
    AssociateRequested
    | AssociateAccepted
    | AssociateRejected
    | CommandReceived
    | DataFragment
    | ReleaseRequested
    | Released
    | Aborted
)
