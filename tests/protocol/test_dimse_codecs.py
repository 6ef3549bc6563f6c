"""Whatever can be said can be read back: PDUs, items, command sets."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dimse.protocol import command_set
from isocenter.dimse.protocol.errors import LocalProtocolError, RemoteProtocolError
from isocenter.dimse.protocol.limits import Limits
from isocenter.dimse.protocol.messages import MESSAGES, CFindResponse, CStoreRequest, Kind, Message
from isocenter.dimse.protocol.pdu import (
    AssociateAccept,
    AssociateRequest,
    NegotiatedContext,
    ProposedContext,
    decode_associate_accept,
    decode_associate_request,
    encode_ae_title,
    encode_associate_accept,
    encode_associate_request,
)
from isocenter.dimse.protocol.user_information import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
    UserInformation,
)

U16 = st.integers(0, 0xFFFF)
uids = st.from_regex(r"[1-9][0-9]{0,8}(\.[0-9]{1,9}){1,5}", fullmatch=True)
titles = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", min_size=1, max_size=16)
identities = st.builds(
    UserIdentity,
    identity_type=st.integers(1, 5),
    primary=st.binary(max_size=300),
    secondary=st.binary(max_size=50),
    response_requested=st.booleans(),
)
informations = st.builds(
    UserInformation,
    maximum_length=st.just(0) | st.integers(128, 0xFFFFFFFF),
    implementation_class_uid=uids,
    implementation_version_name=st.text("ABC_123", max_size=16),
    asynchronous_operations_window=st.none() | st.builds(AsynchronousOperationsWindow, U16, U16),
    roles=st.lists(st.builds(RoleSelection, uids, st.booleans(), st.booleans()), max_size=3).map(tuple),
    extended_negotiations=st.lists(
        st.builds(ExtendedNegotiation, uids, st.binary(max_size=8)), max_size=3
    ).map(tuple),
    common_extended_negotiations=st.lists(
        st.builds(CommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=3).map(tuple)), max_size=3
    ).map(tuple),
    user_identity=st.none() | identities,
    user_identity_response=st.none() | st.binary(max_size=100),
)
context_ids = st.lists(st.integers(0, 127).map(lambda n: 2 * n + 1), unique=True, max_size=128)


@st.composite
def requests(draw: Any) -> AssociateRequest:
    syntaxes = st.lists(uids, min_size=1, max_size=3).map(tuple)
    contexts = tuple(ProposedContext(n, draw(uids), draw(syntaxes)) for n in draw(context_ids)[:6])
    return AssociateRequest(draw(titles), draw(titles), contexts, draw(informations))


@st.composite
def accepts(draw: Any) -> AssociateAccept:
    contexts = tuple(NegotiatedContext(n, draw(st.integers(0, 4)), draw(uids)) for n in draw(context_ids)[:6])
    return AssociateAccept(draw(titles), draw(titles), contexts, draw(informations))


@given(requests())
def test_a_request_is_read_as_it_was_written(request: AssociateRequest) -> None:
    encoded = encode_associate_request(request)
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    assert decode_associate_request(encoded[6:], Limits()) == request


@given(accepts())
def test_an_accept_is_read_as_it_was_written(accept: AssociateAccept) -> None:
    assert decode_associate_accept(encode_associate_accept(accept)[6:], Limits()) == accept


@given(requests(), st.data())
def test_a_cut_or_changed_request_is_read_or_blamed_on_the_peer(
    request: AssociateRequest, data: st.DataObject
) -> None:
    body = bytearray(encode_associate_request(request)[6:])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    for decode in (decode_associate_request, decode_associate_accept):
        with contextlib.suppress(RemoteProtocolError):
            decode(bytes(body), Limits())


def test_unknown_items_and_reserved_bytes_are_passed_over() -> None:
    request = AssociateRequest("B", "A", (ProposedContext(1, "1.2", ("1.2.3",)),))
    body = bytearray(encode_associate_request(request)[6:])
    body[2:4] = b"\xff\xff"
    body[36:68] = b"\xff" * 32
    body += b"\x77\xff\x00\x03abc"
    assert decode_associate_request(bytes(body), Limits()) == request


def test_the_number_of_items_is_bounded() -> None:
    request = AssociateRequest("B", "A", (ProposedContext(1, "1.2", ("1.2.3",)),))
    body = encode_associate_request(request)[6:] + b"\x77\0\0\0" * 9000
    with pytest.raises(RemoteProtocolError, match="more items"):
        decode_associate_request(body, Limits())


def test_a_secret_is_in_no_representation() -> None:
    assert "hunter2" not in repr(UserIdentity(2, b"root", b"hunter2"))


@pytest.mark.parametrize("title", ["SEVENTEEN_LETTERS", "bell\a", "back\\slash", "smörgås"])
def test_what_is_no_ae_title_is_not_sent(title: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_ae_title(title)


VALUES = {
    Kind.NUMBER: U16,
    Kind.UID: uids,
    Kind.TAGS: st.lists(st.integers(0, 0xFFFFFFFF), max_size=4).map(tuple),
    Kind.TEXT: titles,
}


@st.composite
def messages(draw: Any) -> Message:
    message_class = draw(st.sampled_from(MESSAGES))
    values = {}
    for field in message_class.LAYOUT:
        value = VALUES[field.kind]
        values[field.name] = draw(value if field.required else st.none() | value)
    return message_class(**values)


@given(messages(), st.booleans())
def test_a_message_is_read_as_it_was_written(message: Message, has_data_set: bool) -> None:
    encoded = command_set.encode(message, has_data_set=has_data_set)
    assert len(encoded) % 2 == 0
    assert command_set.decode(encoded) == (message, has_data_set)


@pytest.mark.parametrize("message_class", MESSAGES)
def test_every_field_of_every_message_has_its_place(message_class: type[Message]) -> None:
    fields = {field.name for field in dataclasses.fields(message_class)}
    assert fields == {field.name for field in message_class.LAYOUT}
    elements = [field.element for field in message_class.LAYOUT]
    assert elements == sorted(elements)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_set_or_the_peers_fault(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        command_set.decode(data)


@given(messages(), st.data())
def test_a_changed_command_set_too(message: Message, data: st.DataObject) -> None:
    body = bytearray(command_set.encode(message, has_data_set=True))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RemoteProtocolError):
        command_set.decode(body)


def test_pydicom_reads_our_command_set_and_we_read_pydicoms() -> None:
    from io import BytesIO

    from pydicom.filereader import read_dataset

    ours = CStoreRequest(
        message_id=7,
        affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        affected_sop_instance_uid="1.2.3",
        move_originator_ae_title="MOVER",
        move_originator_message_id=9,
    )
    encoded = command_set.encode(ours, has_data_set=True)
    theirs = read_dataset(BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)
    assert theirs[0x0000, 0x0000].value == len(encoded) - 12
    assert theirs[0x0000, 0x0002].value == "1.2.840.10008.5.1.4.1.1.2"
    assert theirs[0x0000, 0x0100].value == 1
    assert theirs[0x0000, 0x0800].value != 0x0101
    assert theirs[0x0000, 0x1030].value == "MOVER"


def test_a_long_comment_is_cut_and_a_long_uid_refused() -> None:
    response = CFindResponse(message_id_being_responded_to=1, status=0xC000, error_comment="x" * 70)
    decoded, _ = command_set.decode(command_set.encode(response, has_data_set=False))
    assert isinstance(decoded, CFindResponse)
    assert decoded.error_comment == "x" * 64
    store = CStoreRequest(message_id=1, affected_sop_class_uid="1" * 65, affected_sop_instance_uid="1.2")
    with pytest.raises(LocalProtocolError):
        command_set.encode(store, has_data_set=True)
