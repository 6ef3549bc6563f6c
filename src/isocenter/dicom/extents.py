"""Where sequences of undefined length and encapsulated Pixel Data end, found without recursion."""

from __future__ import annotations

import struct
from array import array
from itertools import repeat
from typing import NamedTuple

from isocenter.dicom.encoding import (
    ENCODINGS,
    EXPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITER,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    odd_header,
)
from isocenter.dicom.scan_limits import (
    MALFORMED,
    TOO_DEEP,
    TOO_LARGE_HEADER,
    TRUNCATED,
    ScanError,
    ScanLimits,
)

_ITEM_KEY = EXPLICIT_LITTLE.key_of(ITEM)
_ITEM_DELIMITER_KEY = EXPLICIT_LITTLE.key_of(ITEM_DELIMITER)
_SEQUENCE_DELIMITER_KEY = EXPLICIT_LITTLE.key_of(SEQUENCE_DELIMITER)


class Fragments(NamedTuple):
    """Encapsulated Pixel Data (PS3.5 A.4): ``offset`` and ``length`` span the items without the delimiter.

    ``offsets`` and ``lengths`` are those of the fragments' bytes, the Basic Offset Table left out.
    ``basic_offset_table`` counts from the first fragment's item tag; empty where the item is.
    """

    length: int
    offsets: array[int]
    lengths: array[int]
    basic_offset_table: array[int]
    after: int


class Skipped(NamedTuple):
    """Where a sequence's content ends, where what follows starts, how many headers were read."""

    content_end: int
    after: int
    steps: int


def skip_undefined(
    data: Buffer,
    pos: int,
    encoding: Encoding,
    *,
    tag: int,
    steps_max: int,
    depth_max: int,
    unlabelled: bool = False,
) -> Skipped:
    """The way past the sequence of undefined length at ``pos``.

    ``pos`` is the first item; ``encoding`` that of the data set. ``unlabelled``: the sequence has VR UN.
    At most ``steps_max`` headers are read. Fragments of encapsulated data are items too. Raises
    :class:`ScanError`.
    """
    if not (unlabelled or encoding.implicit_vr or encoding.big_endian):
        skipped = _skip_plain(data, pos, steps_max, depth_max)
        if skipped is not None:
            return skipped
    skipper = _Skipper(data, encoding, steps_max, depth_max, unlabelled=unlabelled)
    stack = skipper.stack
    end = len(data)
    start = pos
    try:
        while stack:
            pos = skipper.step(pos)
            if pos > end:
                raise ScanError(TRUNCATED, "A sequence ends early", offset=end, tag=tag, needed_bytes=pos)
            if skipper.steps_left <= 0:
                raise ScanError(TOO_LARGE_HEADER, "There are too many elements", offset=start, tag=tag)
    except struct.error:
        raise ScanError(
            TRUNCATED, "A sequence ends early", offset=end, tag=tag, needed_bytes=end + 1
        ) from None
    return Skipped(pos - 8, pos, steps_max - skipper.steps_left)


def skip_item(data: Buffer, pos: int, encoding: Encoding, *, steps_max: int, depth_max: int) -> int:
    """Where what follows the item at ``pos`` begins, whatever its length says. Raises :class:`ScanError`."""
    try:
        group, number, length = encoding.wide.unpack_from(data, pos)
        if group << 16 | number != ITEM:
            raise ScanError(MALFORMED, "Something else than an item is in a sequence", offset=pos)
        after = int(pos + 8 + length)
        if length == UNDEFINED_LENGTH:
            after = _skip_undefined_item(data, pos + 8, encoding, steps_max, depth_max)
    except struct.error:
        raise ScanError(TRUNCATED, "A sequence ends early", offset=len(data)) from None
    if after > len(data):
        raise ScanError(TRUNCATED, "A sequence ends early", offset=len(data), needed_bytes=after)
    return after


def _skip_undefined_item(data: Buffer, pos: int, encoding: Encoding, steps_max: int, depth_max: int) -> int:
    if not (encoding.implicit_vr or encoding.big_endian):
        skipped = _skip_plain(data, pos, steps_max, depth_max, outermost=2)
        if skipped is not None:
            return skipped.after
    skipper = _Skipper(data, encoding, steps_max, depth_max, unlabelled=False)
    skipper.stack[:] = [(True, encoding)]
    while skipper.stack:
        pos = skipper.step(pos)
        if pos > len(data):
            raise ScanError(TRUNCATED, "A sequence ends early", offset=len(data), needed_bytes=pos)
        if skipper.steps_left <= 0:
            raise ScanError(TOO_LARGE_HEADER, "There are too many elements", offset=pos)
    return pos


