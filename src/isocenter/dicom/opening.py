"""Where the data set of some bytes begins, and how it is really encoded (PS3.10 §7, PS3.5 A)."""

from __future__ import annotations

import struct
from itertools import repeat
from typing import NamedTuple

from isocenter.dicom.encoding import (
    ENCODINGS,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
)
from isocenter.dicom.scan_limits import (
    MALFORMED,
    NOT_DICOM,
    TOO_LARGE_HEADER,
    TRUNCATED,
    ScanError,
    ScanLimits,
)
from isocenter.dicom.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)

_TRANSFER_SYNTAX_UID = 0x00020010
_FIRST_GROUP_MAX = 0x00FF
_GUESS_ORDER = ((False, False), (True, False), (False, True), (True, True))


class Opening(NamedTuple):
    """``header_size`` bytes before the data set. ``encoding`` is what the bytes show, which may differ from
    what ``transfer_syntax_uid`` (as declared; guessed where nothing declares it) says."""

    header_size: int
    file_meta: dict[int, bytes]
    transfer_syntax_uid: str
    encoding: Encoding
    deflated: bool
    disguised: bool = False


def open_data_set(data: Buffer, transfer_syntax_uid: str | None, limits: ScanLimits) -> Opening:
    """Read file meta information, where there is any, and settle the encoding. Raises :class:`ScanError`.

    With ``transfer_syntax_uid`` the data is a bare data set.
    """
    file_meta: dict[int, bytes] = {}
    start = 0
    if transfer_syntax_uid is None:
        if data[128:132] == b"DICM":
            file_meta, start = _read_file_meta(data, 132, limits)
        elif data[:4] == b"DICM":
            file_meta, start = _read_file_meta(data, 4, limits)
        elif data[:2] == b"\x02\x00" and bytes(data[4:6]) in (b"UL", b"OB", b"UI"):
            file_meta, start = _read_file_meta(data, 0, limits)
        declared = file_meta.get(_TRANSFER_SYNTAX_UID, b"").strip(b" \0").decode("ascii", "replace")
    else:
        declared = transfer_syntax_uid
    if data[start : start + 2] == b"\0\0":
        start = _after_command_group(data, start)
    if not declared:
        return _guess(data, start, file_meta)
    syntax = TRANSFER_SYNTAXES.get(declared)
    if syntax is None:
        # Private transfer syntaxes follow PS3.5 §10.1 and A.4: explicit VR little endian but for Pixel Data.
        return Opening(start, file_meta, declared, settle(data, start, EXPLICIT_LITTLE), False)
    if syntax.deflated:
        deflated = not _parses(data, start, len(data), EXPLICIT_LITTLE)
        return Opening(start, file_meta, declared, EXPLICIT_LITTLE, deflated, not deflated)
    expected = ENCODINGS[syntax.implicit_vr, syntax.big_endian]
    encoding = settle(data, start, expected)
    return Opening(start, file_meta, declared, encoding, False, encoding is not expected)


def settle(data: Buffer, start: int, declared: Encoding) -> Encoding:
    """``declared``, unless the first elements can only be read in another encoding.

    Files that say explicit and are implicit, or the reverse, are common enough that every reader copes.
    """
    if len(data) - start < 8:
        return declared
    group, _, word, _ = declared.short.unpack_from(data, start)
    has_vr = word in declared.short_vrs or word in declared.long_vrs
    if group <= _FIRST_GROUP_MAX and has_vr is not declared.implicit_vr:
        return declared
    end = len(data)
    order = [declared, *(ENCODINGS[key] for key in _GUESS_ORDER)]
    if declared.implicit_vr and has_vr:
        order.insert(0, ENCODINGS[False, declared.big_endian])
    return next((encoding for encoding in order if _parses(data, start, end, encoding)), declared)


def _read_file_meta(data: Buffer, pos: int, limits: ScanLimits) -> tuple[dict[int, bytes], int]:
    """The elements of group 2 and where they end: by their group, since their group length is often wrong."""
    found: dict[int, bytes] = {}
    end = len(data)
    stop = min(end, pos + limits.file_meta_bytes_max)
    unpack = EXPLICIT_LITTLE.short.unpack_from
    short_vrs = EXPLICIT_LITTLE.short_vrs
    tag = 0x00020000
    while pos + 8 <= stop:
        group, number, word, length = unpack(data, pos)
        if group != 2:
            return found, pos
        tag = 0x00020000 | number
        value = pos + 8
        if word not in short_vrs:
            if word in EXPLICIT_LITTLE.long_vrs:
                if end < value + 4:
                    break
                length = EXPLICIT_LITTLE.long.unpack_from(data, value)[0]
                value += 4
            else:
                length = EXPLICIT_LITTLE.long.unpack_from(data, pos + 4)[0]
            if length == UNDEFINED_LENGTH:
                raise ScanError(MALFORMED, "File meta information without a length", offset=pos, tag=tag)
        if value + length > end:
            break
        pos = value + length
        found[tag] = bytes(data[value:pos])
    if pos >= end - 7 and pos <= end:
        if data[pos:] in (b"", b"\0" * (end - pos)):
            return found, end
    elif stop < end and pos + 8 > stop:
        raise ScanError(TOO_LARGE_HEADER, "File meta information is too long", offset=pos, tag=tag)
    raise ScanError(TRUNCATED, "File meta information ends early", offset=end, tag=tag, needed_bytes=end + 1)


def _after_command_group(data: Buffer, pos: int) -> int:
    """Past the elements of group 0 (PS3.7 §E), implicit VR little endian, that some writers leave behind."""
    start = pos
    for _ in repeat(None, 64):
        if pos + 8 > len(data):
            return start
        group, number, length = IMPLICIT_LITTLE.wide.unpack_from(data, pos)
        if group != 0:
            return pos
        if (number == 0) is not (pos == start) or length > len(data):
            return start
        pos += 8 + length
    return start


def _guess(data: Buffer, start: int, file_meta: dict[int, bytes]) -> Opening:
    end = len(data)
    for key in _GUESS_ORDER:
        encoding = ENCODINGS[key]
        if _parses(data, start, end, encoding):
            if encoding.implicit_vr:
                uid = IMPLICIT_VR_LITTLE_ENDIAN
            else:
                uid = EXPLICIT_VR_BIG_ENDIAN if encoding.big_endian else EXPLICIT_VR_LITTLE_ENDIAN
            return Opening(start, file_meta, uid, encoding, False)
    if file_meta and end - start < 8:
        return Opening(start, file_meta, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_LITTLE, False)
    raise ScanError(NOT_DICOM, "Neither a DICOM file nor a data set starts", offset=start)


def _parses(data: Buffer, pos: int, end: int, encoding: Encoding) -> bool:
    """Whether two elements or three, or all there are, follow one another sensibly at ``pos``."""
    previous = -1
    for count in range(3):
        if pos == end:
            return count > 0
        try:
            group, number, word, length = encoding.short.unpack_from(data, pos)
            value = pos + 8
            if encoding.implicit_vr:
                length = encoding.long.unpack_from(data, pos + 4)[0]
            elif word in encoding.long_vrs:
                length = encoding.long.unpack_from(data, value)[0]
                value += 4
            elif word not in encoding.short_vrs:
                return False
        except struct.error:
            return False
        tag = group << 16 | number
        if length == UNDEFINED_LENGTH:
            return tag > previous and data[value : value + 2] in (b"\xfe\xff", b"\xff\xfe")
        pos = value + length
        if tag <= previous or pos > end or (count == 0 and not 0 < group <= _FIRST_GROUP_MAX):
            return False
        previous = tag
    return True
