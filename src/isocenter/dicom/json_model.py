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

from isocenter.dicom.charsets import TextDecoder
from isocenter.dicom.person_name import GROUPS

# Bytes that cannot stand for themselves in a JSON string, and the two that mean more than text in DICOM.
_NEEDS_CARE = re.compile(rb"[\x00-\x1f\"\\]").search
_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")
_NUMBER_CHARACTERS_MAX = 32  # twice what DS allows
_SAFE_INTEGER = 2**53 - 1  # what a double, and so JavaScript, holds exactly (RFC 8259 §6)

_PLAIN_TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_STRUCT_CODES = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
KNOWN_VRS = _PLAIN_TEXT | _BINARY | _STRUCT_CODES.keys() | {"AT", "DS", "IS", "PN", "SQ"}


@lru_cache(maxsize=4096)
def _head(tag: int, vr: str) -> str:
    return f'"{tag:08X}":{{"vr":"{vr}"'


def _attribute(tag: int, vr: str, values: list[str]) -> str:
    """Joins values that are JSON already."""
    if not values:
        return _head(tag, vr) + "}"
    return f'{_head(tag, vr)},"Value":[{",".join(values)}]}}'


def fragment(tag: int, vr: str, value: bytes, decoder: TextDecoder) -> str:
    """``"00100010":{"vr":"PN","Value":[{"Alphabetic":"DOE^JOHN"}]}`` from a raw little-endian value.

    Never raises: broken values are kept as text where the model has room for them, the bytes of an
    incomplete last number are left out, a VR that nobody knows is UN. Sequences are `json_dataset`'s work.
    """
    if not value:
        return _head(tag, vr if vr in KNOWN_VRS else "UN") + "}"
    if vr in _PLAIN_TEXT:
        # PS3.5 §6.2: blanks on the right never count in these, on the left not in the short ones.
        stripped = value.rstrip(b" \0") if vr in _LEADING_BLANKS_COUNT else value.strip(b" \0")
        if stripped.isascii() and not _NEEDS_CARE(stripped):
            if not stripped:
                return _head(tag, vr) + "}"
            return f'{_head(tag, vr)},"Value":["{stripped.decode("ascii")}"]}}'
        return _attribute(tag, vr, _strings(decoder.decode_multi(value, vr)))
    write = _WRITERS.get(vr)
    if write is None:
        return inline_binary(tag, vr if vr in _BINARY else "UN", value)
    return _attribute(tag, vr, write(value, vr, decoder))


_LEADING_BLANKS_COUNT = frozenset({"LT", "ST", "UC", "UT"})


def text_fragment(tag: int, vr: str, values: Sequence[str]) -> str:
    """An attribute from values that are text already; DS and IS become numbers where they are some."""
    if not any(values):
        return _attribute(tag, vr, []) if len(values) < 2 else _attribute(tag, vr, ["null"] * len(values))
    match vr:
        case "PN":
            return _attribute(tag, vr, [_person_name(value) for value in values])
        case "DS":
            return _attribute(tag, vr, [_decimal(value) for value in values])
        case "IS":
            return _attribute(tag, vr, [_integer(value) for value in values])
        case _:
            return _attribute(tag, vr, _strings(values))


def number_fragment(tag: int, vr: str, values: Sequence[int | float | None]) -> str:
    """An attribute from numbers; None is a missing value among others."""
    return _attribute(tag, vr, [_number(value) for value in values])


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
    return _attribute(tag, "SQ", list(items))


def _string(text: str) -> str:
    try:
        return orjson.dumps(text).decode()
    except TypeError:  # lone surrogates are no text; they come from callers, never from a decoder
        return orjson.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")).decode()


def _strings(values: Sequence[str]) -> list[str]:
    """An empty value among others is null (F.2.5)."""
    return [_string(value) if value else "null" for value in values]


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


def _person_names(value: bytes, vr: str, decoder: TextDecoder) -> list[str]:
    return [_person_name(text) for text in decoder.decode_multi(value, vr)]


def _decimals(value: bytes, vr: str, decoder: TextDecoder) -> list[str]:
    return [_decimal(text) for text in decoder.decode_multi(value, vr)]


def _integers(value: bytes, vr: str, decoder: TextDecoder) -> list[str]:
    return [_integer(text) for text in decoder.decode_multi(value, vr)]


def _decimal(text: str) -> str:
    """The same digits as a JSON number (``+1.`` is 1, ``.5`` is 0.5, ``007`` is 7), else a string."""
    text = text.strip(" \0")
    if not text:
        return "null"
    match = _NUMBER.fullmatch(text) if len(text) <= _NUMBER_CHARACTERS_MAX and text.isascii() else None
    if match is None or not (match[2] or match[3]) or math.isinf(float(text)):
        return _string(text)
    sign, whole, fraction, exponent = match.groups()
    number = ("-" if sign == "-" else "") + (whole.lstrip("0") or "0")
    if fraction:
        number += "." + fraction
    return f"{number}e{exponent}" if exponent else number


def _integer(text: str) -> str:
    text = text.strip(" \0")
    if not text:
        return "null"
    try:
        number = (
            int(text) if len(text) <= _NUMBER_CHARACTERS_MAX and text.isascii() and "_" not in text else None
        )
    except ValueError:
        # Writers that format an IS as a decimal (1.0, 2E2) mean the integer.
        decimal = _decimal(text)
        number = int(float(decimal)) if decimal[0] != '"' and float(decimal).is_integer() else None
    return str(number) if number is not None and abs(number) <= _SAFE_INTEGER else _string(text)


def _number(value: int | float | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value) if abs(value) <= _SAFE_INTEGER else f'"{value}"'
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _numbers(value: bytes, vr: str, _: TextDecoder) -> list[str]:
    code = _STRUCT_CODES[vr]
    count = len(value) // struct.calcsize(code)
    numbers = struct.unpack_from(f"<{count}{code}", value)
    return list(map(str, numbers)) if code in "hHiI" else [_number(number) for number in numbers]


def _tags(value: bytes, _vr: str, _: TextDecoder) -> list[str]:
    return [
        f'"{group:04X}{element:04X}"'
        for group, element in struct.iter_unpack("<HH", value[: len(value) & ~3])
    ]


_WRITERS: dict[str, Callable[[bytes, str, TextDecoder], list[str]]] = {
    "PN": _person_names,
    "DS": _decimals,
    "IS": _integers,
    "AT": _tags,
    **dict.fromkeys(_STRUCT_CODES, _numbers),
}
