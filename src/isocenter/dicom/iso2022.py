"""Code extensions by escape sequences (ISO/IEC 2022 as PS3.5 §6.1.2.5 restricts it).

Bytes below 0x80 are read through the set designated as G0, those above through G1. Both fall back to the
initial ones at a delimiter: the backslash between values, ``^`` and ``=`` in person names, and every
control character (line ends, form feed, tab). A delimiter counts only while G0 is a single-byte set, because
the halves of a double-byte character may be the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from isocenter.dicom.character_sets import ASCII, DESIGNATIONS, ESC, JIS_X_0212, CharacterSet

_ESCAPES = re.compile(
    b"(" + b"|".join(re.escape(e) for e in sorted(DESIGNATIONS, key=len, reverse=True)) + b")"
)
_PAIRS = re.compile(rb"(?:[\x21-\x7e]{2})+")
_HIGH = re.compile(rb"[\x80-\xff]+")
_SET_HIGH_BIT = bytes(byte | 0x80 for byte in range(256))
_CONTROLS = bytes(range(0x20))


class Reader:
    """Decodes one value field; used once.

    ``initial_g1`` is the right half that value 1 of (0008,0005) brings (None: undefined). ``delimiters``
    are the graphic ones; a backslash among them starts a new value. ``undeclared`` decodes bytes
    that no designated set accounts for.
    """

    def __init__(
        self, initial_g1: CharacterSet | None, delimiters: bytes, undeclared: Callable[[bytes], str]
    ) -> None:
        self._initial_g1 = initial_g1
        self._undeclared = undeclared
        self._delimiters = delimiters
        self._run = re.compile(rb"[^\x00-\x1f" + re.escape(delimiters) + rb"]+")
        self._g0 = ASCII
        self._g1 = initial_g1
        self._last_g1 = initial_g1
        self._parts: list[str] = []
        self._values: list[str] = []

    def read(self, value: bytes) -> list[str]:
        """The values in order; one only where the backslash is no delimiter."""
        for number, chunk in enumerate(_ESCAPES.split(value)):
            if number % 2:
                self._designate(*DESIGNATIONS[chunk])
            elif chunk:
                self._read_chunk(chunk)
        self._end_value()
        return self._values

    def _designate(self, half: str, character_set: CharacterSet) -> None:
        if half == "G0":
            self._g0 = character_set
        else:
            self._g1 = self._last_g1 = character_set

    def _end_value(self) -> None:
        self._values.append("".join(self._parts))
        self._parts.clear()

    def _read_chunk(self, chunk: bytes) -> None:
        at = 0
        while at < len(chunk):
            read = self._read_pairs if self._g0.double_byte else self._read_singles
            at = read(chunk, at)

    def _read_singles(self, chunk: bytes, at: int) -> int:
        if run := self._run.match(chunk, at):
            self._parts.append(self._right_half(run[0]))
            return run.end()
        self._delimit(chunk[at])
        return at + 1

    def _read_pairs(self, chunk: bytes, at: int) -> int:
        if pairs := _PAIRS.match(chunk, at):
            self._parts.append(decode_pairs(pairs[0], self._g0))
            return pairs.end()
        if high := _HIGH.match(chunk, at):
            self._parts.append(self._right_half(high[0]))
            return high.end()
        byte = chunk[at]
        # A lone delimiter after whole characters: the writer forgot to switch back before it.
        if byte in _CONTROLS or byte in self._delimiters:
            self._delimit(byte)
        else:
            self._parts.append(" " if byte == 0x20 else "\N{REPLACEMENT CHARACTER}")
        return at + 1

    def _delimit(self, byte: int) -> None:
        self._g0, self._g1 = ASCII, self._initial_g1
        if byte == 0x5C:
            self._end_value()
        else:
            self._parts.append(chr(byte))

    def _right_half(self, run: bytes) -> str:
        if run.isascii():
            return run.decode("ascii")
        # After a reset G1 is undefined again, yet Korean systems often write the escape sequence only once.
        for character_set in (self._g1, self._last_g1):
            for codec in character_set.codecs if character_set else ():
                try:
                    return run.decode(codec)
                except UnicodeDecodeError:
                    continue
        return self._undeclared(run)


def decode_pairs(pairs: bytes, character_set: CharacterSet) -> str:
    """Seven-bit pairs of JIS X 0208 or 0212, by way of EUC-JP, which is the same with the high bits set."""
    euc = pairs.translate(_SET_HIGH_BIT)
    if character_set is JIS_X_0212:
        euc = b"".join(b"\x8f" + euc[at : at + 2] for at in range(0, len(euc), 2))
    for codec in character_set.codecs:
        try:
            return euc.decode(codec)
        except UnicodeDecodeError:
            continue
    return euc.decode(character_set.codecs[0], errors="replace")


def encode(text: str, initial: CharacterSet, extensions: Iterable[CharacterSet], delimiters: str) -> bytes:
    """``text`` with escape sequences, back in the initial sets before every delimiter and at the end.

    Raises UnicodeEncodeError where no declared set holds a character.
    """
    sets = (initial, *extensions)
    pieces = re.split(f"([\x00-\x1f{re.escape(delimiters)}])", text)
    return b"".join(_encode_piece(piece, initial, sets) for piece in pieces)


def _encode_piece(piece: str, initial: CharacterSet, sets: tuple[CharacterSet, ...]) -> bytes:
    if piece.isascii():
        return piece.encode("ascii")
    out = bytearray()
    g0, g1 = _left_half(initial), initial if initial.g1 else None
    initial_g0, initial_g1 = g0, g1
    for character in piece:
        character_set, encoded = _encode_character(character, sets, g0, g1)
        if encoded[0] >= 0x80:
            if character_set is not g1:
                g1 = character_set
                out += g1.g1
        else:
            left = character_set if character_set.double_byte else initial_g0
            if left is not g0:
                g0 = left
                out += g0.g0
        out += encoded
    if g0 is not initial_g0:
        out += initial_g0.g0
    if g1 is not initial_g1 and initial_g1 is not None:
        out += initial_g1.g1
    return bytes(out)


def _left_half(character_set: CharacterSet) -> CharacterSet:
    return character_set if character_set.g0 == ESC + b"(J" else ASCII


def _encode_character(
    character: str, sets: tuple[CharacterSet, ...], g0: CharacterSet, g1: CharacterSet | None
) -> tuple[CharacterSet, bytes]:
    """The set that holds the character, those now designated first: fewer escape sequences."""
    if character.isascii():
        return ASCII, character.encode("ascii")
    for character_set in (*((g1,) if g1 else ()), g0, *sets):
        if encoded := _encode_in(character, character_set):
            return character_set, encoded
    raise UnicodeEncodeError("ISO 2022", character, 0, 1, "not in any of the declared character sets")


def _encode_in(character: str, character_set: CharacterSet) -> bytes:
    """The bytes without escape sequence; empty where the set lacks the character."""
    try:
        encoded = character.encode(character_set.codecs[0])
    except UnicodeEncodeError:
        return b""
    if character_set.g1:
        width = 2 if character_set.double_byte else 1
        return encoded if len(encoded) == width and encoded[0] >= 0xA0 else b""
    if not character_set.double_byte:
        return b""
    if character_set is JIS_X_0212:
        encoded = encoded[1:] if encoded[:1] == b"\x8f" else b""
    # EUC-JP writes half-width katakana as 8E xx, which is no JIS X 0208 pair.
    return bytes(byte & 0x7F for byte in encoded) if len(encoded) == 2 and encoded[0] >= 0xA1 else b""
