"""Media types as requests name them (RFC 9110 §8.3, §12.5.1; PS3.18 §8.7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from isocenter.kit.errors import InvalidInput

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
JSON = "application/json"
MULTIPART_RELATED = "multipart/related"
ZIP = "application/zip"
OCTET_STREAM = "application/octet-stream"

_CHARS_MAX = 8192
_TYPE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+", re.ASCII)
_PARAMETER = re.compile(r';\s*([\w!#$&^.+*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))\s*', re.ASCII)


@dataclass(frozen=True, slots=True)
class MediaType:
    """``type`` in lower case; parameters by lower-case name, without ``q``, which is ``quality``."""

    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    quality: float = 1.0

    def covers(self, media_type: str) -> bool:
        """Whether this range (``*/*``, ``application/*``) holds ``media_type``."""
        if self.type in {media_type, "*/*"}:
            return True
        return self.type.endswith("/*") and media_type.startswith(self.type[:-1])


def parse_media_type(text: str) -> MediaType:
    """One media type with its parameters. Raises InvalidInput."""
    media_type, end = _read_one(text.strip(), 0)
    if end != len(text.strip()):
        raise _malformed()
    return media_type


@lru_cache(maxsize=256)
def parse_accept(text: str) -> tuple[MediaType, ...]:
    """The ranges of an ``Accept`` header, best first, without those of quality 0. Raises InvalidInput."""
    if len(text) > _CHARS_MAX:
        raise _malformed()
    ranges: list[MediaType] = []
    position = 0
    text = text.strip()
    while position < len(text):
        if text[position] in ", \t":
            position += 1
            continue
        media_type, position = _read_one(text, position)
        if position < len(text) and text[position] != ",":
            raise _malformed()
        ranges.append(media_type)
    return tuple(sorted((r for r in ranges if r.quality > 0), key=lambda r: -r.quality))


def _read_one(text: str, position: int) -> tuple[MediaType, int]:
    found = _TYPE.match(text, position)
    if found is None:
        raise _malformed()
    position = found.end()
    while position < len(text) and text[position] in " \t":
        position += 1
    parameters: dict[str, str] = {}
    while parameter := _PARAMETER.match(text, position):
        name, quoted, plain = parameter.groups()
        parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain
        position = parameter.end()
    return MediaType(found[0].lower(), parameters, _quality(parameters.pop("q", "1"))), position


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        raise _malformed() from None


def _malformed() -> InvalidInput:
    return InvalidInput(
        "A media type in the request's headers cannot be read.",
        code="malformed-media-type",
        remedy='Write for example: multipart/related; type="application/dicom"',
    )
