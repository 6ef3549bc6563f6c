"""Associations that we open: ``async with await connect(…) as association: await association.echo()``."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar
from weakref import WeakKeyDictionary

from isocenter.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.dimse.net.bodies import Body, Buffer
from isocenter.dimse.net.errors import (
    AssociationAborted,
    ConnectFailed,
    ContextNotAccepted,
    DimseFailure,
    DimseTimeout,
)
from isocenter.dimse.net.requestor import Receive, RequestorConnection
from isocenter.dimse.net.service import NHandler
from isocenter.dimse.net.storing import send_store
from isocenter.dimse.net.transport_options import ReceiveBuffers
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.association import Association, Role
from isocenter.dimse.protocol.limits import DEFAULT_LIMITS, Limits
from isocenter.dimse.protocol.messages import (
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CGetRequest,
    CGetResponse,
    CMoveRequest,
    CMoveResponse,
    CStoreRequest,
    CStoreResponse,
    NResponse,
    Request,
    Response,
    sop_class_uid,
)
from isocenter.dimse.protocol.negotiation import AcceptedContext, accepted_contexts
from isocenter.dimse.protocol.pdu import AssociateAccept, AssociateRequest, ProposedContext
from isocenter.dimse.protocol.user_information import (
    AsynchronousOperationsWindow,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from isocenter.kit.errors import InvalidInput

CONTEXTS_MAX = 128
"""Presentation contexts in one association: odd numbers from 1 to 255 (PS3.8 §9.3.2.2)."""

VERIFICATION = "1.2.840.10008.1.1"
DEFAULT_TRANSFER_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)

_R = TypeVar("_R", bound=Response)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One presentation context; all that are proposed get the numbers 1, 3, 5 … in order."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...] = DEFAULT_TRANSFER_SYNTAXES


async def connect(
    host: str,
    port: int,
    *,
    calling_ae_title: str,
    called_ae_title: str,
    contexts: Sequence[Proposal],
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    user_identity: UserIdentity | None = None,
    roles: Sequence[RoleSelection] = (),
    extended_negotiations: Sequence[ExtendedNegotiation] = (),
    operations_max: int = 1,
    performed_max: int = 1,
    limits: Limits = DEFAULT_LIMITS,
    connect_s: float = 10.0,
    association_s: float = 30.0,
    response_s: float = 60.0,
    write_stall_s: float = 60.0,
) -> ClientAssociation:
    """Opens an association.

    ``operations_max`` or ``performed_max`` above 1 proposes an asynchronous operations window: so many
    requests of ours, and of the peer's (C-STOREs of a C-GET), may be open at once. ``response_s``: how long
    the peer may say nothing while an answer is due.

    Raises ConnectFailed, AssociationRejected, AssociationAborted, DimseTimeout.
    """
    window = AsynchronousOperationsWindow(operations_max, performed_max)
    request = AssociateRequest(
        called_ae_title,
        calling_ae_title,
        _numbered(contexts),
        UserInformation(
            maximum_length=limits.pdata_bytes_max,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            asynchronous_operations_window=window if max(operations_max, performed_max) > 1 else None,
            roles=tuple(roles),
            extended_negotiations=tuple(extended_negotiations),
            user_identity=user_identity,
        ),
    )
    association = Association(Role.REQUESTOR, limits)
    association.connect(request)
    buffers = _buffers_of(asyncio.get_running_loop())

    def factory() -> RequestorConnection:
        return RequestorConnection(association, buffers, response_s=response_s, write_stall_s=write_stall_s)

    connection = await _open(host, port, factory, tls, server_hostname, connect_s)
    try:
        async with asyncio.timeout(association_s):
            accept = await asyncio.shield(connection.established)
    except TimeoutError:
        connection.end("the answer to our association request did not come in time")
        connection.hang_up()
        raise DimseTimeout(
            f"{called_ae_title} at {host}:{port} did not answer our request within {association_s:g} s",
            remedy="Look whether a DICOM service listens on that port.",
        ) from None
    except BaseException:
        connection.end("nobody waits for it any more")
        connection.hang_up()
        raise
    return ClientAssociation(connection, request, accept)


class ClientAssociation:
    """An established association. Operations may be called from several tasks: they share the negotiated
    window (one at a time without one) and wait for their turn."""

    def __init__(
        self, connection: RequestorConnection, request: AssociateRequest, accept: AssociateAccept
    ) -> None:
        self.request = request
        self.accept = accept
        self.contexts: Mapping[int, AcceptedContext] = accepted_contexts(request, accept)
        self._connection = connection
        window = accept.user_information.asynchronous_operations_window
        proposed = request.user_information.asynchronous_operations_window
        if window is not None and proposed is not None:
            connection.invoker.widen(min(window.invoked or proposed.invoked, proposed.invoked))
        self._contexts_by_syntax: dict[str, list[AcceptedContext]] = {}
        for context in self.contexts.values():
            self._contexts_by_syntax.setdefault(context.abstract_syntax, []).append(context)

    async def __aenter__(self) -> ClientAssociation:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.usable:
            await self.release()
        else:
            self.abort()

    @property
    def usable(self) -> bool:
        """False from the moment that either side has ended it."""
        return not self._connection.lost and self._connection.association.established

    @property
    def window(self) -> int:
        """How many operations may be open at once (PS3.7 D.3.3.3)."""
        return self._connection.invoker.window

    @property
    def busy(self) -> bool:
        """Whether an answer is still due (after a cancelled query, too)."""
        return self._connection.invoker.waiting

    async def until_quiet(self) -> None:
        """Returns once no answer is due any more, or the association is over."""
        await self._connection.invoker.until_quiet()

    def accepted(self, abstract_syntax: str) -> tuple[str, ...]:
        """The transfer syntaxes in which the peer takes it, in the order of our contexts."""
        contexts = self._contexts_by_syntax.get(abstract_syntax, ())
        return tuple(context.transfer_syntax for context in contexts)

    def context_for(self, abstract_syntax: str, transfer_syntax: str | None = None) -> AcceptedContext:
        """Raises ContextNotAccepted."""
        for context in self._contexts_by_syntax.get(abstract_syntax, ()):
            if transfer_syntax is None or context.transfer_syntax == transfer_syntax:
                return context
        wanted = abstract_syntax if transfer_syntax is None else f"{abstract_syntax} in {transfer_syntax}"
        raise ContextNotAccepted(f"{self.request.called_ae_title} did not accept {wanted}")

    async def echo(self) -> None:
        """C-ECHO. Raises DimseFailure, AssociationAborted, DimseTimeout."""
        context = self.context_for(VERIFICATION)
        response, _ = await self._single(context, CEchoRequest(message_id=0), None, CEchoResponse)
        _check(response)

    async def store(
        self,
        sop_class: str,
        sop_instance: str,
        transfer_syntax: str,
        body: Body,
        *,
        move_originator: tuple[str, int] | None = None,
    ) -> CStoreResponse:
        """C-STORE of a data set that is encoded in ``transfer_syntax``.

        Returns the response with success or a warning; raises DimseFailure for a failure status,
        ContextNotAccepted, AssociationAborted, DimseTimeout. When ``body`` itself fails half-way, the
        association is aborted, since a message cannot be taken back.
        """
        context = self.context_for(sop_class, transfer_syntax)
        request = CStoreRequest(
            message_id=0, affected_sop_class_uid=sop_class, affected_sop_instance_uid=sop_instance
        )
        if move_originator is not None:
            request.move_originator_ae_title, request.move_originator_message_id = move_originator
        connection = self._connection
        answer = await send_store(connection, connection.invoker, context.context_id, request, body)
        response = self._expected(answer, CStoreResponse)
        _check(response)
        return response

    async def find(self, model_uid: str, identifier: Buffer) -> AsyncGenerator[bytes, None]:
        """C-FIND: yields the identifiers of the matches, encoded as ``identifier`` has to be, in the transfer
        syntax of ``context_for(model_uid)``. Leaving the loop early (``aclose``) sends a C-CANCEL.

        Raises DimseFailure for a failure status, ContextNotAccepted, AssociationAborted, DimseTimeout.
        """
        async with aclosing(self.find_batches(model_uid, identifier)) as batches:
            async for batch in batches:
                for match in batch:
                    yield match

    async def find_batches(self, model_uid: str, identifier: Buffer) -> AsyncGenerator[list[bytes], None]:
        """The same, as many matches at a time as have come together."""
        context = self.context_for(model_uid)
        request = CFindRequest(message_id=0, affected_sop_class_uid=model_uid)
        batches = self._connection.invoker.batches(context.context_id, request, identifier)
        async with aclosing(batches):
            async for batch in batches:
                matches = [match for response, match in batch if match is not None and _is_pending(response)]
                if matches:
                    yield matches
                last, match = batch[-1]
                if match is None or not _is_pending(last):
                    _check(last)

    async def move(
        self, model_uid: str, destination: str, identifier: Buffer
    ) -> AsyncGenerator[tuple[CMoveResponse, bytes | None], None]:
        """C-MOVE: yields each response with its identifier; the last one has the final status, which is not
        judged here, and perhaps the list of what failed. Leaving the loop early sends a C-CANCEL."""
        context = self.context_for(model_uid)
        request = CMoveRequest(message_id=0, affected_sop_class_uid=model_uid, move_destination=destination)
        responses = self._connection.invoker.many(context.context_id, request, identifier)
        async with aclosing(responses):
            async for response, answer in responses:
                yield self._expected(response, CMoveResponse), answer

    async def get(
        self, model_uid: str, identifier: Buffer, receive: Receive
    ) -> AsyncGenerator[tuple[CGetResponse, bytes | None], None]:
        """C-GET: as ``move``. Objects go into the sinks that ``receive(request, transfer_syntax_uid)`` gives.
        Their contexts need the SCP role: ``connect(…, roles=[RoleSelection(sop_class, False, True), …])``."""
        context = self.context_for(model_uid)
        self._connection.offer(self.contexts, store=receive)
        request = CGetRequest(message_id=0, affected_sop_class_uid=model_uid)
        responses = self._connection.invoker.many(context.context_id, request, identifier)
        try:
            async with aclosing(responses):
                async for response, answer in responses:
                    yield self._expected(response, CGetResponse), answer
        finally:
            self._connection.withdraw_storage()

    async def n_request(
        self, request: Request, data_set: Buffer | None = None, *, context: AcceptedContext | None = None
    ) -> tuple[NResponse, bytes | None]:
        """Any N- request: its response, whatever its status, and the response's data set."""
        if context is None:
            context = self.context_for(sop_class_uid(request))
        response, answer = await self._single(context, request, data_set, NResponse)
        return response, answer

    def offer_events(self, n_event_report: NHandler) -> None:
        """From now on the peer may report events here (PS3.7 §10.1.1), as storage commitment's SCPs do."""
        self._connection.offer(self.contexts, n_event_report=n_event_report)

    async def release(self, *, timeout_s: float = 10.0) -> None:
        """Ends the association in good order; the connection is closed afterwards in any case."""
        connection = self._connection
        if not self.usable:
            return
        connection.association.request_release()
        connection.flush()
        done, _ = await asyncio.wait((connection.closed,), timeout=timeout_s)
        if not done:
            self.abort()

    def abort(self) -> None:
        """Ends it at once."""
        if not self._connection.lost:
            self._connection.end("aborted by us")
            self._connection.hang_up()

    async def wait_closed(self) -> None:
        await asyncio.shield(self._connection.closed)

    async def _single(
        self, context: AcceptedContext, request: Request, data_set: Buffer | None, kind: type[_R]
    ) -> tuple[_R, bytes | None]:
        response, answer = await self._connection.invoker.single(context.context_id, request, data_set)
        return self._expected(response, kind), answer

    def _expected(self, response: Response, kind: type[_R]) -> _R:
        if not isinstance(response, kind):
            self._connection.end("answered with the wrong kind of response")
            raise AssociationAborted(
                f"{self.request.called_ae_title} answered with the wrong kind of response"
            )
        return response


