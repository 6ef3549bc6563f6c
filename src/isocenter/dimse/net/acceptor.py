"""One association that a peer opened: admission, operations, the end and its line in the log."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, cast

from isocenter.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from isocenter.dimse.net.bodies import Body, Buffer
from isocenter.dimse.net.connection import Connection, finish_quietly
from isocenter.dimse.net.errors import AssociationAborted, ContextNotAccepted
from isocenter.dimse.net.invoker import Invoker
from isocenter.dimse.net.performer import Performer
from isocenter.dimse.net.service import (
    Accept,
    AskPeer,
    AssociationInfo,
    Outcome,
    Peer,
    Reject,
    SendSubOperation,
    Service,
)
from isocenter.dimse.net.storing import send_store
from isocenter.dimse.net.transport_options import ReceiveBuffers
from isocenter.dimse.protocol import rejections
from isocenter.dimse.protocol.association import Association, Role
from isocenter.dimse.protocol.events import (
    Aborted,
    AssociateRejected,
    AssociateRequested,
    CommandReceived,
    DataFragment,
    Event,
    ReleaseRequested,
)
from isocenter.dimse.protocol.limits import DEFAULT_LIMITS, Limits
from isocenter.dimse.protocol.messages import (
    CStoreRequest,
    CStoreResponse,
    NRequest,
    NResponse,
    Request,
    Response,
)
from isocenter.dimse.protocol.negotiation import accepted_contexts
from isocenter.dimse.protocol.pdu import AssociateAccept, AssociateRequest
from isocenter.dimse.protocol.state import State
from isocenter.dimse.protocol.user_information import AsynchronousOperationsWindow, UserInformation
from isocenter.kit.clock import Clock

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """``associations_max``: more are rejected with "local limit exceeded"; beyond twice that number each
    connection takes the place of the one that has said nothing for longest. ``operations_max``: the largest
    asynchronous operations window granted."""

    limits: Limits = DEFAULT_LIMITS
    artim_s: float = 30.0
    idle_s: float = 60.0
    write_stall_s: float = 60.0
    associations_max: int = 500
    operations_max: int = 16
    backlog: int = 1024
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME


class Host(Protocol):
    """What a connection needs of the server it belongs to."""

    service: Service
    settings: ServerSettings
    clock: Clock
    closing: bool
    admitted: int
    answered: Counter[tuple[str, str]]

    def connected(self, connection: ServerConnection) -> bool:
        """False where there is no room even for saying no."""
        ...

    def heard(self, connection: ServerConnection) -> None:
        """It asks for an association."""
        ...

    def disconnected(self, connection: ServerConnection) -> None: ...


class ServerConnection(Connection):
    def __init__(self, server: Host, buffers: ReceiveBuffers) -> None:
        settings = server.settings
        association = Association(Role.ACCEPTOR, settings.limits, artim_s=settings.artim_s)
        super().__init__(association, buffers, idle_s=settings.idle_s, write_stall_s=settings.write_stall_s)
        self._server = server
        self._performer: Performer | None = None
        self._invoker: Invoker | None = None
        self._info: AssociationInfo | None = None
        self._admission: asyncio.Task[None] | None = None
        self._closing_task: asyncio.Task[None] | None = None
        self._peer = Peer("", 0)
        self._opened_at_s = self.loop.time()
        self._counted = False

    # ---- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        certificate = transport.get_extra_info("peercert") if tls else None
        der = tls.getpeercert(binary_form=True) if tls else None
        super().connection_made(transport)
        self._peer = Peer(*self.peer_address(), certificate or None, tls is not None, der or b"")
        if not self._server.connected(self):
            self.cut("too many connections")

    def on_over(self) -> None:
        if self._invoker is not None:
            self._invoker.fail(AssociationAborted("the association has ended"))
        if self._performer is not None:
            self._performer.stop()

    def on_closed(self) -> None:
        if self._admission is not None and not self._admission.done():
            self._admission.cancel()
        self._closing_task = self.loop.create_task(self._close())

    def expects_bytes(self) -> bool:
        """While an operation runs it is we who keep the peer waiting, unless it owes us an answer itself."""
        if self._performer is None or not self._performer.busy or self.association.mid_message:
            return True
        return self._invoker is not None and self._invoker.waiting

    # ---- events

    def on_event(self, event: Event) -> Awaitable[None] | None:
        kind = type(event)
        if kind is DataFragment:
            return self._fragment(cast(DataFragment, event))
        if kind is CommandReceived:
            return self._command(cast(CommandReceived, event))
        if isinstance(event, ReleaseRequested):
            return self._release()
        if isinstance(event, AssociateRequested):
            self._server.heard(self)
            self._admission = self.loop.create_task(self._admit(event.request))
        elif isinstance(event, AssociateRejected):
            self.end_reason = rejections.describe(event.reject)
        elif isinstance(event, Aborted):
            if event.error is None:
                self.end_reason = self.end_reason or f"aborted by {event.by}"
            self.on_over()
        return None

    def _fragment(self, event: DataFragment) -> Awaitable[None] | None:
        if self._invoker is not None and self._invoker.mid_answer:
            return self._invoker.fragment(event)
        assert self._performer is not None
        return self._performer.fragment(event)

    def _command(self, event: CommandReceived) -> Awaitable[None] | None:
        assert self._performer is not None
        if isinstance(event.message, Response):
            if self._invoker is None:
                self.end("answered what was not asked")
                return None
            return self._invoker.command(event)
        return self._performer.command(event)

    def _release(self) -> Awaitable[None] | None:
        if self._performer is not None and self._performer.busy:
            return self._release_when_quiet(self._performer)
        self._respond_release()
        return None

    async def _release_when_quiet(self, performer: Performer) -> None:
        await performer.quiet()
        if self.association.established:  # the server may have shut down meanwhile
            self._respond_release()

    def _respond_release(self) -> None:
        self.end_reason = self.end_reason or "released"
        self.association.respond_release(self.loop.time())

    # ---- admission

    async def _admit(self, request: AssociateRequest) -> None:
        server = self._server
        if server.closing or server.admitted >= server.settings.associations_max:
            self._reject(rejections.LOCAL_LIMIT_EXCEEDED)
            return
        server.admitted += 1
        self._counted = True
        try:
            async with asyncio.timeout(server.settings.artim_s):
                verdict = await server.service.admit(request, self._peer)
            if self.association.state is not State.STA3:
                return  # the peer did not wait for the answer
            if isinstance(verdict, Accept):
                self._establish(request, verdict)
            else:
                self._reject(verdict)
        except Exception:
            logger.exception("the admission of an association failed")
            if self.association.state is State.STA3:
                self._reject(rejections.TEMPORARY_CONGESTION)

    def _reject(self, reject: Reject) -> None:
        self.end_reason = rejections.describe(reject)
        self._leave()  # the peer may take its time to hang up, and hold nobody's place meanwhile
        self.association.reject(reject, self.loop.time())
        self.flush()

    def _leave(self) -> None:
        if self._counted:
            self._counted = False
            self._server.admitted -= 1

    def _establish(self, request: AssociateRequest, verdict: Accept) -> None:
        settings, proposed = self._server.settings, request.user_information
        window = _window(
            proposed.asynchronous_operations_window,
            verdict.asynchronous_operations_window,
            settings.operations_max,
        )
        accept = AssociateAccept(
            request.called_ae_title,
            request.calling_ae_title,
            verdict.contexts,
            UserInformation(
                maximum_length=settings.limits.pdata_bytes_max,
                implementation_class_uid=settings.implementation_class_uid,
                implementation_version_name=settings.implementation_version_name,
                asynchronous_operations_window=window,
                roles=verdict.roles,
                extended_negotiations=verdict.extended_negotiations,
                user_identity_response=verdict.user_identity_response,
            ),
        )
        self._info = info = AssociationInfo(
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            peer_host=self._peer.host,
            peer_port=self._peer.port,
            implementation_class_uid=proposed.implementation_class_uid,
            implementation_version_name=proposed.implementation_version_name,
            user_identity=proposed.user_identity,
            peer_certificate=self._peer.certificate,
            contexts=accepted_contexts(request, accept),
            started_at=self._server.clock.now(),
            extended_negotiations=proposed.extended_negotiations,
            common_extended_negotiations=proposed.common_extended_negotiations,
            grant=verdict.grant,
        )
        self._performer = Performer(
            self,
            self._server.service,
            info,
            window.invoked if window else 1,
            self._sub_operations,
            self._ask_peer,
            self._on_quiet,
            answered=self._server.answered,
        )
        self.association.accept(accept)
        self.flush()

    def _asking(self) -> Invoker:
        """For what we ask of a peer that called us: at first use, since most peers are asked nothing."""
        if self._invoker is None:
            accept = self.association.accept_pdu
            assert accept is not None
            window = accept.user_information.asynchronous_operations_window
            self._invoker = Invoker(self, window.performed if window else 1)
        return self._invoker

    def _sub_operations(self, request: Request) -> SendSubOperation:
        """For a C-GET: stores on this association, as the originator's sub-operation (PS3.4 C.4.3)."""
        assert self._info is not None
        return _SubOperations(self, self._asking(), self._info)

    def _ask_peer(self, context_id: int) -> AskPeer:
        async def ask(request: NRequest, data_set: Buffer | None) -> tuple[NResponse, bytes | None]:
            self.check_open()
            response, answer = await self._asking().single(context_id, request, data_set)
            if not isinstance(response, NResponse):
                self.end("answered with the wrong kind of response")
                raise AssociationAborted("the peer answered with the wrong kind of response")
            return response, answer

        return ask

    # ---- the end

    def end_when_quiet(self) -> None:
        """The server shuts down: now, or after what is under way."""
        quiet = self._performer is None or not self._performer.busy
        if quiet and not self.association.mid_message:
            self.end("the server shuts down")
            self.hang_up()

    def abandon(self) -> None:
        """The server cannot wait any longer, not even for a store that is being finished."""
        self.cut("the server shuts down")
        self.stop_waiting()
        if self._performer is not None:
            self._performer.abandon()

    def _on_quiet(self) -> None:
        if self._server.closing and not self.lost:
            self.end_when_quiet()

    async def _close(self) -> None:
        if self._admission is not None:
            await finish_quietly(asyncio.wait((self._admission,)))
        performer, info = self._performer, self._info
        if performer is not None:
            await performer.close()
        outcome = Outcome(
            reason=self._reason(),
            operations=dict(performer.counts) if performer else {},
            failures=performer.failures if performer else 0,
            received_bytes=self.received_bytes,
            duration_s=self.loop.time() - self._opened_at_s,
        )
        self._leave()
        _log(self._peer, self.association.request, outcome)
        try:
            if info is not None:
                await self._server.service.closed(info, outcome)
        except Exception:
            logger.exception("the service failed at the end of an association")
        finally:
            self._server.disconnected(self)

    def _reason(self) -> str:
        error = self.association.error
        if error is not None:
            return f"aborted by us: {error.detail}"
        return self.end_reason or "connection lost"


