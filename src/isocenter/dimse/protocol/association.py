"""One end of an association without a socket and without a clock: bytes in, events out, time as an argument.

    association = Association.acceptor(limits, artim_s=30)
    association.transport_opened(now_s)
    for event in association.feed(data, now_s): ...
    transport.writelines(association.take_output())
    if association.closing: transport.close()
    timer = association.next_deadline_s()          # then: association.handle_timeout(now_s)

``feed`` never raises for what a peer sent; it answers an A-ABORT and tells with an ``Aborted`` event.
The other methods raise LocalProtocolError when the state machine has no such move.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from isocenter.dimse.protocol import command_set
from isocenter.dimse.protocol.assembly import Assembler
from isocenter.dimse.protocol.errors import (
    InvalidPduParameterValue,
    LocalProtocolError,
    RemoteProtocolError,
    UnexpectedPdu,
)
from isocenter.dimse.protocol.events import (
    Aborted,
    AbortedBy,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Event,
    Released,
    ReleaseRequested,
)
from isocenter.dimse.protocol.framing import PDV_OVERHEAD_BYTES, Framer, Pdu, Piece
from isocenter.dimse.protocol.limits import DEFAULT_LIMITS, Limits
from isocenter.dimse.protocol.messages import Message
from isocenter.dimse.protocol.pdu import (
    APPLICATION_CONTEXT,
    PDV_COMMAND,
    PDV_LAST,
    RELEASE_RP_BYTES,
    RELEASE_RQ_BYTES,
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
    PduType,
    data_header,
    decode_abort,
    decode_associate_accept,
    decode_associate_reject,
    decode_associate_request,
    encode_abort,
    encode_associate_accept,
    encode_associate_reject,
    encode_associate_request,
)
from isocenter.dimse.protocol.rejections import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
)
from isocenter.dimse.protocol.state import (
    ACTIONS,
    SENDING_STATES,
    TRANSITIONS,
    Action,
    Evt,
    State,
    Step,
)

Buffer = bytes | bytearray | memoryview


class Role(Enum):
    REQUESTOR = auto()
    ACCEPTOR = auto()


USER_ABORT = Abort(0, 0)  # the reason has no meaning with this source (PS3.8 Table 9-26)

_EVT_OF_PDU = {
    PduType.ASSOCIATE_RQ: Evt.ASSOCIATE_RQ_PDU,
    PduType.ASSOCIATE_AC: Evt.ASSOCIATE_AC_PDU,
    PduType.ASSOCIATE_RJ: Evt.ASSOCIATE_RJ_PDU,
    PduType.P_DATA_TF: Evt.P_DATA_TF_PDU,
    PduType.RELEASE_RQ: Evt.RELEASE_RQ_PDU,
    PduType.RELEASE_RP: Evt.RELEASE_RP_PDU,
    PduType.ABORT: Evt.ABORT_PDU,
}
# Actions that look into the PDU that caused them; the body of any other is dropped unread.
_ACTIONS_THAT_READ = frozenset(("AE-3", "AE-4", "AE-6", "DT-2", "AR-6", "AA-2", "AA-3"))


class Association:
    """State, framing and message assembly of one end. Not for use from two threads."""

    def __init__(self, role: Role, limits: Limits = DEFAULT_LIMITS, *, artim_s: float = 30.0) -> None:
        self.role = role
        self.limits = limits
        self.state = State.STA1
        self.closing = False  # the transport is to be closed once the output is written
        self.request: AssociateRequest | None = None
        self.accept_pdu: AssociateAccept | None = None
        self.send_pdata_bytes_max = limits.send_pdata_bytes_max
        self._artim_s = artim_s
        self._deadline_s: float | None = None
        self._now_s = 0.0
        self._framer = Framer(limits, self._wants)
        self._unreadable = False  # what follows is dropped: the stream lost its frame
        self._output: list[Buffer] = []
        self._events: list[Event] = []
        self._assembler = Assembler(limits)
        self._reject = AssociateReject(0, 0, 0)
        self._abort = Abort(0, 0)
        self._peer_abort = Abort(0, 0)
        self.error: RemoteProtocolError | None = None

    # ---- the transport's side

    def connect(self, request: AssociateRequest) -> None:
        """A requestor wants an association; the transport is to be opened now (Evt1)."""
        self.request = request
        self._fire(Evt.A_ASSOCIATE_REQUEST)

    def transport_opened(self, now_s: float) -> None:
        self._now_s = now_s
        requestor = self.role is Role.REQUESTOR
        self._fire(Evt.TRANSPORT_CONFIRMATION if requestor else Evt.TRANSPORT_INDICATION)

    def transport_closed(self, now_s: float) -> list[Event]:
        """Whoever closed it. Harmless in any state, and more than once."""
        self._now_s = now_s
        if (Evt.TRANSPORT_CLOSED, self.state) in TRANSITIONS:
            self._fire(Evt.TRANSPORT_CLOSED)
        self.closing = True
        return self._take_events()

    def feed(self, data: Buffer, now_s: float) -> list[Event]:
        """All that these bytes mean. Fragments in the events are slices of ``data``."""
        self._now_s = now_s
        if self.state in (State.STA1, State.STA4):
            if self.closing:
                return []
            raise LocalProtocolError("bytes before the transport connection was opened")
        if self._unreadable:
            return []
        try:
            for frame in self._framer.feed(memoryview(data)):
                if isinstance(frame, Piece):
                    event = self._assembler.receive(frame)
                    if event is not None:
                        self._events.append(event)
                else:
                    self._receive_pdu(frame)
                if self.closing or self._unreadable:
                    break
        except RemoteProtocolError as error:
            self._unreadable = True
            self.error = error
            self._abort = Abort(2, error.abort_reason)
            self._fire(Evt.INVALID_PDU)
        return self._take_events()

    def take_output(self) -> list[Buffer]:
        """Buffers to be written, in order; they are the caller's from now on."""
        output, self._output = self._output, []
        return output

    def next_deadline_s(self) -> float | None:
        """When ``handle_timeout`` wants to be called (on the caller's clock), None for never."""
        return self._deadline_s

    def handle_timeout(self, now_s: float) -> list[Event]:
        self._now_s = now_s
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._deadline_s = None
            if (Evt.ARTIM_EXPIRED, self.state) in TRANSITIONS:
                self._fire(Evt.ARTIM_EXPIRED)
        return self._take_events()

    # ---- the user's side

    def accept(self, accept: AssociateAccept) -> None:
        assert self.request is not None
        self._check_move(Evt.A_ASSOCIATE_ACCEPT)
        proposed = {context.context_id for context in self.request.contexts}
        if not {context.context_id for context in accept.contexts} <= proposed:
            raise LocalProtocolError("an answer to a presentation context that nobody proposed")
        self.accept_pdu = accept
        self._establish(accept, self.request.user_information.maximum_length)
        self._fire(Evt.A_ASSOCIATE_ACCEPT)

    def reject(self, reject: AssociateReject, now_s: float) -> None:
        self._now_s = now_s
        self._reject = reject
        self._fire(Evt.A_ASSOCIATE_REJECT)

    def send_command(self, context_id: int, message: Message, *, has_data_set: bool) -> None:
        """Puts a command set into the output; its data set follows by :meth:`send_data`."""
        self.send_command_bytes(context_id, command_set.encode(message, has_data_set=has_data_set))

    def send_command_bytes(self, context_id: int, encoded: bytes) -> None:
        """The same for a command set that was encoded before."""
        self._send(context_id, encoded, PDV_COMMAND, is_last=True)

    def send_data(self, context_id: int, data: Buffer, *, is_last: bool) -> None:
        """Puts part of a data set into the output, without copying it, cut as the peer wants it."""
        self._send(context_id, data, 0, is_last=is_last)

    def request_release(self) -> None:
        self._fire(Evt.A_RELEASE_REQUEST)

    def respond_release(self, now_s: float) -> None:
        self._now_s = now_s
        self._fire(Evt.A_RELEASE_RESPONSE)

    def abort(self, now_s: float) -> None:
        """As the service user; in a state that knows no such request (Sta1, 2, 13) the transport closes."""
        self._now_s = now_s
        if (Evt.A_ABORT_REQUEST, self.state) in TRANSITIONS:
            self._fire(Evt.A_ABORT_REQUEST)
        else:
            self.closing = True

    @property
    def established(self) -> bool:
        """Whether messages can be sent."""
        return self.state in SENDING_STATES

    @property
    def mid_message(self) -> bool:
        """Whether the peer has begun a message that is not complete."""
        return self._assembler.mid_message

    # ---- sending

    def _send(self, context_id: int, data: Buffer, control: int, *, is_last: bool) -> None:
        self._check_move(Evt.P_DATA_REQUEST)
        if context_id not in self._assembler.accepted_ids:
            raise LocalProtocolError(f"presentation context {context_id} was not accepted")
        output = self._output
        size = len(data)
        room = self.send_pdata_bytes_max - PDV_OVERHEAD_BYTES
        if size <= room:
            output.append(data_header(context_id, control | PDV_LAST if is_last else control, size))
            output.append(data)
            return
        view = memoryview(data)
        for start in range(0, size, room):
            stop = min(start + room, size)
            last = is_last and stop == size
            output.append(data_header(context_id, control | PDV_LAST if last else control, stop - start))
            output.append(view[start:stop])

    # ---- receiving

    def _wants(self, pdu_type: PduType) -> bool:
        return TRANSITIONS[_EVT_OF_PDU[pdu_type], self.state] in _ACTIONS_THAT_READ

    def _receive_pdu(self, pdu: Pdu) -> None:
        evt = _EVT_OF_PDU[pdu.pdu_type]
        name = TRANSITIONS[evt, self.state]
        if name == "AE-6":
            self.request = decode_associate_request(pdu.body, self.limits)
            unacceptable = _unacceptable(self.request)
            if unacceptable is not None:
                self._reject = unacceptable
                self._events.append(AssociateRejected(unacceptable, by_us=True))
                self._run(ACTIONS["AE-6 unacceptable"])
                return
        elif name == "AE-3":
            self._receive_accept(decode_associate_accept(pdu.body, self.limits))
        elif name == "AE-4":
            self._reject = decode_associate_reject(pdu.body)
        elif name == "AA-3":
            self._peer_abort = decode_abort(pdu.body)
        elif name in ("AA-1", "AA-7", "AA-8"):
            self.error = UnexpectedPdu(f"{pdu.pdu_type.name} in {self.state.name.capitalize()}")
            self._abort = Abort(2, UnexpectedPdu.abort_reason)
            # AA-7 answers in Sta13. Once: a peer that reads nothing must not make us pile up answers.
            self._unreadable = name == "AA-7"
        elif evt is Evt.RELEASE_RQ_PDU and self.mid_message:
            raise UnexpectedPdu("A-RELEASE-RQ in the middle of a message")
        self._fire(evt)

    def _receive_accept(self, accept: AssociateAccept) -> None:
        assert self.request is not None
        proposed = {context.context_id for context in self.request.contexts}
        if not {context.context_id for context in accept.contexts} <= proposed:
            raise InvalidPduParameterValue("an answer to a presentation context that we did not propose")
        self.accept_pdu = accept
        self._establish(accept, accept.user_information.maximum_length)

    def _establish(self, accept: AssociateAccept, peer_maximum_length: int) -> None:
        self._assembler.accepted_ids = frozenset(
            context.context_id for context in accept.contexts if context.result == ContextResult.ACCEPTANCE
        )
        if peer_maximum_length:  # 0 is "no limit" (PS3.8 Table D.1-1)
            self.send_pdata_bytes_max = min(peer_maximum_length, self.limits.send_pdata_bytes_max)

    # ---- the machine

    def _check_move(self, evt: Evt) -> None:
        if (evt, self.state) not in TRANSITIONS:
            raise LocalProtocolError(f"{evt.name} is not possible in {self.state.name.capitalize()}")

    def _fire(self, evt: Evt) -> None:
        self._check_move(evt)
        name = TRANSITIONS[evt, self.state]
        if name == "AR-8" and self.role is Role.ACCEPTOR:
            name = "AR-8 acceptor"
        self._run(ACTIONS[name])

    def _run(self, action: Action) -> None:
        self.state = action.next_state
        for step in action.steps:
            _EFFECTS[step](self)

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _the_request(self) -> AssociateRequest:
        assert self.request is not None
        return self.request

    def _the_accept(self) -> AssociateAccept:
        assert self.accept_pdu is not None
        return self.accept_pdu

    def _close(self) -> None:
        self.closing = True

    def _start_artim(self) -> None:
        self._deadline_s = self._now_s + self._artim_s

    def _stop_artim(self) -> None:
        self._deadline_s = None

    def _indicate_peer_abort(self) -> None:
        by = AbortedBy.PEER_USER if self._peer_abort.source == 0 else AbortedBy.PEER_PROVIDER
        self._events.append(Aborted(by, self._peer_abort.reason))

    def _indicate_provider_abort(self) -> None:
        if self.error is None:
            self._events.append(Aborted(AbortedBy.CONNECTION_LOST))
        else:
            self._events.append(Aborted(AbortedBy.LOCAL_PROVIDER, self.error.abort_reason, self.error))


