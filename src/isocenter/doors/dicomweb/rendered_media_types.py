"""What an object can be rendered as, and what of it a request gets (PS3.18 §8.7.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from isocenter.dicom.dataset import is_deflated
from isocenter.doors.dicomweb.media_types import MULTIPART_RELATED, MediaType
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.imaging.rendering.request import GIF, HTML, JPEG, JPEG_2000, MP4, PLAIN, PNG

PDF = "application/pdf"
PICTURES = (JPEG, PNG, GIF, JPEG_2000)
"""Of one frame; the first is what a request gets that leaves it open (PS3.18 Table 8.7.4-1)."""
FILMS = (GIF, MP4)
THUMBNAILS = (JPEG, PNG, GIF)


class Kind(Enum):
    """Of what an object consists, as far as showing it is concerned."""

    IMAGE = auto()
    VIDEO = auto()
    REPORT = auto()
    DOCUMENT = auto()
    PRESENTATION = auto()
    WAVEFORM = auto()
    AUDIO = auto()
    OTHER = auto()


# The first that a SOP class begins with.
_BY_SOP_CLASS = (
    ("1.2.840.10008.5.1.4.1.1.88.", Kind.REPORT),
    ("1.2.840.10008.5.1.4.1.1.104.", Kind.DOCUMENT),
    ("1.2.840.10008.5.1.4.1.1.9.4.", Kind.AUDIO),
    ("1.2.840.10008.5.1.4.1.1.9.", Kind.WAVEFORM),
    ("1.2.840.10008.5.1.4.1.1.11.10", Kind.OTHER),
    ("1.2.840.10008.5.1.4.1.1.11.11", Kind.OTHER),
    ("1.2.840.10008.5.1.4.1.1.11.12", Kind.OTHER),
    ("1.2.840.10008.5.1.4.1.1.11.1", Kind.PRESENTATION),
    ("1.2.840.10008.5.1.4.1.1.11.2", Kind.PRESENTATION),
)
_VIDEO_SYNTAXES = "1.2.840.10008.1.2.4.10"  # .100 to .108: MPEG-2, H.264, H.265


def kind_of(instance: StoredInstance) -> Kind:
    sop_class, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
    for beginning, kind in _BY_SOP_CLASS:
        if sop_class.startswith(beginning):
            return kind
    if syntax.startswith(_VIDEO_SYNTAXES):
        return Kind.VIDEO
    return Kind.IMAGE if instance.pixel_offset is not None or is_deflated(syntax) else Kind.OTHER


@dataclass(frozen=True, slots=True)
class Choice:
    """``multipart``: several parts of that type, else one body."""

    media_type: str
    multipart: bool = False


def choose(ranges: Sequence[MediaType], alone: Sequence[str], parts: Sequence[str]) -> Choice | None:
    """The best of what is accepted: ``alone`` are the types of a single body, ``parts`` those of a part of
    several, each with the preferred one first. None where none is."""
    for media_range in ranges:
        if media_range.type == MULTIPART_RELATED:
            wanted = MediaType(media_range.parameters.get("type", "*/*").lower())
            found = next((one for one in parts if wanted.covers(one)), None)
            if found is not None:
                return Choice(found, multipart=True)
            continue
        found = next((one for one in alone if media_range.covers(one)), None)
        if found is not None:
            return Choice(found)
        if media_range.type == "*/*" and parts:
            return Choice(parts[0], multipart=True)
    return None


def offers(kind: Kind, frames: int) -> tuple[str, ...]:
    """What a whole instance can be shown as; nothing for what cannot be shown."""
    match kind:
        case Kind.IMAGE:
            return PICTURES if frames < 2 else (*PICTURES, MP4)
        case Kind.PRESENTATION:
            return PICTURES
        case Kind.REPORT:
            return (HTML, PLAIN)
        case Kind.DOCUMENT:
            return (PDF,)
        case Kind.VIDEO | Kind.WAVEFORM | Kind.AUDIO | Kind.OTHER:
            return ()


def not_acceptable(kind: Kind, alone: Sequence[str], parts: Sequence[str] = ()) -> NotAcceptable:
    listed = ", ".join([*alone, *(f'multipart/related; type="{one}"' for one in parts[:1])])
    if not listed:
        return NotAcceptable(
            f"This object is {_SAID[kind]}, for which there is no rendering.",
            code="not-renderable",
            remedy="Ask for the object itself, as application/dicom.",
        )
    return NotAcceptable(
        f"This resource is {_SAID[kind]} and can be rendered as {listed}.",
        remedy=f"Send 'Accept: {(*alone, *parts)[0]}'.",
    )


_SAID = {
    Kind.IMAGE: "an image",
    Kind.VIDEO: "a video",
    Kind.PRESENTATION: "a presentation state, shown on its first image",
    Kind.REPORT: "a structured report",
    Kind.DOCUMENT: "a document",
    Kind.WAVEFORM: "a waveform",
    Kind.AUDIO: "a sound",
    Kind.OTHER: "neither image nor document",
}
