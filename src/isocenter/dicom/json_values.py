"""Values of DICOM JSON as raw little-endian bytes (PS3.18 F.2.3 read backwards).

`ValueError` says in words what is wrong with a value, without quoting it; `json_dataset` adds where.
"""

from __future__ import annotations

import binascii
import math
import re
import struct
from collections.abc import Callable, Sequence

from isocenter.dicom.person_name import GROUPS
from isocenter.dicom.value_representations import padded

_DECIMAL_CHARACTERS_MAX = 16  # PS3.5 Table 6.2-1, DS
_STRING_VRS = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_STRUCT_CODES = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}


def text_of(values: Sequence[object], vr: str) -> str:
    """The values of a text VR (DS, IS and PN too) with a backslash between them."""
    as_text = _AS_TEXT[vr]
    return "\\".join([as_text(value) if value is not None else "" for value in values])


def encode_numbers(values: Sequence[object], vr: str) -> bytes:
    """The values of a VR that is neither text nor SQ. Raises ValueError."""
    if vr == "AT":
        return b"".join(map(_tag_bytes, values))
    code = _STRUCT_CODES.get(vr)
    if code is None:
        raise ValueError(f"{vr} has no Value; its bytes go into InlineBinary")
    try:
        return struct.pack(f"<{len(values)}{code}", *(_number(value, code) for value in values))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a number does not fit into {vr}") from error


def decode_inline_binary(value: object, vr: str) -> bytes:
    """The bytes behind ``InlineBinary``. Raises ValueError.

    The text may stand in an array, as the example of F.4 had it.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise ValueError("InlineBinary is not a string")
    try:
        return padded(binascii.a2b_base64(value, strict_mode=True), vr)
    except (binascii.Error, ValueError) as error:
        raise ValueError("InlineBinary is not base64") from error


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a value is not a string")
    return value


def _person_name(value: object) -> str:
    if isinstance(value, str):  # several servers write names as plain strings
        return value
    if not isinstance(value, dict):
        raise ValueError("a name is not an object with Alphabetic, Ideographic or Phonetic")
    groups = [value.get(group) or "" for group in GROUPS]
    if not all(isinstance(group, str) for group in groups):
        raise ValueError("a component group of a name is not a string")
    return "=".join(groups).rstrip("=")


def _decimal_string(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a value is neither a number nor a string")
    text = repr(value)
    digits = _DECIMAL_CHARACTERS_MAX
    while len(text) > _DECIMAL_CHARACTERS_MAX:
        digits -= 1
        text = f"{value:.{digits}g}"
    return text


def _integer_string(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError("a value is neither an integer nor a string")
    return str(int(value))


_AS_TEXT: dict[str, Callable[[object], str]] = {
    **dict.fromkeys(_STRING_VRS, _string),
    "PN": _person_name,
    "DS": _decimal_string,
    "IS": _integer_string,
}
TEXT_VRS = frozenset(_AS_TEXT)


def _tag_bytes(value: object) -> bytes:
    if not isinstance(value, str) or not _TAG.fullmatch(value):
        raise ValueError("a tag is not a string of eight hexadecimal digits")
    return struct.pack("<HH", int(value[:4], 16), int(value[4:], 16))


def _number(value: object, code: str) -> int | float:
    """JSON strings stand for what a JSON number cannot say: NaN, infinities, 64-bit integers."""
    try:
        number = float(value) if isinstance(value, str) and code in "df" else value
        number = int(number) if isinstance(number, str) else number
    except ValueError as error:
        raise ValueError("a value is not a number") from error
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError("a value is not a number")
    if code not in "df" and isinstance(number, float):
        if not number.is_integer():
            raise ValueError("a value is not an integer")
        return int(number)
    return number
