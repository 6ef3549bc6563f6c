"""User information items (PS3.8 D.1, PS3.7 D.3.3): what both sides tell each other beside contexts.

Unknown items are skipped (PS3.8 §9.3.1: they are for the future), reserved bytes are not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from isocenter.dimse.protocol.errors import (
    InvalidPduParameterValue,
    LocalProtocolError,
    UnexpectedPduParameter,
)

ITEM_HEADER = struct.Struct(">BxH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_TWO_U16 = struct.Struct(">HH")
UID_CHARACTERS_MAX = 64


class UserIdentityType(IntEnum):
    """PS3.7 Table D.3-14."""

    USERNAME = 1
    USERNAME_AND_PASSCODE = 2
    KERBEROS = 3
    SAML = 4
    JSON_WEB_TOKEN = 5


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """What the requestor says about its user; ``secondary`` is the passcode of type 2, else empty."""

    identity_type: int
    primary: bytes
    secondary: bytes = b""
    response_requested: bool = False

    def __repr__(self) -> str:
        return f"UserIdentity(identity_type={self.identity_type})"  # never a secret in a log or a traceback


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """The requestor's roles for one SOP class: proposed in a request, settled in an accept."""

    sop_class_uid: str
    scu_role: bool
    scp_role: bool


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    sop_class_uid: str
    application_information: bytes


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AsynchronousOperationsWindow:
    """Operations that the requestor may have open, as invoker and as performer; 0 is "unlimited"."""

    invoked: int = 1
    performed: int = 1


