"""The character sets of PS3.3 C.12.1.1.2 as data, and what people write when they mean one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

ESC = b"\x1b"


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """One character set.

    ``term`` is its defined term for Specific Character Set (0008,0005) without code extensions,
    ``extension_term`` the one with (empty: the set stands alone, PS3.3 Table C.12-5).
    ``codecs`` are Python's names: the set itself first, then supersets that real files use instead.
    ``g0`` and ``g1`` are the ISO 2022 escape sequences that designate it, where it has one.
    ``double_byte`` marks sets of two bytes a character; ``c1_unused`` the ISO 8859 parts, where 80 to 9F
    carry no character.
    """

    term: str
    codecs: tuple[str, ...]
    extension_term: str = ""
    g0: bytes = b""
    g1: bytes = b""
    double_byte: bool = False
    c1_unused: bool = False


def _latin(number: int, codec: str, final: bytes) -> CharacterSet:
    return CharacterSet(
        f"ISO_IR {number}", (codec,), f"ISO 2022 IR {number}", ESC + b"(B", ESC + b"-" + final, c1_unused=True
    )


ASCII = CharacterSet("ISO_IR 6", ("ascii",), "ISO 2022 IR 6", g0=ESC + b"(B")
LATIN_1 = _latin(100, "latin_1", b"A")
# Python has no JIS X 0201 alone. Shift-JIS holds it, and is what many sites send under this term.
JIS_X_0201 = CharacterSet(
    "ISO_IR 13", ("shift_jis", "cp932"), "ISO 2022 IR 13", g0=ESC + b"(J", g1=ESC + b")I"
)
JIS_X_0208 = CharacterSet(
    "ISO_IR 87", ("euc_jp", "euc_jis_2004"), "ISO 2022 IR 87", g0=ESC + b"$B", double_byte=True
)
JIS_X_0212 = CharacterSet("ISO_IR 159", ("euc_jp",), "ISO 2022 IR 159", g0=ESC + b"$(D", double_byte=True)
KS_X_1001 = CharacterSet(
    "ISO_IR 149", ("euc_kr", "cp949"), "ISO 2022 IR 149", g1=ESC + b"$)C", double_byte=True
)
GB_2312 = CharacterSet("ISO_IR 58", ("gb2312", "gbk"), "ISO 2022 IR 58", g1=ESC + b"$)A", double_byte=True)
UTF_8 = CharacterSet("ISO_IR 192", ("utf_8",))
GB18030 = CharacterSet("GB18030", ("gb18030",))
GBK = CharacterSet("GBK", ("gbk", "gb18030"))

ALL = (
    ASCII,
    LATIN_1,
    _latin(101, "iso8859_2", b"B"),
    _latin(109, "iso8859_3", b"C"),
    _latin(110, "iso8859_4", b"D"),
    _latin(126, "iso8859_7", b"F"),
    _latin(127, "iso8859_6", b"G"),
    _latin(138, "iso8859_8", b"H"),
    _latin(144, "iso8859_5", b"L"),
    _latin(148, "iso8859_9", b"M"),
    _latin(203, "iso8859_15", b"b"),
    CharacterSet("ISO_IR 166", ("tis_620", "cp874"), "ISO 2022 IR 166", ESC + b"(B", ESC + b"-T"),
    JIS_X_0201,
    JIS_X_0208,
    JIS_X_0212,
    KS_X_1001,
    GB_2312,
    UTF_8,
    GB18030,
    GBK,
)

# Which half of the code table an escape sequence fills, and with what (PS3.3 Tables C.12-3 and C.12-4).
DESIGNATIONS: dict[bytes, tuple[str, CharacterSet]] = {
    **{s.g1: ("G1", s) for s in ALL if s.g1},
    **{s.g0: ("G0", s) for s in (ASCII, JIS_X_0201, JIS_X_0208, JIS_X_0212)},
    ESC + b"$@": ("G0", JIS_X_0208),  # JIS C 6226-1978, its forerunner: old Japanese modalities
}

_PYTHON_NAMES = {
    "windows": re.compile(r"(?:WINDOWS|CP)(125[0-8]|874|932|936|949|950)"),
    "iso": re.compile(r"ISO8859(\d{1,2})"),
}
_OTHER_NAMES = {
    "ASCII": ASCII,
    "USASCII": ASCII,
    "LATIN1": LATIN_1,
    "UTF8": UTF_8,
    "UNICODE": UTF_8,
    "UNICODE11UTF8": UTF_8,
    "ISO10646": UTF_8,
    "ISO2022GBK": GBK,
    "ISO2022GB18030": GB18030,
    "GB2312": GB_2312,
    "ISO202258": GB_2312,
    "SHIFTJIS": JIS_X_0201,
    "SJIS": JIS_X_0201,
    "EUCKR": KS_X_1001,
    "EUCJP": CharacterSet("EUC-JP", ("euc_jp",)),
    "BIG5": CharacterSet("BIG5", ("big5", "big5hkscs")),
    "KOI8R": CharacterSet("KOI8-R", ("koi8_r",)),
}


def _squeezed(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "", name.upper())


_BY_NAME = (
    _OTHER_NAMES
    | {_squeezed(s.term): s for s in ALL}
    | {_squeezed(s.extension_term): s for s in ALL if s.extension_term}
    | {f"IR{s.term.removeprefix('ISO_IR ')}": s for s in ALL if s.term.startswith("ISO_IR ")}
)


def named(name: str) -> CharacterSet | None:
    """The set meant by one value of (0008,0005), or None.

    Case, blanks, hyphens and underscores do not count, and names from outside DICOM are understood where
    they leave no doubt. Python's own codec registry is not asked: it also holds codecs that are no
    character sets (``unicode_escape``, ``idna``), and the name comes from a stranger.
    """
    key = _squeezed(name)
    if found := _BY_NAME.get(key):
        return found
    if match := _PYTHON_NAMES["windows"].fullmatch(key):
        return CharacterSet(f"WINDOWS-{match[1]}", (f"cp{match[1]}",))
    if (match := _PYTHON_NAMES["iso"].fullmatch(key)) and int(match[1]) in {*range(1, 12), *range(13, 17)}:
        codec = "latin_1" if int(match[1]) == 1 else f"iso8859_{int(match[1])}"
        standard = next((s for s in ALL if s.codecs[0] == codec), None)
        return standard or CharacterSet(f"ISO_8859-{int(match[1])}", (codec,), c1_unused=True)
    return None
