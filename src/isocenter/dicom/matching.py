"""What a matching key asks for (PS3.4 C.2.2.2), as values that C-FIND and QIDO-RS share.

Case: person names match without regard to case and accents, by way of `person_name.search_key`
(C.2.2.2.1 and C.2.2.2.4 allow that for PN alone). All other text matches exactly, case included. Blanks that
the VR makes insignificant never count. Dates and times match by meaning, not by spelling.

A person name without ``=`` in the key matches where any one of the three groups does; a key with groups
matches group by group, an empty one matching anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from isocenter.dicom.charsets import LEADING_BLANKS_COUNT, SINGLE_VALUED
from isocenter.dicom.datetimes import Range, canonical_date, canonical_datetime, canonical_time, parse_range
from isocenter.dicom.person_name import search_key
from isocenter.kit.errors import InvalidInput

# C.2.2.2.4: wild cards are for these; elsewhere * and ? are characters like any other.
WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
RANGE_VRS = frozenset({"DA", "DT", "TM"})
_NEITHER_TEXT_NOR_NUMBER = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"})
_CANONICAL = {"DA": canonical_date, "DT": canonical_datetime, "TM": canonical_time}
_INTEGER_VRS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_DECIMAL_VRS = frozenset({"DS", "FD", "FL"})
_NUMBER = re.compile(r"[+-]?\d{1,40}(?:\.\d{0,40})?(?:[eE][+-]?\d{1,4})?|[+-]?\.\d{1,40}", re.ASCII)
_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
_VALUES_MAX = 10_000
_LIKE_WILDCARDS = {"*": "%", "?": "_"}
_LIKE_SPECIAL = re.compile(r"([\\%_])")


@dataclass(frozen=True, slots=True)
class Universal:
    """C.2.2.2.3: an empty key, and ``*`` alone, match every entity."""

    def matches(self, text: str) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class SingleValue:
    """C.2.2.2.1. ``text`` is normalised as `normalise` does it."""

    vr: str
    text: str

    def matches(self, text: str) -> bool:
        """``text``: one value of the attribute as decoded."""
        return any(candidate == self.text for candidate in _candidates(self.vr, text, self.text))


@dataclass(frozen=True)
class Wildcard:
    """C.2.2.2.4. ``pattern`` is normalised; ``*`` is any run of characters, ``?`` exactly one."""

    vr: str
    pattern: str

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Literals and wild cards in turn: ``("DOE^", "*")``; runs of ``*`` are one."""
        return tuple(part for part in re.split(r"(\*|\?)", re.sub(r"\*+", "*", self.pattern)) if part)

    @cached_property
    def prefix(self) -> str:
        """The literal before the first wild card: what an index can look for."""
        return re.split(r"[*?]", self.pattern, maxsplit=1)[0]

    @cached_property
    def sql_like(self) -> str:
        r"""The pattern for ``LIKE … ESCAPE '\'``."""
        return "".join(_LIKE_WILDCARDS.get(part) or _LIKE_SPECIAL.sub(r"\\\1", part) for part in self.parts)

    def matches(self, text: str) -> bool:
        """``text``: one value of the attribute as decoded."""
        return any(_glob(self.parts, candidate) for candidate in _candidates(self.vr, text, self.pattern))


@dataclass(frozen=True, slots=True)
class DateTimeRange:
    """C.2.2.2.5, and a single value too where its precision leaves a range."""

    vr: str
    range: Range

    def matches(self, text: str) -> bool:
        """``text``: one value of the attribute as decoded; one that is no date or time never matches."""
        return self.range.holds(_CANONICAL[self.vr](text))


@dataclass(frozen=True, slots=True)
class UidList:
    """C.2.2.2.2: any one of these UIDs."""

    uids: tuple[str, ...]

    def matches(self, text: str) -> bool:
        return text.strip(" \0") in self.uids


@dataclass(frozen=True, slots=True)
class ValueList:
    """Several values of another VR: any one of them (PS3.4 C.2.2.2.8, multiple value matching)."""

    keys: tuple[SingleValue | Wildcard | DateTimeRange, ...]

    def matches(self, text: str) -> bool:
        return any(key.matches(text) for key in self.keys)


MatchingKey = Universal | SingleValue | Wildcard | DateTimeRange | UidList | ValueList


