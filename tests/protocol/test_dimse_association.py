"""The association as a whole: two ends on a pretend wire, and one end against anything at all."""

from __future__ import annotations

import pytest
from dimse_wire import CT, IMPLICIT, REQUEST, Wire, own
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dimse_state_table import PDUS, in_state

from isocenter.dimse.protocol import command_set, rejections
from isocenter.dimse.protocol.association import Association, Role
from isocenter.dimse.protocol.errors import (
    InvalidPduParameterValue,
    LocalProtocolError,
    UnexpectedPdu,
    UnexpectedPduParameter,
    UnrecognizedPdu,
)
from isocenter.dimse.protocol.events import (
    Aborted,
    AbortedBy,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    CommandReceived,
    DataFragment,
    Released,
    ReleaseRequested,
)
from isocenter.dimse.protocol.limits import Limits
from isocenter.dimse.protocol.messages import CEchoRequest, CStoreRequest
from isocenter.dimse.protocol.pdu import (
    PDV_COMMAND,
    PDV_LAST,
    Abort,
    AssociateRequest,
    ProposedContext,
    data_header,
    encode_abort,
    encode_associate_request,
)
from isocenter.dimse.protocol.state import State

STORE = CStoreRequest(message_id=5, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
BODY = bytes(range(256)) * 40
CHUNKS = [1, 2, 3, 5, 6, 7, 11, 12, 13, 100, 4096, 1 << 20]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_whole_association_in_pieces_of_any_size(chunk: int) -> None:
    wire = Wire(chunk, Limits(pdata_bytes_max=1000)).establish()
    a, b = wire.requestor, wire.acceptor
    a.send_command(3, STORE, has_data_set=True)
    a.send_data(3, BODY[:5000], is_last=False)
    a.send_data(3, BODY[5000:], is_last=True)
    wire.carry()
    a.request_release()
    wire.carry()
    b.respond_release(0)
    wire.carry()
    kinds = [type(event) for event in wire.heard[b] if not isinstance(event, DataFragment)]
    assert kinds == [AssociateRequested, CommandReceived, ReleaseRequested]
    assert CommandReceived(3, STORE, True) in wire.heard[b]
    assert wire.data(b) == BODY
    lasts = [event.is_last for event in wire.heard[b] if isinstance(event, DataFragment)]
    assert lasts[-1] and sum(lasts) == 1
    assert [type(event) for event in wire.heard[a]] == [AssociateAccepted, Released]
    assert (a.state, b.state) == (State.STA1, State.STA1)


@given(st.lists(st.integers(0, 7).map(lambda n: list(PDUS.values())[n]), max_size=6), st.data())
@settings(max_examples=300)
def test_whole_equals_byte_by_byte(pdus: list[bytes], data: st.DataObject) -> None:
    stream = PDUS[6] + b"".join(pdus)
    whole, pieces = in_state(2), in_state(2)
    expected = [own(event) for event in whole.feed(stream, 0)]
    told = []
    position = 0
    while position < len(stream):
        step = data.draw(st.integers(1, 40))
        told += [own(event) for event in pieces.feed(stream[position : position + step], 0)]
        position += step
    assert [type(event) for event in told] == [type(event) for event in expected]
    assert (pieces.state, pieces.closing) == (whole.state, whole.closing)
    assert pieces.take_output() == whole.take_output()


@given(st.sampled_from([2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13]), st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=500)
def test_any_bytes_in_any_state_end_in_a_legal_state_or_an_abort(state: int, chunks: list[bytes]) -> None:
    association = in_state(state)
    for chunk in chunks:
        if association.closing:
            break
        association.feed(chunk, 0)  # must not raise
    assert association.state in State
    if association.error is not None:
        output = b"".join(association.take_output())
        assert output[:1] == b"\7"
        assert association.state == State.STA13
        assert association.next_deadline_s() is not None


pdu_like = st.builds(
    lambda kind, length, body: bytes((kind, 0)) + length.to_bytes(4, "big") + body,
    st.integers(0, 9),
    st.integers(0, 80) | st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=80),
)


@given(st.sampled_from([2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13]), st.lists(pdu_like, max_size=5))
@settings(max_examples=500)
def test_anything_that_looks_like_pdus_as_well(state: int, pdus: list[bytes]) -> None:
    association = in_state(state)
    for pdu in pdus:
        if not association.closing:
            association.feed(pdu, 0)
    if association.error is not None:
        assert b"".join(association.take_output())[:1] == b"\7"


