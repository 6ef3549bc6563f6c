"""One attribute as DICOM JSON text (PS3.18 F.2), from the raw value or from Python values.

The output has no blanks outside of values and no raw line break anywhere, so that answers and metadata can be
joined as strings and stored one per line. It is always valid JSON: numbers that JSON (or a reader's
64-bit integers and doubles) cannot hold become strings, as F.2.3 allows for DS, IS, SV and UV.
"""

from __future__ import annotations

import math
import re
import struct
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from functools import lru_cache

import orjson

from isocenter.dicom.charsets import LEADING_BLANKS_COUNT, TextDecoder
from isocenter.dicom.person_name import GROUPS

# Bytes that cannot stand for themselves in a JSON string, and the two that mean more than text in DICOM.
_NEEDS_CARE = re.compile(rb"[\x00-\x1f\"\\]").search
_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?", re.ASCII)
_PLAIN_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,15})(?:\.\d{1,15})?", re.ASCII)
_NUMBER_CHARACTERS_MAX = 32  # twice what DS allows
_SAFE_INTEGER = 2**53 - 1  # what a double, and so JavaScript, holds exactly (RFC 8259 §6)

_PLAIN_TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_STRUCTS = {
    vr: struct.Struct("<" + code)
    for vr, code in zip(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), "dfihqIHQ", strict=True)
}
KNOWN_VRS = _PLAIN_TEXT | _BINARY | _STRUCTS.keys() | {"AT", "DS", "IS", "PN", "SQ"}


@lru_cache(maxsize=4096)
def _head(tag: int, vr: str) -> str:
    return f'"{tag:08X}":{{"vr":"{vr}"'


def _attribute(tag: int, vr: str, values: str) -> str:
    """``values`` is JSON already: what stands between the brackets."""
    return f'{_head(tag, vr)},"Value":[{values}]}}' if values else _head(tag, vr) + "}"


def fragment(tag: int, vr: str, value: bytes, decoder: TextDecoder) -> str:
    """``"00100010":{"vr":"PN","Value":[{"Alphabetic":"DOE^JOHN"}]}`` from a raw little-endian value.

    Never raises: broken values are kept as text where the model has room for them, the bytes of an
    incomplete last number are left out, a VR that nobody knows is UN. Sequences are `json_dataset`'s work.
    """
    write = _WRITERS.get(vr)
    if write is None or not value:
        return inline_binary(tag, vr if vr in _BINARY or (vr in KNOWN_VRS and not value) else "UN", value)
    return _attribute(tag, vr, write(value, vr, decoder))


def text_fragment(tag: int, vr: str, values: Sequence[str]) -> str:
    """An attribute from values that are text already; DS and IS become numbers where they are some."""
    if len(values) == 1 and not values[0]:
        return _attribute(tag, vr, "")
    write = _TEXT_WRITERS.get(vr, _strings)
    return _attribute(tag, vr, write(values))


def number_fragment(tag: int, vr: str, values: Sequence[int | float | None]) -> str:
    """An attribute from numbers; None is a missing value among others."""
    return _attribute(tag, vr, ",".join(map(_number, values)))


def inline_binary(tag: int, vr: str, value: bytes) -> str:
    """An attribute with its bytes as base64 (F.2.7)."""
    if not value:
        return _head(tag, vr) + "}"
    return f'{_head(tag, vr)},"InlineBinary":"{b2a_base64(value, newline=False).decode("ascii")}"}}'


def bulk_data_uri(tag: int, vr: str, uri: str) -> str:
    """An attribute whose bytes are to be fetched elsewhere (F.2.6)."""
    return f'{_head(tag, vr)},"BulkDataURI":{_string(uri)}}}'


def sequence_fragment(tag: int, items: Sequence[str]) -> str:
    """A sequence of items that are JSON objects already."""
    return _attribute(tag, "SQ", ",".join(items))


def _string(text: str) -> str:
    try:
        return orjson.dumps(text).decode()
    except TypeError:  # lone surrogates are no text; they come from callers, never from a decoder
        return orjson.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")).decode()


def _strings(values: Sequence[str]) -> str:
    """An empty value among others is null (F.2.5)."""
    return ",".join(_string(value) if value else "null" for value in values)


def _person_names(values: Sequence[str]) -> str:
    return ",".join(map(_person_name, values))