def _skip_plain(  # noqa: C901, PLR0912 - calls cost more
    data: Buffer, pos: int, steps_max: int, depth_max: int, outermost: int = 1
) -> Skipped | None:
    """The quick way through what nearly all files have: explicit VR little endian with every delimiter in
    its place. ``None``, whatever is wrong: the thorough way finds out. ``outermost``: 1 for a sequence, 2 for
    an item."""
    unpack = EXPLICIT_LITTLE.keyed_short.unpack_from
    short_vrs, long_vrs = EXPLICIT_LITTLE.short_vrs, EXPLICIT_LITTLE.long_vrs
    level = outermost  # containers of undefined length; odd in a sequence, even in an item
    level_max = 2 * depth_max
    try:
        for step in range(steps_max):
            key, word, length = unpack(data, pos)
            if key & 0xFFFF == 0xFFFE:
                item_bytes = length << 16 | word
                if key == _ITEM_KEY and level & 1:
                    if item_bytes == UNDEFINED_LENGTH:
                        level += 1
                    else:
                        pos += item_bytes
                elif key == (_SEQUENCE_DELIMITER_KEY if level & 1 else _ITEM_DELIMITER_KEY):
                    level -= 1
                    if level < outermost:
                        return Skipped(pos, pos + 8, step)
                else:
                    break
                pos += 8
            elif level & 1:
                break
            elif word in short_vrs:
                pos += 8 + length
            elif word in long_vrs:
                value_bytes = EXPLICIT_LITTLE.long.unpack_from(data, pos + 8)[0]
                pos += 12
                if value_bytes != UNDEFINED_LENGTH:
                    pos += value_bytes
                elif level < level_max and long_vrs[word] != "UN":
                    level += 1
                else:
                    break
            else:
                break
    except struct.error:
        pass
    return None


class _Skipper:
    """The open containers of undefined length, innermost last.

    ``stack`` has one entry each: whether it is an item, and the encoding of what it holds; ``None`` for a
    sequence with VR UN, whose items tell themselves (:func:`item_encoding`).
    """

    __slots__ = ("_data", "_depth_max", "_encoding", "stack", "steps_left")

    def __init__(
        self, data: Buffer, encoding: Encoding, steps_max: int, depth_max: int, *, unlabelled: bool
    ) -> None:
        self._data = data
        self._encoding = encoding
        self._depth_max = depth_max
        self.stack: list[tuple[bool, Encoding | None]] = [(False, None if unlabelled else encoding)]
        self.steps_left = steps_max

    def step(self, pos: int) -> int:
        """To the next header that opens or closes a container of undefined length, and past it."""
        in_item, inner = self.stack[-1]
        if in_item and inner is not None:
            if inner.implicit_vr:
                return self._step_in_implicit_item(pos, inner)
            return self._step_in_explicit_item(pos, inner)
        return self._step_in_sequence(pos, inner)

    def _step_in_sequence(self, pos: int, inner: Encoding | None) -> int:
        data = self._data
        unpack = (inner or self._encoding).wide.unpack_from
        for step in range(self.steps_left):
            group, number, length = unpack(data, pos)
            if group != 0xFFFE:
                break
            if number == 0xE0DD:
                self.steps_left -= step + 1
                self.stack.pop()
                return pos + 8
            if number != 0xE000:
                break
            pos += 8
            if length == UNDEFINED_LENGTH:
                self.steps_left -= step + 1
                self._push(pos, ITEM, in_item=True, inner=inner or item_encoding(data, pos, self._encoding))
                return pos
            pos += length
        else:
            self.steps_left = 0
            return pos
        tag = group << 16 | number
        raise ScanError(MALFORMED, "Something else than an item is in a sequence", offset=pos, tag=tag)

    def _step_in_explicit_item(self, pos: int, encoding: Encoding) -> int:
        data = self._data
        unpack, short_vrs = encoding.short.unpack_from, encoding.short_vrs
        for step in range(self.steps_left):
            group, number, word, length = unpack(data, pos)
            if word in short_vrs:
                pos += 8 + length
                continue
            vr = encoding.long_vrs.get(word)
            if vr is not None:
                length = encoding.long.unpack_from(data, pos + 8)[0]
                value = pos + 12
            elif group == 0xFFFE:
                self.steps_left -= step + 1
                return self._close(pos, group << 16 | number)
            else:
                vr, value, length = odd_header(data, pos, len(data), encoding)
            if length == UNDEFINED_LENGTH:
                self.steps_left -= step + 1
                self._push(value, group << 16 | number, in_item=False, inner=None if vr == "UN" else encoding)
                return value
            pos = value + length
        self.steps_left = 0
        return pos

    def _step_in_implicit_item(self, pos: int, encoding: Encoding) -> int:
        data = self._data
        unpack = encoding.wide.unpack_from
        for step in range(self.steps_left):
            group, number, length = unpack(data, pos)
            if group == 0xFFFE:
                self.steps_left -= step + 1
                return self._close(pos, group << 16 | number)
            pos += 8
            if length == UNDEFINED_LENGTH:
                self.steps_left -= step + 1
                self._push(pos, group << 16 | number, in_item=False, inner=encoding)
                return pos
            pos += length
        self.steps_left = 0
        return pos

    def _close(self, pos: int, tag: int) -> int:
        if tag == ITEM_DELIMITER:
            self.stack.pop()
        elif tag == SEQUENCE_DELIMITER:
            # An item without its delimiter, closed by its sequence's (met in real files).
            del self.stack[-2:]
        else:
            raise ScanError(MALFORMED, "An item tag is out of place", offset=pos, tag=tag)
        return pos + 8

    def _push(self, pos: int, tag: int, *, in_item: bool, inner: Encoding | None) -> None:
        # A sequence and its item are one level of nesting, two of the stack.
        depth_max = self._depth_max
        if len(self.stack) >= 2 * depth_max:
            raise ScanError(TOO_DEEP, f"Sequences are nested deeper than {depth_max}", offset=pos, tag=tag)
        self.stack.append((in_item, inner))


