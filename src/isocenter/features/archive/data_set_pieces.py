"""A data set in another encoding, in pieces: what is large stays where it is until it is its turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from isocenter.dicom.dataset import (
    encoding_of,
    inflated,
    is_deflated,
    read_dataset,
    write_dataset,
    write_header,
)
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.scan_limits import ScanError
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.features.archive.object_elements import with_whole
from isocenter.features.archive.retrieve import StoredInstance, stream_bytes
from isocenter.imaging.errors import PixelDataUnsupported
from isocenter.imaging.transcoding import undeflated
from isocenter.platform.storage.interface import ObjectStore

_LARGE_BYTES = 1 << 20

Pieces = Sequence[bytes | BulkRange]


async def rewritten(store: ObjectStore, instance: StoredInstance, target: str) -> AsyncIterator[bytes]:
    """The data set of an object without pixels, in transfer syntax ``target`` before any deflating."""
    pieces = await with_whole(store, instance, lambda data: _pieces(data, instance, undeflated(target)))
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        async for part in stream_bytes(store, instance, instance.header_size + piece.offset, piece.length):
            yield part


def _pieces(data: bytes | memoryview, instance: StoredInstance, target: str) -> Pieces:
    source = instance.transfer_syntax_uid
    copied = is_deflated(source) or encoding_of(source).big_endian or encoding_of(target).big_endian
    try:
        if is_deflated(source):
            data, source = inflated(data), EXPLICIT_VR_LITTLE_ENDIAN
        elements = read_dataset(data, source, bulk_threshold_bytes=None if copied else _LARGE_BYTES)
    except ScanError as error:
        raise PixelDataUnsupported("it cannot be read element by element") from error
    pieces: list[bytes | BulkRange] = []
    small: list[Element] = []
    for element in sorted(elements, key=lambda one: one.tag):
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
