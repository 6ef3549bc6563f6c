"""A data set in another encoding, in pieces: what is large stays where it is until it is its turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from isocenter.dicom.charsets import CHARSET_DEPENDENT
from isocenter.dicom.dataset import (
    encoding_of,
    inflated,
    is_deflated,
    read_dataset,
    write_dataset,
    write_header,
)
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.encoding import Buffer
from isocenter.dicom.scan_limits import ScanError
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.features.archive.object_elements import with_whole
from isocenter.features.archive.retrieve import StoredInstance, stream_bytes
from isocenter.imaging.errors import PixelDataUnsupported
from isocenter.imaging.transcoding import undeflated
from isocenter.platform.storage.interface import ObjectStore

_LARGE_BYTES = 1 << 20

Pieces = list[bytes | BulkRange]
"""Bytes, and ranges of the data set that was read."""


async def rewritten(store: ObjectStore, instance: StoredInstance, target: str) -> AsyncIterator[bytes]:
    """The data set of an object without pixels, in transfer syntax ``target`` before any deflating."""
    source = instance.transfer_syntax_uid
    try:
        pieces = await with_whole(store, instance, lambda data: pieces_of(data, source, undeflated(target)))
    except ScanError as error:
        raise PixelDataUnsupported("it cannot be read element by element") from error
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        async for part in stream_bytes(store, instance, instance.header_size + piece.offset, piece.length):
            yield part


def pieces_of(
    data: Buffer,
    source: str,
    target: str,
    *,
    before_pixel_data: bool = False,
    change: Callable[[list[Element]], Iterable[Element]] = list,
) -> Pieces:
    """A data set of one transfer syntax in another one, which is not deflated; ``change`` gives other
    elements than it was read with. ``before_pixel_data``: as much of it. Raises ScanError."""
    if is_deflated(source):
        data, source = inflated(data), EXPLICIT_VR_LITTLE_ENDIAN
        copied = True
    else:
        copied = encoding_of(source).big_endian or encoding_of(target).big_endian
    elements = read_dataset(
        data,
        source,
        bulk_threshold_bytes=None if copied else _LARGE_BYTES,
        stop_before_pixel_data=before_pixel_data,
    )
    pieces: Pieces = []
    small: list[Element] = []
    for element in sorted(change(_with_texts(elements, data)), key=lambda one: one.tag):
        if isinstance(element.value, BulkRange) and not element.value.encapsulated:
            pieces.append(write_dataset(small, target, source=data))
            small = []
            padding = element.value.length % 2
            pieces.append(write_header(element.tag, element.vr, element.value.length + padding, target))
            pieces += [element.value, b"\0" * padding]
        else:
            small.append(element)
    pieces.append(write_dataset(small, target, source=data))
    return [piece for piece in pieces if piece != b""]


def _with_texts(elements: Iterable[Element], data: Buffer) -> list[Element]:
    """Texts in hand, however long: who changes the character set has to write them anew."""
    found = []
    for element in elements:
        value = element.value
        if isinstance(value, list):
            value = [_with_texts(item, data) for item in value]
        elif isinstance(value, BulkRange) and element.vr in CHARSET_DEPENDENT:
            value = bytes(data[value.offset : value.offset + value.length])
        found.append(Element(element.tag, element.vr, value))
    return found