def established(**limits: int) -> Association:
    return Wire(limits=Limits(**limits)).establish().acceptor


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return data_header(context_id, control, len(data)) + data


COMMAND = PDV_COMMAND | PDV_LAST
STORE_BYTES = pdv(3, COMMAND, command_set.encode(STORE, has_data_set=True))

BREACHES = {
    "unknown type": (b"\x08\0\0\0\0\4", UnrecognizedPdu),
    "p-data over our maximum": (b"\4\0" + (256 * 1024 + 500).to_bytes(4, "big"), InvalidPduParameterValue),
    "p-data of 4 GB": (b"\4\0\xff\xff\xff\xff", InvalidPduParameterValue),
    "empty p-data": (b"\4\0\0\0\0\0", InvalidPduParameterValue),
    "fragment longer than its pdu": (b"\4\0\0\0\0\x0a\0\0\0\xff\3\3", InvalidPduParameterValue),
    "fragment without its header": (b"\4\0\0\0\0\x06\0\0\0\1\3\3", InvalidPduParameterValue),
    "context that was not accepted": (pdv(5, COMMAND, b"x"), InvalidPduParameterValue),
    "data before a command": (pdv(3, PDV_LAST, b"x"), UnexpectedPduParameter),
    "command inside of data": (STORE_BYTES + pdv(3, COMMAND, b"x"), UnexpectedPduParameter),
    "data of another context": (STORE_BYTES + pdv(1, 0, b"x"), UnexpectedPduParameter),
    "two commands mixed": (pdv(3, PDV_COMMAND, b"x") + pdv(1, PDV_COMMAND, b"x"), UnexpectedPduParameter),
    "a command set that is none": (pdv(3, COMMAND, b"garbage!"), InvalidPduParameterValue),
    "release inside of a message": (STORE_BYTES + PDUS[12], UnexpectedPdu),
    "request again": (PDUS[6], UnexpectedPdu),
    "long abort": (b"\7\0\0\0\0\5", InvalidPduParameterValue),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_aborted_with_its_reason(breach: str) -> None:
    data, error = BREACHES[breach]
    association = established()
    events = association.feed(data, 0)
    aborted = events[-1]
    assert isinstance(aborted, Aborted)
    assert aborted.by is AbortedBy.LOCAL_PROVIDER
    assert type(aborted.error) is error
    assert association.take_output() == [encode_abort(Abort(2, error.abort_reason))]
    assert association.feed(b"\0" * 100_000, 0) == []
    assert len(association.take_output()) <= 1


def test_a_peer_that_goes_on_after_our_abort_gets_one_more_answer() -> None:
    association = in_state(13)
    for _ in range(100):
        association.feed(PDUS[6] * 10, 0)
    assert len(association.take_output()) == 1


def test_command_sets_and_data_sets_are_bounded() -> None:
    association = established(command_bytes_max=1000)
    for _ in range(3):
        association.feed(pdv(3, PDV_COMMAND, bytes(400)), 0)
    assert isinstance(association.error, InvalidPduParameterValue)
    association = established(data_set_bytes_max=1000)
    association.feed(STORE_BYTES, 0)
    for _ in range(3):
        association.feed(pdv(3, 0, bytes(400)), 0)
    assert isinstance(association.error, InvalidPduParameterValue)


def test_ten_thousand_contexts_are_refused_before_they_are_kept() -> None:
    many = tuple(ProposedContext(1, "1.2", ("1.2.3",)) for _ in range(10_000))
    association = in_state(2)
    association.feed(encode_associate_request(AssociateRequest("B", "A", many)), 0)
    assert isinstance(association.error, InvalidPduParameterValue)
    assert association.state == State.STA13


def test_a_huge_associate_request_is_refused_at_its_header() -> None:
    association = in_state(2)
    association.feed(b"\1\0\x7f\xff\xff\xff", 0)
    assert association.state == State.STA13


def test_fragments_are_slices_of_what_was_fed() -> None:
    association = established()
    association.feed(STORE_BYTES, 0)
    received = bytearray(pdv(3, 0, b"abcdef"))
    (fragment,) = association.feed(memoryview(received), 0)
    assert isinstance(fragment, DataFragment)
    received[12:15] = b"XYZ"
    assert bytes(fragment.data) == b"XYZdef"


def test_a_fragment_is_told_before_its_pdu_is_whole() -> None:
    association = established()
    association.feed(STORE_BYTES, 0)
    whole = pdv(3, PDV_LAST, b"abcdef")
    (first,) = association.feed(whole[:15], 0)
    (second,) = association.feed(whole[15:], 0)
    assert isinstance(first, DataFragment) and isinstance(second, DataFragment)
    assert (bytes(first.data), first.is_last) == (b"abc", False)
    assert (bytes(second.data), second.is_last) == (b"def", True)


def test_several_fragments_in_one_pdu_and_an_empty_last_one() -> None:
    association = established()
    command = command_set.encode(STORE, has_data_set=True)

    def value(control: int, data: bytes) -> bytes:
        return (len(data) + 2).to_bytes(4, "big") + bytes((3, control)) + data

    body = value(COMMAND, command) + value(0, b"abc") + value(PDV_LAST, b"")
    events = association.feed(b"\4\0" + len(body).to_bytes(4, "big") + body, 0)
    assert [type(event) for event in events] == [CommandReceived, DataFragment, DataFragment]
    assert events[-1].is_last and not events[-1].data  # type: ignore[union-attr]


def test_the_peers_maximum_is_respected_and_nothing_is_copied() -> None:
    wire = Wire(limits=Limits(pdata_bytes_max=1000)).establish()
    body = bytearray(BODY)
    wire.requestor.send_data(3, body, is_last=True)
    output = wire.requestor.take_output()
    sizes = [len(data) for data in output[1::2]]
    assert max(sizes) == 994
    assert sum(sizes) == len(BODY)
    body[0] = 255
    assert output[1][0] == 255


def test_unlimited_means_our_own_bound() -> None:
    association = in_state(3)
    from test_dimse_state_table import ACCEPT

    association.accept(ACCEPT)
    association.take_output()
    association.send_data(1, bytes(3 << 20), is_last=True)
    assert max(len(data) for data in association.take_output()) == (1 << 20) - 6


def test_only_accepted_contexts_can_be_used() -> None:
    wire = Wire().establish()
    with pytest.raises(LocalProtocolError):
        wire.requestor.send_command(9, CEchoRequest(message_id=1), has_data_set=False)


@pytest.mark.parametrize(
    ("request_pdu", "reject"),
    [
        (AssociateRequest("B", "A", (), protocol_version=2), rejections.PROTOCOL_VERSION_NOT_SUPPORTED),
        (
            AssociateRequest("B", "A", (), application_context="1.2"),
            rejections.APPLICATION_CONTEXT_NOT_SUPPORTED,
        ),
    ],
)
def test_what_no_user_could_accept_is_rejected_by_the_provider(request_pdu, reject) -> None:  # type: ignore[no-untyped-def]
    association = in_state(2)
    events = association.feed(encode_associate_request(request_pdu), 0)
    assert events == [AssociateRejected(reject, by_us=True)]
    assert association.state == State.STA13


def test_release_collision_on_a_wire() -> None:
    wire = Wire().establish()
    a, b = wire.requestor, wire.acceptor
    a.request_release()
    b.request_release()
    wire.carry()
    assert (a.state, b.state) == (State.STA9, State.STA10)
    a.respond_release(0)
    wire.carry()
    assert (a.state, b.state) == (State.STA11, State.STA12)
    b.respond_release(0)
    wire.carry()
    assert (a.state, b.state) == (State.STA1, State.STA1)
    assert Released() in wire.heard[a] and Released() in wire.heard[b]


def test_an_answer_to_what_was_not_proposed_is_the_peers_fault() -> None:
    from test_dimse_state_table import ACCEPT

    from isocenter.dimse.protocol.pdu import AssociateAccept, NegotiatedContext, encode_associate_accept

    association = in_state(5)
    association.feed(
        encode_associate_accept(AssociateAccept("B", "A", (NegotiatedContext(9, 0, IMPLICIT),))), 0
    )
    assert isinstance(association.error, InvalidPduParameterValue)
    other = in_state(3)
    with pytest.raises(LocalProtocolError):
        other.accept(AssociateAccept("B", "A", (*ACCEPT.contexts, NegotiatedContext(9, 0, IMPLICIT))))


def test_after_the_end_bytes_mean_nothing() -> None:
    association = Association(Role.ACCEPTOR)
    association.transport_opened(0)
    association.feed(encode_abort(Abort(0, 0)), 0)
    assert association.closing
    assert association.feed(b"more", 0) == []
    with pytest.raises(LocalProtocolError):
        Association(Role.ACCEPTOR).feed(encode_associate_request(REQUEST), 0)
