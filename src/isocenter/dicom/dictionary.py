"""The data dictionary (PS3.6 §6 to §9): keyword, tag, VR and name of an attribute.

The entries are pydicom's; it is imported at the first look-up, because importing takes most of a second.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from isocenter.kit.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Where PS3.6 leaves a choice. Pixel Representation decides between US and SS (PS3.3 C.7.6.3); who does not
# have it at hand reads unsigned. The word form stands for octets and words alike, PS3.5 A.1.
_AMBIGUOUS = {
    "US or SS": "US",
    "OB or OW": "OW",
    "US or OW": "OW",
    "US or SS or OW": "OW",
    "NONE": "UN",
}

_HEX_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?", re.ASCII)


def load() -> None:
    """Load the entries now, so that no caller in an event loop pays for it later."""
    _dictionary()
    _tags_by_keyword()


def tag_of(attribute: str) -> int:
    """The tag of a keyword (``PatientName``) or of its digits (``00100010``, ``(0010,0010)``).

    Raises :class:`InvalidInput` with code ``unknown-attribute`` for what is neither.
    """
    digits = _HEX_TAG.fullmatch(attribute)
    if digits:
        return int(digits[1], 16) << 16 | int(digits[2], 16)
    tag = _tags_by_keyword()(attribute) if attribute else None
    if tag is None:
        raise InvalidInput(
            f"No attribute is called {attribute[:64]!r}",
            code="unknown-attribute",
            remedy="Use a keyword of PS3.6 such as PatientName, or hexadecimal digits such as 00100010.",
        )
    return tag


def keyword_of(tag: int) -> str:
    """The keyword; empty for a tag that the standard does not know."""
    entry = _entry(tag)
    return entry[4] if entry else ""


def name_of(tag: int) -> str:
    """The attribute's name for people; empty for a tag that the standard does not know."""
    entry = _entry(tag)
    return entry[2] if entry else ""


def vr_of(tag: int) -> str:
    """The VR, one where the standard leaves a choice: US of US or SS, OW where that is possible.

    ``UN`` for private and unknown tags, but ``LO`` for private creators (PS3.5 §7.8.1) and ``UL`` for
    group lengths (§7.2).
    """
    entry = _entry(tag)
    if entry:
        vr = entry[0]
        return _AMBIGUOUS.get(vr, vr)
    number = tag & 0xFFFF
    if number == 0:
        return "UL"
    if tag >> 16 & 1 and 0x10 <= number <= 0xFF:
        return "LO"
    return "UN"


def is_ambiguous(tag: int) -> bool:
    """Whether the standard leaves this tag's VR to other attributes."""
    entry = _entry(tag)
    return entry is not None and entry[0] in _AMBIGUOUS


def is_private(tag: int) -> bool:
    """Whether the group is odd (PS3.5 §7.8)."""
    return bool(tag >> 16 & 1)


Entry = tuple[str, str, str, str, str]


def _entry(tag: int) -> Entry | None:
    entries, repeating = _dictionary()
    entry = entries.get(tag)
    if entry is None and not tag >> 16 & 1:
        return repeating(tag)
    return entry


@cache
def _dictionary() -> tuple[Mapping[int, Entry], Callable[[int], Entry | None]]:
    from pydicom import datadict
    from pydicom._dicom_dict import DicomDictionary

    # Bounded: which tags are asked for is up to whoever sent the data.
    @lru_cache(maxsize=4096)
    def repeating_group(group_and_number: int) -> Entry | None:
        """50xx, 60xx and the few other repeating entries (PS3.5 §7.6)."""
        try:
            return datadict.get_entry(group_and_number)
        except KeyError:
            return None

    return DicomDictionary, repeating_group


@cache
def _tags_by_keyword() -> Callable[[str], int | None]:
    from pydicom import datadict

    return datadict.tag_for_keyword
