"""multipart bodies (RFC 2046 §5.1), read as they arrive."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from isocenter.kit.errors import InvalidInput, TooLarge

_BOUNDARY_CHARS_MAX = 200  # RFC 2046 §5.1.1 allows 70; Orthanc sends 73
_HEADERS_MAX = 8
_HEADER_BYTES_MAX = 4096


class MalformedMultipart(InvalidInput):
    default_code = "malformed-multipart"


@dataclass(slots=True)
class PartBegins:
    """Names in lower case."""

    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartData:
    """Valid until the reader is fed again."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PartEnds:
    pass


MultipartEvent = PartBegins | PartData | PartEnds


class MultipartReader:
    """Feed it the body as it comes; it never keeps more than a header line and a boundary."""

    def __init__(self, boundary: str, *, parts_max: int) -> None:
        if (
            not boundary.isascii()
            or not boundary.isprintable()
            or not 0 < len(boundary) <= _BOUNDARY_CHARS_MAX
        ):
            raise MalformedMultipart(
                "The boundary in Content-Type is missing, too long or not printable ASCII.",
                remedy="Use 1 to 70 letters and digits (RFC 2046).",
            )
        self._parts_max = parts_max
        self._parts = 0
        self._events: list[MultipartEvent] = []
        self._headers: dict[str, str] = {}
        self._name = b""
        self._value = b""
        self._complete = False
        self._parser = MultipartParser(
            boundary.encode(),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=_HEADERS_MAX,
            max_header_size=_HEADER_BYTES_MAX,
        )

    def feed(self, data: bytes) -> list[MultipartEvent]:
        """What these bytes complete. Raises MalformedMultipart, or TooLarge for too many parts."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise MalformedMultipart(
                "The multipart body cannot be read: its boundaries or part headers are broken.",
                remedy="Compare the body with the boundary named in Content-Type.",
            ) from None
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """The body is over. Raises MalformedMultipart when its last boundary is missing."""
        if not self._complete:
            raise MalformedMultipart(
                "The body ends before its closing boundary; nothing of it was stored.",
                remedy="Send the whole request again.",
            )

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._parts_max:
            raise TooLarge(
                f"The request has more than {self._parts_max} parts.",
                code="too-many-parts",
                remedy="Send fewer objects in one request.",
            )
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1").strip()
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        self._events.append(PartBegins(self._headers))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartData(memoryview(data)[start:end]))

    def _on_part_end(self) -> None:
        self._events.append(PartEnds())

    def _on_end(self) -> None:
        self._complete = True
