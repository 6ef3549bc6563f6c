"""What a reader of hostile bytes may spend, and the error it ends in when that is not enough."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.kit.errors import InvalidInput

NOT_DICOM = "not-dicom"
TRUNCATED = "truncated"
TOO_DEEP = "too-deep"
TOO_LARGE_HEADER = "too-large-header"
DEFLATE_BOMB = "deflate-bomb"
MALFORMED = "malformed"

_REMEDIES = {
    NOT_DICOM: "Send a DICOM file (PS3.10) or a DICOM data set.",
    TRUNCATED: "The object is incomplete: send it again from its source.",
    TOO_DEEP: "Sequences are nested deeper than any real object needs; check the program that wrote it.",
    TOO_LARGE_HEADER: "The header is larger than this server reads; check the program that wrote it.",
    DEFLATE_BOMB: "Send the object in a transfer syntax without deflate.",
    MALFORMED: "The encoding breaks PS3.5; check the program that wrote the object.",
}


class ScanError(InvalidInput):
    """The bytes cannot be read as DICOM.

    ``code`` is one of ``not-dicom``, ``truncated``, ``too-deep``, ``too-large-header``, ``deflate-bomb``,
    ``malformed``. ``detail`` names the byte offset and the tag, never a value. ``needed_bytes`` is, for
    ``truncated``, how long the buffer must be at least to get further.
    """

    default_code = MALFORMED

    def __init__(
        self, code: str, what: str, *, offset: int, tag: int | None = None, needed_bytes: int = 0
    ) -> None:
        where = f"at byte {offset}"
        if tag is not None:
            where += f", tag ({tag >> 16:04X},{tag & 0xFFFF:04X})"
        super().__init__(f"{what} {where}", code=code, remedy=_REMEDIES[code])
        self.offset = offset
        self.tag = tag
        self.needed_bytes = needed_bytes


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """Bounds on one reading. The defaults let every real object pass that is known to us.

    ``depth_max``: sequences of undefined length inside one another.
    ``elements_max``: elements and items visited, nested ones too: bounds the time on hostile input.
    ``file_meta_bytes_max``: file meta information (PS3.10 §7.1).
    ``value_bytes_max``: one wanted value, copied; also the sum of all bytes a data set reader copies.
    ``fragments_max``: fragments of encapsulated Pixel Data.
    ``inflated_bytes_max``: header bytes of a deflated data set kept in memory at once.
    ``inflate_ratio_max`` applies once more than ``inflate_ratio_from_bytes`` came out of the inflater.
    """

    depth_max: int = 64
    elements_max: int = 4_000_000
    file_meta_bytes_max: int = 1 << 20
    value_bytes_max: int = 64 << 20
    fragments_max: int = 1 << 21
    inflated_bytes_max: int = 256 << 20
    inflate_ratio_max: int = 200
    inflate_ratio_from_bytes: int = 32 << 20


DEFAULT_LIMITS = ScanLimits()
