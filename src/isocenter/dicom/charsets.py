"""Text as bytes and back (PS3.5 §6.1, PS3.3 C.12.1.1.2).

A declaration is a claim. Files say "ISO IR 100" and mean ISO_IR 100, declare Latin-1 and hold UTF-8, or
declare nothing and hold anything. Decoding therefore never fails:

1. the declared sets, escape sequences included, wherever the bytes are possible in them;
2. else UTF-8, where all of the bytes are valid UTF-8 (chance makes that nearly impossible);
3. else, for a declared multi-byte set, that set with U+FFFD for what is broken;
4. else Windows-1252, the superset of Latin-1 that such files come from.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from functools import lru_cache

from isocenter.dicom import iso2022
from isocenter.dicom.character_sets import (
    ASCII,
    ESC,
    GB18030,
    GBK,
    JIS_X_0201,
    JIS_X_0208,
    JIS_X_0212,
    LATIN_1,
    UTF_8,
    CharacterSet,
    named,
)

# VRs where a backslash is an ordinary character, not a delimiter of values (PS3.5 §6.2).
SINGLE_VALUED = frozenset({"LT", "ST", "UR", "UT"})
# VRs whose leading blanks are significant too (PS3.5 Table 6.2-1); all others lose them.
LEADING_BLANKS_COUNT = frozenset({"LT", "ST", "UT", "UC", "PN"})
# VRs that (0008,0005) applies to; the others are in the default repertoire.
CHARSET_DEPENDENT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})

_PADDING = " \0"
_C1 = re.compile(rb"[\x80-\x9f]").search
_DECLARATION_BYTES_MAX = 512  # more than all defined terms together; the rest is not worth a cache key
_STAND_ALONE = (UTF_8, GB18030, GBK)


def _trim(text: str, vr: str) -> str:
    return text.rstrip(_PADDING) if vr in LEADING_BLANKS_COUNT else text.strip(_PADDING)


def _delimiters(vr: str) -> str:
    return "" if vr in SINGLE_VALUED else "\\^=" if vr == "PN" else "\\"


class TextDecoder:
    """Decodes and encodes text under one declaration; immutable. Make it with `decoder_for`.

    ``term`` is the declaration in the standard's spelling, as (0008,0005) should state it.
    """

    __slots__ = ("_extensions", "_fallbacks", "_initial", "term")

    def __init__(self, declared: Iterable[CharacterSet]) -> None:
        sets = tuple(declared) or (ASCII,)
        self._initial = _stand_alone(sets) or sets[0]
        extensible = self._initial is sets[0] and self._initial not in _STAND_ALONE
        others = dict.fromkeys(sets[1:] if extensible else ())
        self._extensions = tuple(s for s in others if s not in (ASCII, self._initial, *_STAND_ALONE))
        self._fallbacks = _fallback_codecs((self._initial, *self._extensions))
        self.term = self._spelling()

    def _spelling(self) -> str:
        if self._extensions:
            first = "" if self._initial is ASCII else self._initial.extension_term or self._initial.term
            return "\\".join((first, *(s.extension_term or s.term for s in self._extensions)))
        if self._initial is ASCII:
            return ""
        if self._initial.double_byte:
            return f"\\{self._initial.extension_term}"
        return self._initial.term

    def __repr__(self) -> str:
        return f"TextDecoder({self.term!r})"

    def decode(self, value: bytes, vr: str) -> str:
        """The whole value, backslashes included, without the padding that ``vr`` makes insignificant."""
        if value.isascii() and ESC not in value:
            text = value.decode("ascii")
            return text.rstrip(_PADDING) if vr in LEADING_BLANKS_COUNT else text.strip(_PADDING)
        return _trim("\\".join(self._decode_values(value, vr)), vr)

    def decode_multi(self, value: bytes, vr: str) -> list[str]:
        """The values, each trimmed; empty for an empty or blank field, one for VRs without multiplicity."""
        if value.isascii() and ESC not in value:
            texts = [value.decode("ascii")]
        else:
            texts = self._decode_values(value, vr)
        if len(texts) == 1:
            # Decoded first, split then: trail bytes of Shift-JIS, GBK and GB18030 may be 0x5C.
            whole = _trim(texts[0], vr)
            if not whole:
                return []
            if vr in SINGLE_VALUED or "\\" not in whole:
                return [whole]
            texts = texts[0].split("\\")
        return [_trim(text, vr) for text in texts]

    def encode(self, text: str, vr: str) -> bytes:
        """Padded to even length; characters that the declared sets lack become ``?`` (ask `holds`)."""
        if text.isascii():
            encoded = text.encode("ascii")
        else:
            try:
                encoded = self._encode_strict(text, vr)
            except UnicodeEncodeError:
                kept = "".join(c if c.isascii() or self.holds(c) else "?" for c in text)
                encoded = self._encode_strict(kept, vr)
        if len(encoded) % 2:
            encoded += b"\0" if vr == "UI" else b" "
        return encoded

    def holds(self, text: str) -> bool:
        """True where every character of the text has a code in the declared sets."""
        try:
            self._encode_strict(text, "LT")
        except UnicodeEncodeError:
            return False
        return True

    def _encode_strict(self, text: str, vr: str) -> bytes:
        if self._extensions or self._initial.double_byte:
            # A double-byte set cannot be the initial one: it is declared as an extension of ASCII.
            alone = self._initial.double_byte
            initial = ASCII if alone else self._initial
            extensions = (self._initial, *self._extensions) if alone else self._extensions
            return iso2022.encode(text, initial, extensions, _delimiters(vr))
        encoded = text.encode(self._initial.codecs[0])
        if self._initial.c1_unused and _C1(encoded):
            raise UnicodeEncodeError(
                self._initial.term, text, 0, len(text), "C1 controls have no place in DICOM"
            )
        if self._initial is JIS_X_0201 and len(encoded) != len(text):
            raise UnicodeEncodeError("JIS X 0201", text, 0, len(text), "kanji need a code extension")
        return encoded

    def _decode_plain(self, value: bytes) -> str:
        if not (self._initial.c1_unused and _C1(value)):
            for codec in self._initial.codecs:
                try:
                    return value.decode(codec)
                except UnicodeDecodeError:
                    continue
        return self._decode_undeclared(value)

    def _decode_values(self, value: bytes, vr: str) -> list[str]:
        # The GB sets know no escape sequences, and their trail bytes look like delimiters.
        if ESC not in value or self._initial in (GB18030, GBK):
            return [self._decode_plain(value)]
        right = self._initial if self._initial is not ASCII else None
        return iso2022.Reader(right, _delimiters(vr).encode(), self._decode_undeclared).read(value)

    def _decode_undeclared(self, value: bytes) -> str:
        if self._initial is UTF_8:
            return _cut_off(value, "utf_8") or _western(value)
        for codec in ("utf_8", *self._fallbacks):
            try:
                return value.decode(codec)
            except UnicodeDecodeError:
                continue
        if self._initial.c1_unused:
            return (
                _western(value)
                if self._initial is LATIN_1
                else value.decode(self._initial.codecs[0], "replace")
            )
        if self._initial is ASCII:
            return _western(value)
        return value.decode(self._initial.codecs[0], errors="replace")


def _stand_alone(sets: tuple[CharacterSet, ...]) -> CharacterSet | None:
    """UTF-8 and the GB sets neither allow nor are extensions; beside ASCII alone, they are what is meant."""
    if any(s not in (*_STAND_ALONE, ASCII) for s in sets) and sets[0] not in _STAND_ALONE:
        return None
    return next((s for s in sets if s in _STAND_ALONE), None)


def _fallback_codecs(sets: tuple[CharacterSet, ...]) -> tuple[str, ...]:
    """Codecs for bytes above 0x7F that no escape sequence announced, from the languages declared."""
    japanese = ("cp932",) if any(s in (JIS_X_0201, JIS_X_0208, JIS_X_0212) for s in sets) else ()
    return (*japanese, *(codec for s in sets if s.double_byte and s.g1 for codec in s.codecs))


def _cut_off(value: bytes, codec: str) -> str:
    """The text where only its last character was cut in two (values shortened to 64 bytes); else empty."""
    try:
        return codecs.getincrementaldecoder(codec)().decode(value) + "\N{REPLACEMENT CHARACTER}"
    except UnicodeDecodeError:
        return ""


def _western(value: bytes) -> str:
    try:
        return value.decode("cp1252")
    except UnicodeDecodeError:
        return value.decode("latin_1")


@lru_cache(maxsize=512)
def _decoder(raw: bytes) -> TextDecoder:
    names = raw.decode("latin_1").strip(_PADDING).split("\\")
    first, *others = (named(name) if name.strip(_PADDING) else ASCII for name in names)
    return TextDecoder((first or ASCII, *(s for s in others if s is not None)))


DEFAULT_REPERTOIRE = _decoder(b"")
UNICODE = _decoder(b"ISO_IR 192")


def decoder_for(raw: bytes | None) -> TextDecoder:
    """The decoder for the raw value of Specific Character Set (0008,0005); None where it is absent.

    Unknown terms count as absent. Cached per value.
    """
    return _decoder(raw[:_DECLARATION_BYTES_MAX]) if raw else DEFAULT_REPERTOIRE


def best_charset(texts: Iterable[str]) -> str:
    """What an answer with these texts declares: nothing for ASCII, else UTF-8."""
    return "" if all(text.isascii() for text in texts) else UTF_8.term


def encoder_for(requested: bytes | None, texts: Iterable[str]) -> TextDecoder:
    """The requester's own sets where they hold all of the texts, else UTF-8; declare its ``term``."""
    decoder = decoder_for(requested)
    return decoder if all(text.isascii() or decoder.holds(text) for text in texts) else UNICODE