class _SubOperations:
    """Implements ``SendSubOperation``."""

    def __init__(self, connection: ServerConnection, invoker: Invoker, info: AssociationInfo) -> None:
        self._connection = connection
        self._invoker = invoker
        self._info = info
        self.window = invoker.window

    async def __call__(
        self, sop_class: str, sop_instance: str, transfer_syntax: str, body: Body
    ) -> CStoreResponse:
        for context in self._info.contexts.values():
            fits = context.abstract_syntax == sop_class and context.transfer_syntax == transfer_syntax
            if fits and context.scp_role:
                store = CStoreRequest(
                    message_id=0, affected_sop_class_uid=sop_class, affected_sop_instance_uid=sop_instance
                )
                connection, context_id = self._connection, context.context_id
                response = await send_store(connection, self._invoker, context_id, store, body)
                if not isinstance(response, CStoreResponse):
                    connection.end("answered with the wrong kind of response")
                    raise AssociationAborted("the peer answered with the wrong kind of response")
                return response
        raise ContextNotAccepted(
            f"{self._info.calling_ae_title} does not take SOP class {sop_class} in {transfer_syntax}"
        )


def _window(
    proposed: AsynchronousOperationsWindow | None,
    granted: AsynchronousOperationsWindow | None,
    operations_max: int,
) -> AsynchronousOperationsWindow | None:
    """PS3.7 D.3.3.3: an answer only to a proposal, no number above the proposed one; 0 is "unlimited"."""
    if proposed is None or granted is None:
        return None
    invoked = min(proposed.invoked or operations_max, granted.invoked or operations_max, operations_max)
    performed = min(proposed.performed or operations_max, granted.performed or operations_max, operations_max)
    return AsynchronousOperationsWindow(invoked, performed)


def _log(peer: Peer, request: AssociateRequest | None, outcome: Outcome) -> None:
    operations = " ".join(f"{name}={count}" for name, count in sorted(outcome.operations.items()))
    logger.info(
        "association ended: peer=%s:%d calling=%r called=%r %s failures=%d "
        "received_bytes=%d duration_s=%.3f: %s",
        peer.host,
        peer.port,
        request.calling_ae_title if request else "",
        request.called_ae_title if request else "",
        operations or "operations=0",
        outcome.failures,
        outcome.received_bytes,
        outcome.duration_s,
        outcome.reason,
    )
