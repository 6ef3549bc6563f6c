"""Which of the forms that a client accepts an object, or a frame, is given in (PS3.18 §8.7).

Ranges of one quality are equal to the client: what is stored, if it is among them, wins, since nothing has
to be done for it. Then the order of the header counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, TypeVar

from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.doors.dicomweb.media_types import DICOM, MULTIPART_RELATED, OCTET_STREAM, ZIP, MediaType

ANY_SYNTAX = "*"

T = TypeVar("T")

# PS3.18 Table 8.7.3-5: what compressed frames are called outside of DICOM; the first syntax is the default.
FRAME_SYNTAXES = {
    "image/dicom-rle": ("1.2.840.10008.1.2.5",),
    "image/jpeg": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (70, 50, 51, 57)),
    "image/jls": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)),
    "image/jp2": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91)),
    "image/jpx": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (92, 93)),
    "image/jphc": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)),
    "image/jxl": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)),
    "video/mpeg": tuple(f"1.2.840.10008.1.2.4.{number}" for number in ("100", "100.1", "101", "101.1")),
    "video/mp4": tuple(
        f"1.2.840.10008.1.2.4.{number}"
        for number in ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1")
    ),
    "video/H265": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (107, 108)),
}
FRAME_TYPES = {syntax: kind for kind, syntaxes in FRAME_SYNTAXES.items() for syntax in syntaxes}


@dataclass(frozen=True, slots=True)
class Wish:
    """One range of Accept. ``syntax`` is a transfer syntax, `ANY_SYNTAX`, or empty where none is named;
    ``media_type`` is that of the parts, or of the only one."""

    container: str
    media_type: str
    syntax: str
    quality: float


@dataclass(frozen=True, slots=True)
class Chosen(Generic[T]):
    """``forms``: one for each object that was asked about, in order."""

    container: str
    forms: list[T]


def object_wishes(ranges: Iterable[MediaType]) -> list[Wish]:
    """What the ranges say of DICOM objects. One that leaves the media type open means the default: a
    multipart answer of DICOM objects (§8.7.3.2)."""
    wishes = []
    for one in ranges:
        syntax = one.parameters.get("transfer-syntax", "")
        if one.type in {DICOM, ZIP}:
            wishes.append(Wish(one.type, one.type, syntax, one.quality))
        elif _part_type(one, DICOM) == DICOM:
            wishes.append(Wish(MULTIPART_RELATED, DICOM, syntax, one.quality))
    return wishes


def frame_wishes(ranges: Iterable[MediaType]) -> list[Wish]:
    """The same of frames; the default is a multipart answer of octets (§8.7.3.3.2)."""
    wishes = []
    for one in ranges:
        syntax = one.parameters.get("transfer-syntax", "")
        kind = _part_type(one, OCTET_STREAM)
        if kind:
            wishes.append(Wish(MULTIPART_RELATED, kind, syntax, one.quality))
        elif one.type == OCTET_STREAM or one.type in FRAME_SYNTAXES:
            wishes.append(Wish(one.type, one.type, syntax, one.quality))
        elif one.type == "image/*":
            wishes.append(Wish(one.type, one.type, ANY_SYNTAX, one.quality))
    return wishes


def choose(
    wishes: Sequence[Wish],
    stored: Sequence[T],
    fulfil: Callable[[Wish, T], str | None],
    syntax_of: Callable[[T], str],
) -> Chosen[tuple[Wish, str]] | None:
    """The best container in which every object can be given, with the wish and the transfer syntax for each;
    None where there is none. ``fulfil`` says which syntax an object would get by a wish, if it can."""
    for container in dict.fromkeys(wish.container for wish in wishes):
        fitting = [wish for wish in wishes if wish.container == container]
        forms = [_best(fitting, one, fulfil, syntax_of(one)) for one in stored]
        found = [form for form in forms if form is not None]
        if len(found) == len(stored):
            return Chosen(container, found)
    return None


def default_syntax(media_type: str, stored: str) -> str:
    """What a media type alone means: Explicit VR Little Endian for objects (§8.7.3.5.2) and octets; for
    compressed frames what is stored, if it goes by that name, else the table's default."""
    syntaxes = FRAME_SYNTAXES.get(media_type)
    if syntaxes is None:
        return EXPLICIT_VR_LITTLE_ENDIAN
    return stored if stored in syntaxes else syntaxes[0]


def _best(
    wishes: Sequence[Wish], one: T, fulfil: Callable[[Wish, T], str | None], stored: str
) -> tuple[Wish, str] | None:
    for _, equal in groupby(wishes, key=lambda wish: wish.quality):
        possible = [(wish, syntax) for wish in equal if (syntax := fulfil(wish, one)) is not None]
        if possible:
            return next((form for form in possible if form[1] == stored), possible[0])
    return None


def _part_type(one: MediaType, default: str) -> str:
    """The media type of the parts that a range asks for; empty where it does not ask for parts."""
    if one.type == MULTIPART_RELATED:
        named = one.parameters.get("type", "*/*")
        named = named if named in FRAME_SYNTAXES else named.lower()
        return default if named in {"*/*", "application/*"} else named
    return default if one.type in {"*/*", "multipart/*", "application/*"} else ""