def _unacceptable(request: AssociateRequest) -> AssociateReject | None:
    """The provider's own checks (AE-6); everything else is the user's to judge."""
    if not request.protocol_version & 1:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    return None


def _nothing(_: Association) -> None:
    pass


def _sends(encode: Callable[[Association], bytes]) -> Callable[[Association], None]:
    return lambda association: association._output.append(encode(association))


def _tells(event: Callable[[Association], Event]) -> Callable[[Association], None]:
    return lambda association: association._events.append(event(association))


_EFFECTS: dict[Step, Callable[[Association], None]] = {
    Step.CONNECT: _nothing,  # the caller of connect() opens the transport
    Step.CLOSE: Association._close,
    Step.START_ARTIM: Association._start_artim,
    Step.STOP_ARTIM: Association._stop_artim,
    Step.SEND_ASSOCIATE_RQ: _sends(lambda a: encode_associate_request(a._the_request())),
    Step.SEND_ASSOCIATE_AC: _sends(lambda a: encode_associate_accept(a._the_accept())),
    Step.SEND_ASSOCIATE_RJ: _sends(lambda a: encode_associate_reject(a._reject)),
    Step.SEND_DATA: _nothing,  # send_command() and send_data() put the buffers out themselves
    Step.SEND_RELEASE_RQ: _sends(lambda _: RELEASE_RQ_BYTES),
    Step.SEND_RELEASE_RP: _sends(lambda _: RELEASE_RP_BYTES),
    Step.SEND_USER_ABORT: _sends(lambda _: encode_abort(USER_ABORT)),
    Step.SEND_PROVIDER_ABORT: _sends(lambda a: encode_abort(a._abort)),
    Step.INDICATE_ASSOCIATE: _tells(lambda a: AssociateRequested(a._the_request())),
    Step.CONFIRM_ACCEPT: _tells(lambda a: AssociateAccepted(a._the_accept())),
    Step.CONFIRM_REJECT: _tells(lambda a: AssociateRejected(a._reject)),
    Step.INDICATE_DATA: _nothing,  # the pieces of the PDU are its indication
    Step.INDICATE_RELEASE: _tells(lambda _: ReleaseRequested()),
    Step.CONFIRM_RELEASE: _tells(lambda _: Released()),
    Step.INDICATE_PEER_ABORT: Association._indicate_peer_abort,
    Step.INDICATE_PROVIDER_ABORT: Association._indicate_provider_abort,
}
