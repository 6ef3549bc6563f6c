"""Whole data sets: bytes to elements and back, in every uncompressed encoding (PS3.5 §7, A)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from isocenter.dicom.dataset_reader import DatasetReader
from isocenter.dicom.dataset_writer import DatasetWriter
from isocenter.dicom.element import Element
from isocenter.dicom.encoding import ENCODINGS, EXPLICIT_LITTLE, Buffer, Encoding
from isocenter.dicom.inflate import inflate
from isocenter.dicom.opening import settle
from isocenter.dicom.scan_limits import ScanLimits
from isocenter.dicom.transfer_syntaxes import TRANSFER_SYNTAXES

# Elements are objects: fewer may exist at once than a scan may step over.
READ_LIMITS = ScanLimits(elements_max=1_000_000)


def read_dataset(
    data: Buffer,
    transfer_syntax_uid: str,
    *,
    bulk_threshold_bytes: int | None = None,
    stop_before_pixel_data: bool = False,
    limits: ScanLimits = READ_LIMITS,
) -> list[Element]:
    """The elements of a bare data set, in the order read. Raises :class:`ScanError`.

    Values are little endian. Pixel Data, and values longer than ``bulk_threshold_bytes``, become ranges of
    ``data``, in the byte order they have there. In a deflated data set there is nothing to point at: all
    values are copied; :func:`inflated` gives the bytes to read with ranges.
    Nested sequences may be up to ``limits.depth_max`` deep.
    """
    deflated = is_deflated(transfer_syntax_uid)
    if deflated:
        data = inflated(data, limits)
    reader = DatasetReader(
        data,
        limits,
        bulk_threshold_bytes=bulk_threshold_bytes,
        copy_bulk=deflated,
        stop_before_pixel_data=stop_before_pixel_data,
    )
    return reader.read(0, len(data), settle(data, 0, encoding_of(transfer_syntax_uid)))


def write_dataset(
    elements: Iterable[Element], transfer_syntax_uid: str, *, source: Buffer | None = None
) -> bytes:
    """The elements as a bare data set: tags ascending, lengths explicit, values padded to even length.

    ``source`` is what ranges point into (little endian, if the elements come from a little-endian data
    set). Text too long for a 16-bit length is written as UN (PS3.5 §6.2.2); group lengths are left out.
    Raises ``InvalidInput`` for ranges without ``source``.
    """
    content = DatasetWriter(encoding_of(transfer_syntax_uid), source).write(elements)
    return _deflate(content) if is_deflated(transfer_syntax_uid) else content


def write_header(tag: int, vr: str, length: int, transfer_syntax_uid: str) -> bytes:
    """An element's header for a value of ``length`` bytes (even, or `UNDEFINED_LENGTH`) that somebody else
    writes. Raises TooLarge."""
    return DatasetWriter(encoding_of(transfer_syntax_uid)).header(tag, vr, length)


def read_items(content: bytes, *, implicit_vr: bool, limits: ScanLimits = READ_LIMITS) -> list[list[Element]]:
    """The items of a sequence that a scan found (``RawElement.value``). Raises :class:`ScanError`."""
    return DatasetReader(content, limits).read_items(0, len(content), ENCODINGS[implicit_vr, False])


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """VR kind and byte order of a transfer syntax; explicit little endian for unknown ones (PS3.5 A.4)."""
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
    return EXPLICIT_LITTLE if syntax is None else ENCODINGS[syntax.implicit_vr, syntax.big_endian]


def is_deflated(transfer_syntax_uid: str) -> bool:
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
    return syntax is not None and syntax.deflated


def inflated(data: Buffer, limits: ScanLimits = READ_LIMITS) -> bytes:
    """A deflated data set's bytes, explicit VR little endian. Raises :class:`ScanError` for bombs."""
    return inflate(data, 0, limits)


def _deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = compressor.compress(content) + compressor.flush()
    return deflated + b"\0" * (len(deflated) % 2)  # PS3.5 A.5
