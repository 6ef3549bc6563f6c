"""The connection under an association that we opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

from isocenter.dimse.net.connection import Connection
from isocenter.dimse.net.errors import AssociationAborted, AssociationRejected, DimseFailure, DimseTimeout
from isocenter.dimse.net.invoker import Invoker
from isocenter.dimse.net.performer import Performer
from isocenter.dimse.net.service import AssociationInfo, NHandler, StoreSink
from isocenter.dimse.net.transport_options import ReceiveBuffers
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.association import Association
from isocenter.dimse.protocol.events import (
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    CommandReceived,
    DataFragment,
    Event,
    Released,
    ReleaseRequested,
)
from isocenter.dimse.protocol.messages import CStoreRequest, Response
from isocenter.dimse.protocol.negotiation import AcceptedContext
from isocenter.dimse.protocol.pdu import AssociateAccept
from isocenter.kit.clock import SystemClock
from isocenter.kit.errors import IsocenterError

# Gives the sink for one object: (request, transfer syntax).
Receive = Callable[[CStoreRequest, str], StoreSink]


class RequestorConnection(Connection):
    """``established`` is set to the peer's A-ASSOCIATE-AC, or to why there is none."""

    def __init__(
        self, association: Association, buffers: ReceiveBuffers, *, response_s: float, write_stall_s: float
    ) -> None:
        super().__init__(association, buffers, idle_s=response_s, write_stall_s=write_stall_s)
        self.established: asyncio.Future[AssociateAccept] = self.loop.create_future()
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.invoker = Invoker(self, 1)
        self.performer: Performer | None = None
        self._offered = _Offered()
        self._error: IsocenterError | None = None
        self._closing_task: asyncio.Task[None] | None = None

    def expects_bytes(self) -> bool:
        return self.invoker.waiting or self.association.mid_message

    def on_idle(self) -> None:
        self._error = DimseTimeout(
            f"{self._called()} said nothing for {self._idle_s:g} s",
            remedy="Look whether that system is overloaded, or allow it more time.",
        )
        self.end(self._error.detail)
        self.hang_up()
        self._fail(self._error)

    def on_event(self, event: Event) -> Awaitable[None] | None:
        if isinstance(event, DataFragment):
            if self.invoker.mid_answer:
                return self.invoker.fragment(event)
            return self.performer.fragment(event) if self.performer else None
        if isinstance(event, CommandReceived):
            if isinstance(event.message, Response):
                return self.invoker.command(event)
            return self._request(event)
        self._control(event)
        return None

    def _control(self, event: Event) -> None:
        if isinstance(event, AssociateAccepted):
            if not self.established.done():
                self.established.set_result(event.accept)
        elif isinstance(event, AssociateRejected):
            self._fail(AssociationRejected(event.reject, self._called()))
        elif isinstance(event, ReleaseRequested):
            self._fail(AssociationAborted(f"{self._called()} ended the association"))
            self.association.respond_release(self.loop.time())
        elif isinstance(event, Released):
            self._fail(AssociationAborted("the association was released"))
        elif isinstance(event, Aborted):
            if event.error is not None:
                why = f"{self._called()} broke the protocol: {event.error.detail}"
            else:
                why = f"the association with {self._called()} ended: {_BY[event.by.name]}"
            self._fail(AssociationAborted(why))

    def _request(self, event: CommandReceived) -> Awaitable[None] | None:
        """Something is asked of us, who opened the association: C-STORE for a C-GET, N-EVENT-REPORT."""
        if self.performer is None:
            self.end("asked for an operation, which we did not offer")
            return None
        return self.performer.command(event)

    def offer(
        self,
        contexts: Mapping[int, AcceptedContext],
        *,
        store: Receive | None = None,
        n_event_report: NHandler | None = None,
    ) -> None:
        """From now on the peer may do this here: store, as the sub-operations of a C-GET do (PS3.4 C.4.3),
        or report events (PS3.7 §10.1.1). What was offered before stays."""
        self._offered.receive = store or self._offered.receive
        if n_event_report is not None:
            self._offered.n_event_report = n_event_report
        if self.performer is not None:
            return
        request, accept = self.association.request, self.association.accept_pdu
        assert request is not None and accept is not None, "an association comes first"
        host, port = self.peer_address()
        info = AssociationInfo(
            calling_ae_title=request.called_ae_title,
            called_ae_title=request.calling_ae_title,
            peer_host=host,
            peer_port=port,
            implementation_class_uid=accept.user_information.implementation_class_uid,
            implementation_version_name=accept.user_information.implementation_version_name,
            user_identity=None,
            peer_certificate=None,
            contexts=contexts,
            started_at=SystemClock().now(),
        )
        window = request.user_information.asynchronous_operations_window
        granted = accept.user_information.asynchronous_operations_window
        performed = min(window.performed, granted.performed or window.performed) if window and granted else 1
        self.performer = Performer(
            self, self._offered, info, performed, _asks_nothing, _asks_nothing, _nothing
        )

    def withdraw_storage(self) -> None:
        """Objects that come now, after a C-GET that nobody waits for, are refused."""
        self._offered.receive = None

    def on_over(self) -> None:
        if self.performer is not None:
            self.performer.stop()

    def on_closed(self) -> None:
        self._fail(AssociationAborted(f"{self._called()} closed the connection"))
        if self.performer is not None:
            self._closing_task = self.loop.create_task(self._close(self.performer))
        else:
            self.closed.set_result(None)

    async def _close(self, performer: Performer) -> None:
        await performer.close()
        self.closed.set_result(None)

    def end(self, reason: str) -> None:
        super().end(reason)
        self._fail(AssociationAborted(f"we ended the association with {self._called()}: {reason}"))

    def _fail(self, error: IsocenterError) -> None:
        """The first reason is the one that everybody hears."""
        if self._error is None:
            self._error = error
        self.end_reason = self.end_reason or self._error.detail
        if not self.established.done():
            self.established.set_exception(self._error)
            self.established.exception()  # asked for: nobody may be waiting any more
        self.invoker.fail(self._error)

    def _called(self) -> str:
        request = self.association.request
        return request.called_ae_title if request is not None else "the peer"


class _Offered:
    """A service that can do what was offered to the peer, and nothing else."""

    n_event_report: NHandler

    def __init__(self) -> None:
        self.receive: Receive | None = None

    def store(
        self, association: AssociationInfo, request: CStoreRequest, transfer_syntax_uid: str
    ) -> StoreSink:
        if self.receive is None:
            raise DimseFailure(statuses.SOP_CLASS_NOT_SUPPORTED)
        return self.receive(request, transfer_syntax_uid)


def _asks_nothing(_: object) -> NoReturn:
    """We opened the association: what we have to ask goes through its invoker."""
    raise DimseFailure(statuses.SOP_CLASS_NOT_SUPPORTED)


def _nothing() -> None:
    pass


_BY = {
    "PEER_USER": "it was aborted there by the application",
    "PEER_PROVIDER": "it was aborted there by the network layer",
    "LOCAL_PROVIDER": "we aborted it",
    "CONNECTION_LOST": "the connection was lost",
}