@dataclass(frozen=True, slots=True)
class UserInformation:
    """``maximum_length`` 0 is "unlimited". ``user_identity_response`` is None where none was sent."""

    maximum_length: int = 0
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    asynchronous_operations_window: AsynchronousOperationsWindow | None = None
    roles: tuple[RoleSelection, ...] = ()
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[CommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentity | None = None
    user_identity_response: bytes | None = None


NO_USER_INFORMATION = UserInformation()


@dataclass(slots=True)
class ItemBudget:
    """Counts items down, however they are nested, so that many tiny ones cannot cost much time."""

    left: int

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise InvalidPduParameterValue("the A-ASSOCIATE PDU has more items than are allowed")


def items(body: bytes, position: int, end: int, budget: ItemBudget) -> Iterator[tuple[int, int, int]]:
    """Yields (item type, start, end) for each item of ``body[position:end]``."""
    while position < end:
        if end - position < ITEM_HEADER.size:
            raise InvalidPduParameterValue("an item's header is cut off")
        item_type, length = ITEM_HEADER.unpack_from(body, position)
        start = position + ITEM_HEADER.size
        position = start + length
        if position > end:
            raise InvalidPduParameterValue(f"item {item_type:02X}H is longer than what holds it")
        budget.spend()
        yield item_type, start, position


def item(item_type: int, body: bytes) -> bytes:
    if len(body) > 0xFFFF:
        raise LocalProtocolError(f"item {item_type:02X}H does not fit: {len(body)} bytes")
    return ITEM_HEADER.pack(item_type, len(body)) + body


def decode_uid(raw: bytes) -> str:
    """A UID as the peer wrote it, without padding; its inner form is not judged here."""
    raw = raw.rstrip(b"\0 ")
    if len(raw) > UID_CHARACTERS_MAX:
        raise InvalidPduParameterValue(f"a UID of {len(raw)} characters")
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidPduParameterValue("a UID with characters outside of ASCII") from None


def decode_user_information(body: bytes, start: int, end: int, budget: ItemBudget) -> UserInformation:
    """Raises RemoteProtocolError."""
    found = _Found()
    for item_type, first, last in items(body, start, end, budget):
        decode = _DECODERS.get(item_type)
        if decode is not None:
            try:
                decode(found, body[first:last])
            except struct.error:
                raise InvalidPduParameterValue(f"item {item_type:02X}H is cut off") from None
    return UserInformation(
        maximum_length=found.maximum_length or 0,
        implementation_class_uid=found.implementation_class_uid,
        implementation_version_name=found.implementation_version_name,
        asynchronous_operations_window=found.window,
        roles=tuple(found.roles),
        extended_negotiations=tuple(found.extended),
        common_extended_negotiations=tuple(found.common),
        user_identity=found.user_identity,
        user_identity_response=found.user_identity_response,
    )


def encode_user_information(information: UserInformation) -> bytes:
    """The body of item 50H, sub-items in the order of their numbers."""
    parts = [item(0x51, _U32.pack(information.maximum_length))]
    parts.append(item(0x52, information.implementation_class_uid.encode("ascii")))
    window = information.asynchronous_operations_window
    if window is not None:
        parts.append(item(0x53, _TWO_U16.pack(window.invoked, window.performed)))
    parts.extend(item(0x54, _role(role)) for role in information.roles)
    if information.implementation_version_name:
        parts.append(item(0x55, information.implementation_version_name.encode("ascii")))
    parts.extend(item(0x56, _extended(extended)) for extended in information.extended_negotiations)
    parts.extend(item(0x57, _common(common)) for common in information.common_extended_negotiations)
    if information.user_identity is not None:
        parts.append(item(0x58, _identity(information.user_identity)))
    if information.user_identity_response is not None:
        parts.append(item(0x59, _counted(information.user_identity_response)))
    return b"".join(parts)


@dataclass(slots=True)
class _Found:
    maximum_length: int | None = None
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    window: AsynchronousOperationsWindow | None = None
    user_identity: UserIdentity | None = None
    user_identity_response: bytes | None = None
    roles: list[RoleSelection] = field(default_factory=list)
    extended: list[ExtendedNegotiation] = field(default_factory=list)
    common: list[CommonExtendedNegotiation] = field(default_factory=list)

    def set_maximum_length(self, body: bytes) -> None:
        if self.maximum_length is not None:
            raise UnexpectedPduParameter("two maximum length items")
        (self.maximum_length,) = _U32.unpack_from(body)
        if 0 < self.maximum_length < MAXIMUM_LENGTH_MIN:
            raise InvalidPduParameterValue(f"a maximum length of {self.maximum_length} has room for nothing")

    def set_implementation_class_uid(self, body: bytes) -> None:
        self.implementation_class_uid = decode_uid(body)

    def set_window(self, body: bytes) -> None:
        self.window = AsynchronousOperationsWindow(*_TWO_U16.unpack_from(body))

    def add_role(self, body: bytes) -> None:
        raw, position = _take_counted(body, 0)
        if len(body) < position + 2:
            raise InvalidPduParameterValue("a role selection without roles")
        self.roles.append(RoleSelection(decode_uid(raw), body[position] == 1, body[position + 1] == 1))

    def set_implementation_version_name(self, body: bytes) -> None:
        self.implementation_version_name = printable(body)

    def add_extended(self, body: bytes) -> None:
        raw, position = _take_counted(body, 0)
        self.extended.append(ExtendedNegotiation(decode_uid(raw), body[position:]))

    def add_common(self, body: bytes) -> None:
        sop_class, position = _take_counted(body, 0)
        service_class, position = _take_counted(body, position)
        related, _ = _take_counted(body, position) if position < len(body) else (b"", position)
        uids, position = [], 0
        while position < len(related):
            raw, position = _take_counted(related, position)
            uids.append(decode_uid(raw))
        self.common.append(
            CommonExtendedNegotiation(decode_uid(sop_class), decode_uid(service_class), tuple(uids))
        )

    def set_user_identity(self, body: bytes) -> None:
        if self.user_identity is not None:
            raise UnexpectedPduParameter("two user identities")
        if len(body) < 2:
            raise InvalidPduParameterValue("a user identity without a type")
        primary, position = _take_counted(body, 2)
        # Older Kerberos and SAML senders leave the empty secondary field out.
        secondary, _ = _take_counted(body, position) if position < len(body) else (b"", position)
        self.user_identity = UserIdentity(body[0], primary, secondary, body[1] == 1)

    def set_user_identity_response(self, body: bytes) -> None:
        self.user_identity_response = _take_counted(body, 0)[0]


# Smaller ones cannot hold a command set in one fragment; honouring them would multiply our work per byte.
MAXIMUM_LENGTH_MIN = 128

_DECODERS = {
    0x51: _Found.set_maximum_length,
    0x52: _Found.set_implementation_class_uid,
    0x53: _Found.set_window,
    0x54: _Found.add_role,
    0x55: _Found.set_implementation_version_name,
    0x56: _Found.add_extended,
    0x57: _Found.add_common,
    0x58: _Found.set_user_identity,
    0x59: _Found.set_user_identity_response,
}


def printable(raw: bytes) -> str:
    """Text for people and logs: ASCII, control characters and the rest replaced by ``?``."""
    text = raw.decode("ascii", "replace").strip("\0 ")
    return text if text.isascii() and text.isprintable() else _replaced(text)


def _replaced(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _take_counted(body: bytes, position: int) -> tuple[bytes, int]:
    (length,) = _U16.unpack_from(body, position)
    end = position + 2 + length
    if end > len(body):
        raise InvalidPduParameterValue("a field is longer than its item")
    return body[position + 2 : end], end


def _counted(raw: bytes) -> bytes:
    if len(raw) > 0xFFFF:
        raise LocalProtocolError(f"a field of {len(raw)} bytes does not fit its length field")
    return _U16.pack(len(raw)) + raw


def _counted_uid(uid: str) -> bytes:
    return _counted(uid.encode("ascii"))


def _role(role: RoleSelection) -> bytes:
    return _counted_uid(role.sop_class_uid) + bytes((role.scu_role, role.scp_role))


def _extended(extended: ExtendedNegotiation) -> bytes:
    return _counted_uid(extended.sop_class_uid) + extended.application_information


def _common(common: CommonExtendedNegotiation) -> bytes:
    related = b"".join(_counted_uid(uid) for uid in common.related_general_sop_class_uids)
    return _counted_uid(common.sop_class_uid) + _counted_uid(common.service_class_uid) + _counted(related)


def _identity(identity: UserIdentity) -> bytes:
    head = bytes((identity.identity_type, identity.response_requested))
    return head + _counted(identity.primary) + _counted(identity.secondary)
