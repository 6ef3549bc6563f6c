"""Command sets to and from bytes: group 0000, implicit VR little endian (PS3.7 §6.3.1, Annex E)."""

from __future__ import annotations

import struct
from typing import Any

from isocenter.dimse.protocol.errors import InvalidPduParameterValue, LocalProtocolError
from isocenter.dimse.protocol.messages import MESSAGES, Field, Kind, Message
from isocenter.dimse.protocol.user_information import UID_CHARACTERS_MAX

NO_DATA_SET = 0x0101
_DATA_SET = 0x0000  # any value but 0101H; this one is what most senders write

_COMMAND_FIELD = 0x0100
_DATA_SET_TYPE = 0x0800
_ELEMENT = struct.Struct("<HHI")
_NUMBER = struct.Struct("<HHIH")
_GROUP_LENGTH = struct.Struct("<HHII")
_U16 = struct.Struct("<H")
_TAG = struct.Struct("<HH")

# Longest value of each text element: LO is 64 characters (error comment), AE is 16 (PS3.5 Table 6.2-1).
_TEXT_MAX = {0x0902: 64}
_AE_MAX = 16

_CLASSES = {message.COMMAND_FIELD: message for message in MESSAGES}


def _plan(layout: tuple[Field, ...]) -> tuple[tuple[str, int, Kind | None], ...]:
    fields: list[tuple[str, int, Kind | None]] = [(f.name, f.element, f.kind) for f in layout]
    fields += [("", _COMMAND_FIELD, None), ("", _DATA_SET_TYPE, None)]
    return tuple(sorted(fields, key=lambda field: field[1]))


_PLANS = {message: _plan(message.LAYOUT) for message in MESSAGES}


def encode(message: Message, *, has_data_set: bool) -> bytes:
    """The whole command set, group length first. Raises LocalProtocolError for a value that does not fit."""
    parts = []
    for name, element, kind in _PLANS[type(message)]:
        if kind is None:
            value: Any = _fixed(message, element, has_data_set)
            parts.append(_NUMBER.pack(0, element, 2, value))
            continue
        value = getattr(message, name)
        if value is None:
            continue
        if kind is Kind.NUMBER:
            try:
                parts.append(_NUMBER.pack(0, element, 2, value))
            except struct.error:
                raise LocalProtocolError(f"{name} {value} does not fit two bytes") from None
        else:
            raw = _encode_value(name, element, kind, value)
            parts.append(_ELEMENT.pack(0, element, len(raw)) + raw)
    body = b"".join(parts)
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def decode(command_set: bytes | bytearray) -> tuple[Message, bool]:
    """The message and whether a data set follows.

    Raises RemoteProtocolError for a command field that does not exist, or for an element that is
    missing where the standard requires it, or cut off. Unknown and retired elements are skipped.
    """
    elements = _elements(command_set)
    message_class = _CLASSES.get(_number(elements, _COMMAND_FIELD))
    if message_class is None:
        raise InvalidPduParameterValue(f"no command has the field {_number(elements, _COMMAND_FIELD):04X}H")
    values: dict[str, Any] = {}
    for field in message_class.LAYOUT:
        raw = elements.get(field.element)
        if raw is not None:
            values[field.name] = _decode_value(field, raw)
        elif field.required:
            raise InvalidPduParameterValue(f"the command set lacks (0000,{field.element:04X}) {field.name}")
        else:
            values[field.name] = None
    return message_class(**values), _number(elements, _DATA_SET_TYPE) != NO_DATA_SET


def _fixed(message: Message, element: int, has_data_set: bool) -> int:
    if element == _COMMAND_FIELD:
        return message.COMMAND_FIELD
    return _DATA_SET if has_data_set else NO_DATA_SET


def _encode_value(name: str, element: int, kind: Kind, value: Any) -> bytes:
    if kind is Kind.TAGS:
        return b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in value)
    if kind is Kind.UID:
        longest, pad, errors = UID_CHARACTERS_MAX, b"\0", "strict"
    else:
        longest, pad, errors = _TEXT_MAX.get(element, _AE_MAX), b" ", "replace"
    try:
        raw: bytes = value.encode("ascii", errors)
    except UnicodeEncodeError:
        raise LocalProtocolError(f"{name} has characters outside of ASCII") from None
    if len(raw) > longest:
        if element != 0x0902:
            raise LocalProtocolError(f"{name} has more than {longest} characters")
        raw = raw[:longest]  # a comment is help for people: cut short rather than lost
    return raw + pad if len(raw) & 1 else raw


def _elements(command_set: bytes | bytearray) -> dict[int, bytes]:
    found = {}
    position, end = 0, len(command_set)
    unpack = _ELEMENT.unpack_from
    while position < end:
        if end - position < 8:
            raise InvalidPduParameterValue("the command set is cut off")
        group, element, length = unpack(command_set, position)
        position += 8
        if group != 0 or length > end - position:
            raise InvalidPduParameterValue("the command set has a bad element")
        found[element] = bytes(command_set[position : position + length])
        position += length
    return found


def _number(elements: dict[int, bytes], element: int) -> int:
    raw = elements.get(element)
    if raw is None or len(raw) < 2:
        raise InvalidPduParameterValue(f"the command set lacks (0000,{element:04X})")
    value: int = _U16.unpack_from(raw)[0]
    return value


def _decode_value(field: Field, raw: bytes) -> Any:
    kind = field.kind
    if kind is Kind.NUMBER:
        if len(raw) < 2:
            if field.required:
                raise InvalidPduParameterValue(f"(0000,{field.element:04X}) {field.name} has no value")
            return None
        return _U16.unpack_from(raw)[0]
    if kind is Kind.UID:
        raw = raw.rstrip(b"\0 ")
        if len(raw) > UID_CHARACTERS_MAX or not raw.isascii():
            raise InvalidPduParameterValue(f"(0000,{field.element:04X}) {field.name} is not a UID")
        if not raw and field.required:
            raise InvalidPduParameterValue(f"(0000,{field.element:04X}) {field.name} has no value")
        return raw.decode("ascii")
    if kind is Kind.TEXT:
        return raw.decode("ascii", "replace").strip("\0 ")
    return tuple((group << 16) | element for group, element in _TAG.iter_unpack(raw[: len(raw) // 4 * 4]))
