"""The door's side of the DIMSE server: what a service is asked, and what it may answer.

A service has ``admit`` and ``closed``. Every other method is optional; an operation whose method is not
there is answered for the service: 0122H (SOP class not supported) for C-, 0211H (unrecognized operation)
for N-. Signatures of the optional ones:

    async def echo(association) -> Answer
    def store(association, request, transfer_syntax_uid) -> StoreSink
    def find(association, request, identifier, transfer_syntax_uid) -> AsyncIterator[PendingAnswer]
    def move(association, request, identifier, transfer_syntax_uid, cancelled) -> AsyncIterator[SubOperations]
    def get(association, request, identifier, transfer_syntax_uid, cancelled, send)
        -> AsyncIterator[SubOperations]
    async def n_event_report / n_get / n_set / n_action / n_create / n_delete
        (association, request, data_set, transfer_syntax_uid) -> NAnswer

The iterators: the end is success (for ``move`` and ``get``: success, warning B000H or failure A702H as the
last counts say); ``raise DimseFailure(status, comment)`` ends with that status. C-CANCEL cancels the
iteration of ``find`` where it waits (``finally`` blocks run) and is answered FE00H. ``move`` and ``get`` find
``cancelled`` set, since what is on its way cannot be taken back: they come to an end soon, and FE00H is
answered with the last counts if those have something remaining. When the peer is gone all three are
cancelled. Any other exception anywhere is answered 0110H (processing failure), and the association lives on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from isocenter.dimse.net.bodies import Body, Buffer
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import (
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    CStoreResponse,
    NRequest,
    NResponse,
)
from isocenter.dimse.protocol.negotiation import AcceptedContext
from isocenter.dimse.protocol.pdu import AssociateReject, AssociateRequest, NegotiatedContext
from isocenter.dimse.protocol.user_information import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
)

# PS3.8 Table 9-21; ready-made ones with names are in isocenter.dimse.protocol.rejections.
Reject = AssociateReject


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of the wire. ``certificate`` as ``SSLSocket.getpeercert()`` gives it, and
    ``certificate_der`` as it came; both only of one that the server asked for."""

    host: str
    port: int
    certificate: Mapping[str, Any] | None = None
    tls: bool = False
    certificate_der: bytes = b""


@dataclass(frozen=True, slots=True)
class Accept:
    """``contexts`` answers each proposed one (see ``protocol.negotiation.negotiate``). The window is what
    we let the requestor keep open; it is cut to what was asked for and to the server's own bound.
    ``grant``: whatever the service wants to find again in ``AssociationInfo``."""

    contexts: tuple[NegotiatedContext, ...]
    roles: tuple[RoleSelection, ...] = ()
    user_identity_response: bytes | None = None
    asynchronous_operations_window: AsynchronousOperationsWindow | None = None
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    grant: Any = None


@dataclass(frozen=True, slots=True)
class AssociationInfo:
    """What is known of an established association. ``contexts`` by presentation context number."""

    calling_ae_title: str
    called_ae_title: str
    peer_host: str
    peer_port: int
    implementation_class_uid: str
    implementation_version_name: str
    user_identity: UserIdentity | None
    peer_certificate: Mapping[str, Any] | None
    contexts: Mapping[int, AcceptedContext]
    started_at: datetime
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[CommonExtendedNegotiation, ...] = ()
    grant: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of an operation; ``offending_elements`` are tags (0000,0901)."""

    status: int = statuses.SUCCESS
    comment: str = ""
    offending_elements: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PendingAnswer:
    """One match; the identifier is encoded in the context's transfer syntax."""

    identifier: Buffer
    status: int = statuses.PENDING


@dataclass(frozen=True, slots=True)
class SubOperations:
    """How far a C-MOVE or C-GET has come; ``failed_identifier`` (Failed SOP Instance UID List) and
    ``comment`` (Error Comment) go into the final response."""

    remaining: int
    completed: int
    failed: int = 0
    warning: int = 0
    failed_identifier: Buffer | None = None
    comment: str = ""


# Asks the peer of an association that it opened: an N- request on the presentation context of the request
# that is being answered. Its response and the response's data set. Raises AssociationAborted, DimseTimeout.
AskPeer = Callable[[NRequest, Buffer | None], Awaitable[tuple[NResponse, bytes | None]]]


@dataclass(frozen=True, slots=True)
class NAnswer:
    """``fields`` are further fields of the response message, such as ``affected_sop_instance_uid``.
    ``then`` runs once the answer is sent; it holds up neither other operations nor the association's end."""

    status: int = statuses.SUCCESS
    comment: str = ""
    offending_elements: tuple[int, ...] = ()
    data_set: Buffer | None = None
    fields: Mapping[str, Any] | None = None
    then: Callable[[AskPeer], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an association ended: ``released``, ``aborted by …``, ``connection lost``, ``idle`` …; counts of
    answered operations by kind (``"C-STORE"``), bytes of data sets received."""

    reason: str
    operations: Mapping[str, int]
    failures: int
    received_bytes: int
    duration_s: float


class StoreSink(Protocol):
    """Takes one object's data set. Exactly one of ``finish`` and ``abort`` is called, once, last."""

    def write(self, fragment: memoryview) -> Awaitable[None] | None:
        """Must copy what it keeps before it returns (or before the awaitable is done). Returns an awaitable
        only when the sender has to wait: nothing is read from this peer until it is done."""
        ...

    async def finish(self) -> Answer:
        """The data set is complete. Also runs to its end when the peer has gone meanwhile."""
        ...

    async def abort(self) -> None:
        """The connection was lost before the end, or ``write`` failed: nothing may remain."""
        ...


class SendSubOperation(Protocol):
    """Sends objects on a C-GET's own association. ``window``: how many at once (PS3.7 D.3.3.3)."""

    window: int

    async def __call__(
        self, sop_class: str, sop_instance: str, transfer_syntax: str, body: Body
    ) -> CStoreResponse:
        """The response, whatever its status. Raises ContextNotAccepted, AssociationAborted, DimseTimeout."""
        ...


class Service(Protocol):
    async def admit(self, request: AssociateRequest, peer: Peer) -> Accept | Reject:
        """Says whether this association may be, and which contexts."""
        ...

    async def closed(self, association: AssociationInfo, outcome: Outcome) -> None:
        """An admitted association is over; called once, after its last operation has ended."""
        ...


class EchoService(Service, Protocol):
    async def echo(self, association: AssociationInfo) -> Answer: ...


class StoreService(Service, Protocol):
    def store(
        self, association: AssociationInfo, request: CStoreRequest, transfer_syntax_uid: str
    ) -> StoreSink: ...


class FindService(Service, Protocol):
    def find(
        self,
        association: AssociationInfo,
        request: CFindRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
    ) -> AsyncIterator[PendingAnswer]: ...


class MoveService(Service, Protocol):
    def move(
        self,
        association: AssociationInfo,
        request: CMoveRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
        cancelled: asyncio.Event,
    ) -> AsyncIterator[SubOperations]: ...


class GetService(Service, Protocol):
    def get(  # noqa: PLR0917
        self,
        association: AssociationInfo,
        request: CGetRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
        cancelled: asyncio.Event,
        send: SendSubOperation,
    ) -> AsyncIterator[SubOperations]: ...


NHandler = Callable[[AssociationInfo, NRequest, bytes | None, str], Awaitable[NAnswer]]
