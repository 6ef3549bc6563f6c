"""Explicit VR Little Endian for peers that take Implicit only (PS3.5 §10.1): same values, other headers."""

from __future__ import annotations

import asyncio

from isocenter.dicom.dataset import inflated, is_deflated, read_dataset, write_dataset
from isocenter.dicom.element import BulkRange
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.dimse.net.bodies import Body, chunks
from isocenter.kit.errors import TooLarge, Unsupported
from isocenter.kit.sizes import format_bytes

BYTES_MAX = 256 << 20
_COPIED_BYTES_MAX = 64 << 10


async def rewritten(body: Body, source_uid: str, target_uid: str) -> bytes:
    """The data set in another uncompressed little-endian transfer syntax.

    Raises TooLarge above 256 MB, ScanError, Unsupported for compressed Pixel Data.
    """
    data = bytearray()
    async for chunk, _ in chunks(body):
        data += chunk
        if len(data) > BYTES_MAX:
            raise TooLarge(f"it is too large to be rewritten for that peer (over {format_bytes(BYTES_MAX)})")
    return await asyncio.to_thread(_rewrite, bytes(data), source_uid, target_uid)


def _rewrite(data: bytes, source_uid: str, target_uid: str) -> bytes:
    if is_deflated(source_uid):
        data, source_uid = inflated(data), EXPLICIT_VR_LITTLE_ENDIAN
        if target_uid == EXPLICIT_VR_LITTLE_ENDIAN:
            return data
    elements = read_dataset(data, source_uid, bulk_threshold_bytes=_COPIED_BYTES_MAX)
    if any(isinstance(e.value, BulkRange) and e.value.encapsulated for e in elements):
        raise Unsupported("its Pixel Data is compressed, whatever its transfer syntax says")
    return write_dataset(elements, target_uid, source=data)