def classify(vr: str, text: str) -> MatchingKey:
    """The kind of matching that a key's decoded text asks for.

    Raises InvalidInput for dates, times and UIDs that are none, for more values than a server should
    compare, and for VRs that cannot be matched by value.
    """
    if not text.strip(" \0"):
        return Universal()
    if vr in _NEITHER_TEXT_NOR_NUMBER:
        raise InvalidInput(
            f"an attribute of value representation {vr} cannot be matched by value",
            code="unmatchable-attribute",
            remedy="Leave its value empty to have it returned.",
        )
    values = [text] if vr in SINGLE_VALUED else text.split("\\")
    if len(values) > _VALUES_MAX:
        raise InvalidInput(
            f"more than {_VALUES_MAX} values for one attribute",
            code="too-many-values",
            remedy="Ask in portions.",
        )
    if vr == "UI":
        return _uids(values)
    keys = [_one(vr, value) for value in values]
    if len(keys) == 1:
        return keys[0]
    # An empty value in a list is a slip of the asker; a lone * in it asks for everything.
    if any(value.strip(" \0*") == "" != value.strip(" \0") for value in values):
        return Universal()
    kept = tuple(key for key in keys if not isinstance(key, Universal))
    return ValueList(kept) if len(kept) > 1 else kept[0] if kept else Universal()


def normalise(vr: str, text: str) -> str:
    """The form in which text of this VR is compared.

    A search key for PN; one spelling for each number (``007`` and ``7``); else the text without padding.
    """
    if vr == "PN":
        return search_key(text)
    if vr in _INTEGER_VRS or vr in _DECIMAL_VRS:
        return _number(vr, text.strip(" \0"))
    return text.rstrip(" \0") if vr in LEADING_BLANKS_COUNT else text.strip(" \0")


def _number(vr: str, text: str) -> str:
    """What is no number stays as it is, and matches the same text only."""
    if not _NUMBER.fullmatch(text):
        return text
    if vr in _INTEGER_VRS:
        return str(int(text)) if text.lstrip("+-").isdigit() else text
    return repr(float(text))


def _one(vr: str, value: str) -> Universal | SingleValue | Wildcard | DateTimeRange:
    normal = normalise(vr, value)
    if not normal:
        return Universal()
    if vr in RANGE_VRS:
        # QIDO clients ask for all dates with a star, as they do for text.
        return Universal() if normal == "*" else DateTimeRange(vr, parse_range(normal, vr))
    if vr in WILDCARD_VRS and ("*" in normal or "?" in normal):
        return Universal() if not normal.strip("*") else Wildcard(vr, normal)
    return SingleValue(vr, normal)


def _uids(values: list[str]) -> UidList | Universal:
    uids = tuple(dict.fromkeys(uid for value in values if (uid := value.strip(" \0"))))
    if uids == ("*",) or not uids:
        return Universal()
    for uid in uids:
        if not _UID.fullmatch(uid):
            raise InvalidInput(
                "a value is not a UID",
                code="invalid-uid",
                remedy="UIDs consist of digits and periods, at most 64; wild cards do not apply to them.",
            )
    return UidList(uids)


def _candidates(vr: str, text: str, key: str) -> tuple[str, ...]:
    """The forms of a stored value that a key is compared with."""
    normal = normalise(vr, text)
    if vr != "PN" or "=" not in normal:
        return (normal,)
    groups = normal.split("=")
    if "=" not in key:
        return tuple(groups)
    # A group that the key leaves empty matches anything: it is taken over from the key.
    asked = key.split("=")
    return ("=".join(g if a else "" for g, a in zip(groups + [""] * len(asked), asked, strict=False)),)


def _glob(parts: tuple[str, ...], text: str) -> bool:
    """Wild card matching; after a mismatch only the last ``*`` takes one character more.

    An earlier one need not: what stands between two stars is best matched as far left as it can be.
    """
    pattern = [part for literal in parts for part in ((literal,) if literal in "*?" else literal)]
    at = position = 0
    star, star_position = -1, 0
    while position < len(text):
        wanted = pattern[at] if at < len(pattern) else ""
        if wanted == "*":
            star, star_position = at, position
            at += 1
        elif wanted and wanted in ("?", text[position]):
            at += 1
            position += 1
        elif star >= 0:
            star_position += 1
            at, position = star + 1, star_position
        else:
            return False
    return all(wanted == "*" for wanted in pattern[at:])
