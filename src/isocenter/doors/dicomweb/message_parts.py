"""The parts of a request that brings metadata and bulk data apart (PS3.18 §8.6.1.2.1), as they wait.

All of them lie one after the other in one spooled file (or in memory, while they are few): a part is a range
of it. A BulkDataURI is looked up among the parts of its own message and nowhere else; no address is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urljoin

from isocenter.dicom.element import BulkRange
from isocenter.dicom.native_model import DICOM_XML
from isocenter.dicom.transfer_syntaxes import lookup
from isocenter.doors.dicomweb.media_types import DICOM_JSON, OCTET_STREAM, MediaType, parse_media_type
from isocenter.doors.dicomweb.representations import FRAME_SYNTAXES
from isocenter.doors.http.refusals import UnsupportedMediaType
from isocenter.kit.errors import InvalidInput, TooLarge
from isocenter.kit.multipart import MalformedMultipart
from isocenter.kit.sizes import format_bytes

METADATA_TYPES = frozenset({DICOM_JSON, DICOM_XML})
_METADATA_BYTES_MAX = 64 << 20
_URI_CHARS_MAX = 4096

# What a value may be called that is no image: octets, and the encapsulated documents of PS3.3 A.45.
_PLAIN_TYPES = frozenset(
    {
        OCTET_STREAM,
        "application/pdf",
        "text/xml",
        "application/xml",
        "text/plain",
        "model/stl",
        "model/obj",
        "model/mtl",
    }
)
_COMPRESSED_TYPES = {name.lower(): syntaxes for name, syntaxes in FRAME_SYNTAXES.items()} | {
    # PS3.18 calls it so since the video types were registered; its table has both.
    "video/mpeg2": FRAME_SYNTAXES["video/mpeg"],
}


@dataclass(frozen=True, slots=True)
class BulkPart:
    """``media_type`` in lower case. ``syntax`` is what its parameter names; empty: none."""

    content: BulkRange
    media_type: str
    syntax: str = ""

    @property
    def compressed(self) -> bool:
        named = lookup(self.syntax)
        return self.media_type in _COMPRESSED_TYPES or (named is not None and named.encapsulated)

    @property
    def is_video(self) -> bool:
        return self.media_type.startswith("video/")

    @property
    def syntaxes(self) -> tuple[str, ...]:
        """Those that the media type may stand for, its default first; empty: any."""
        return _COMPRESSED_TYPES.get(self.media_type, ())


class MessageParts:
    """``base`` is the address of the request, which relative locations count from (RFC 2557 §5)."""

    def __init__(self, metadata_type: str, base: str) -> None:
        self.metadata: list[BulkRange] = []
        self._metadata_type = metadata_type
        self._base = base
        self._by_name: dict[str, list[BulkPart]] = {}
        self._headers: dict[str, str] = {}
        self._media_type = MediaType("")
        self._begun_at = 0

    def begin(self, headers: dict[str, str], position: int) -> None:
        """A part begins there. Raises UnsupportedMediaType, InvalidInput."""
        self._media_type = parse_media_type(headers.get("content-type", OCTET_STREAM))
        self._headers = headers
        self._begun_at = position
        if self._media_type.type != self._metadata_type:
            _check(self._media_type)
            if not self._names():
                raise MalformedMultipart(
                    "A part with bulk data has no Content-Location that tells which value it is.",
                    remedy="Give each part the BulkDataURI of its value as Content-Location (PS3.18 §8.6).",
                )

    def end(self, position: int) -> None:
        """It ends there. Raises TooLarge for more metadata than is read."""
        content = BulkRange(self._begun_at, position - self._begun_at)
        if self._media_type.type == self._metadata_type:
            self.metadata.append(content)
            return
        part = BulkPart(
            content, self._media_type.type, self._media_type.parameters.get("transfer-syntax", "")
        )
        for name in self._names():
            self._by_name.setdefault(name, []).append(part)

    def check_size(self, position: int) -> None:
        """Raises TooLarge when the metadata that has come is more than is read."""
        if self._media_type.type != self._metadata_type:
            return
        length = sum(one.length for one in self.metadata) + position - self._begun_at
        if length > _METADATA_BYTES_MAX:
            raise TooLarge(
                f"The metadata is larger than the {format_bytes(_METADATA_BYTES_MAX)} that are read here.",
                code="metadata-too-large",
                remedy="Send fewer instances in one request, and large values as bulk data.",
            )

    def named(self, uri: str) -> Sequence[BulkPart]:
        """The parts of that name, in order; empty where there is none."""
        if len(uri) > _URI_CHARS_MAX:
            return ()
        if uri[:4].lower() == "cid:":
            return self._by_name.get("cid:" + unquote(uri[4:]), ())
        found = self._by_name.get(uri)
        return found if found is not None else self._by_name.get(self._absolute(uri), ())

    def _names(self) -> list[str]:
        """Content-Location, as it is and made absolute; Content-ID (RFC 2392)."""
        names: list[str] = []
        if location := self._headers.get("content-location", "").strip():
            names += dict.fromkeys((location, self._absolute(location)))
        if identifier := self._headers.get("content-id", "").strip().removeprefix("<").removesuffix(">"):
            names.append("cid:" + identifier)
        return [name for name in names if len(name) <= _URI_CHARS_MAX]

    def _absolute(self, uri: str) -> str:
        try:
            return urljoin(self._base, uri)
        except ValueError:  # broken IPv6 addresses
            return uri


def _check(media_type: MediaType) -> None:
    syntax = media_type.parameters.get("transfer-syntax", "")
    known = lookup(syntax)
    syntaxes = _COMPRESSED_TYPES.get(media_type.type)
    if syntaxes is None and media_type.type not in _PLAIN_TYPES:
        raise UnsupportedMediaType(
            "A part of the body is of a type that is no bulk data here.",
            remedy=f"Send values as {OCTET_STREAM}, frames also as one of: {', '.join(FRAME_SYNTAXES)}.",
        )
    if not syntax:
        return
    if known is None or known.big_endian or known.big_endian_pixels or known.deflated:
        raise UnsupportedMediaType(
            "A part of the body is in a transfer syntax that bulk data cannot have.",
            remedy="Uncompressed bulk data is little endian (PS3.18 §8.7.3.3).",
        )
    if syntaxes is not None and syntax not in syntaxes:
        raise InvalidInput(
            "A part's media type and its transfer-syntax do not belong together.",
            code="malformed-media-type",
            remedy="See PS3.18 Table 8.7.3-5.",
        )