async def _open(  # noqa: PLR0917
    host: str,
    port: int,
    factory: Callable[[], RequestorConnection],
    tls: ssl.SSLContext | None,
    server_hostname: str | None,
    connect_s: float,
) -> RequestorConnection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(connect_s):
            _, connection = await loop.create_connection(
                factory, host, port, ssl=tls, server_hostname=server_hostname if tls else None
            )
    except TimeoutError:
        raise ConnectFailed(
            f"{host}:{port} did not answer within {connect_s:g} s",
            remedy="Look at the address, the port and the firewall between.",
        ) from None
    except ssl.SSLError as error:
        raise ConnectFailed(
            f"TLS with {host}:{port} failed: {error.reason or error}",
            remedy="Look whether that port speaks TLS, and whether each side trusts the other's certificate.",
        ) from error
    except OSError as error:
        raise ConnectFailed(
            f"no connection to {host}:{port}: {error.strerror or error}",
            remedy="Look whether that system is up and the address and port are right.",
        ) from error
    return connection


def _numbered(contexts: Sequence[Proposal]) -> tuple[ProposedContext, ...]:
    if len(contexts) > CONTEXTS_MAX:
        raise InvalidInput(
            f"An association has at most {CONTEXTS_MAX} presentation contexts, not {len(contexts)}.",
            code="too-many-contexts",
            remedy="Divide them between several associations.",
        )
    return tuple(
        ProposedContext(2 * number + 1, proposal.abstract_syntax, proposal.transfer_syntaxes)
        for number, proposal in enumerate(contexts)
    )


def _is_pending(response: Response) -> bool:
    return statuses.family(response.status) is statuses.Family.PENDING


def _check(response: Response) -> None:
    if statuses.family(response.status) in (statuses.Family.FAILURE, statuses.Family.CANCEL):
        raise DimseFailure(response.status, response.error_comment or "", response.offending_element or ())


_LOOP_BUFFERS: WeakKeyDictionary[asyncio.AbstractEventLoop, ReceiveBuffers] = WeakKeyDictionary()


def _buffers_of(loop: asyncio.AbstractEventLoop) -> ReceiveBuffers:
    buffers = _LOOP_BUFFERS.get(loop)
    if buffers is None:
        buffers = _LOOP_BUFFERS[loop] = ReceiveBuffers()
    return buffers