def _person_name(text: str) -> str:
    if "=" not in text:
        return f'{{"Alphabetic":{_string(text)}}}' if text else "null"
    groups = (
        f'"{name}":{_string(group)}'
        for name, part in zip(GROUPS, text.split("=", 2), strict=False)
        if (group := part.rstrip(" \0"))
    )
    content = ",".join(groups)
    return f"{{{content}}}" if content else "null"


def _decimals(values: Sequence[str]) -> str:
    return ",".join(map(_decimal, values))


def _decimal(text: str) -> str:
    """The same digits as a JSON number (``+1.`` is 1, ``.5`` is 0.5, ``007`` is 7), else a string."""
    if _PLAIN_DECIMAL.fullmatch(text):
        return text
    text = text.strip(" \0")
    if not text:
        return "null"
    match = _NUMBER.fullmatch(text) if len(text) <= _NUMBER_CHARACTERS_MAX else None
    if match is None or not (match[2] or match[3]) or math.isinf(float(text)):
        return _string(text)
    sign, whole, fraction, exponent = match.groups()
    number = ("-" if sign == "-" else "") + (whole.lstrip("0") or "0")
    if fraction:
        number += "." + fraction
    return f"{number}e{exponent}" if exponent else number


def _integers(values: Sequence[str]) -> str:
    return ",".join(map(_integer, values))


def _integer(text: str) -> str:
    text = text.strip(" \0")
    if not text:
        return "null"
    number = _decimal(text)
    if number[0] == '"':
        return number
    # Writers that format an IS as a decimal (1.0, 2E2) mean the integer.
    value = int(number) if number.lstrip("-").isdigit() else float(number)
    return str(int(value)) if value == int(value) and abs(value) <= _SAFE_INTEGER else _string(text)


def _number(value: int | float | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value) if abs(value) <= _SAFE_INTEGER else f'"{value}"'
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _write_text(value: bytes, vr: str, decoder: TextDecoder) -> str:
    # PS3.5 §6.2: blanks on the right never count, on the left not in the short ones.
    stripped = value.rstrip(b" \0") if vr in LEADING_BLANKS_COUNT else value.strip(b" \0")
    if stripped.isascii() and not _NEEDS_CARE(stripped):
        return f'"{stripped.decode("ascii")}"' if stripped else ""
    return _strings(decoder.decode_multi(value, vr))


def _write_person_name(value: bytes, vr: str, decoder: TextDecoder) -> str:
    stripped = value.rstrip(b" \0")
    if stripped.isascii() and b"=" not in stripped and not _NEEDS_CARE(stripped):
        return f'{{"Alphabetic":"{stripped.decode("ascii")}"}}' if stripped else ""
    return _person_names(decoder.decode_multi(value, vr))


def _write_decimal(value: bytes, vr: str, decoder: TextDecoder) -> str:
    return _decimals(decoder.decode_multi(value, vr))


def _write_integer(value: bytes, vr: str, decoder: TextDecoder) -> str:
    stripped = value.strip(b" \0")
    if stripped.isdigit() and len(stripped) < 16 and stripped[0] != 0x30:
        return stripped.decode("ascii")
    return _integers(decoder.decode_multi(value, vr))


def _write_numbers(value: bytes, vr: str, _: TextDecoder) -> str:
    one = _STRUCTS[vr]
    if len(value) == one.size:
        return _number(one.unpack(value)[0])
    complete = value[: len(value) // one.size * one.size]
    return ",".join([_number(number) for (number,) in one.iter_unpack(complete)])


def _write_tags(value: bytes, _vr: str, _: TextDecoder) -> str:
    complete = value[: len(value) & ~3]
    return ",".join([f'"{group:04X}{element:04X}"' for group, element in struct.iter_unpack("<HH", complete)])


_TEXT_WRITERS: dict[str, Callable[[Sequence[str]], str]] = {
    "PN": _person_names,
    "DS": _decimals,
    "IS": _integers,
}
_WRITERS: dict[str, Callable[[bytes, str, TextDecoder], str]] = {
    **dict.fromkeys(_PLAIN_TEXT, _write_text),
    "PN": _write_person_name,
    "DS": _write_decimal,
    "IS": _write_integer,
    "AT": _write_tags,
    **dict.fromkeys(_STRUCTS, _write_numbers),
}