def item_encoding(data: Buffer, pos: int, outer: Encoding) -> Encoding:
    """The encoding of an item's elements where the sequence came as UN: implicit VR by
    PS3.5 §6.2.2, but explicit where the first element has a VR."""
    vr = bytes(data[pos + 4 : pos + 6])
    word = int.from_bytes(vr, "big" if outer.big_endian else "little")
    if word in outer.short_vrs or word in outer.long_vrs:
        return ENCODINGS[False, outer.big_endian]
    return ENCODINGS[True, outer.big_endian]


def walk_fragments(data: Buffer, pos: int, encoding: Encoding, *, tag: int, limits: ScanLimits) -> Fragments:
    """The fragments of encapsulated Pixel Data whose Basic Offset Table item is at ``pos``."""
    end = len(data)
    unpack = encoding.wide.unpack_from
    offsets = array("Q")
    lengths = array("Q")
    start = pos
    try:
        for _ in repeat(None, limits.fragments_max):
            group, number, length = unpack(data, pos)
            pos += 8
            if group != 0xFFFE or number not in (0xE000, 0xE0DD):
                raise ScanError(
                    MALFORMED, "Something else than a fragment is in Pixel Data", offset=pos - 8, tag=tag
                )
            if number == 0xE0DD:
                table = _basic_offset_table(data, offsets, lengths, encoding)
                return Fragments(pos - 8 - start, offsets[1:], lengths[1:], table, pos)
            if length == UNDEFINED_LENGTH:
                raise ScanError(MALFORMED, "A fragment has no length", offset=pos - 8, tag=tag)
            offsets.append(pos)
            lengths.append(length)
            pos += length
            if pos > end:
                raise ScanError(TRUNCATED, "Pixel Data ends early", offset=end, tag=tag, needed_bytes=pos)
    except struct.error:
        raise ScanError(
            TRUNCATED, "Pixel Data ends early", offset=end, tag=tag, needed_bytes=end + 1
        ) from None
    raise ScanError(TOO_LARGE_HEADER, "Pixel Data has too many fragments", offset=start, tag=tag)


def _basic_offset_table(
    data: Buffer, offsets: array[int], lengths: array[int], encoding: Encoding
) -> array[int]:
    if not offsets:
        return array("Q")
    whole = lengths[0] // 4 * 4
    words = array("I", bytes(data[offsets[0] : offsets[0] + whole]))
    if encoding.big_endian:
        words.byteswap()
    return array("Q", words)
