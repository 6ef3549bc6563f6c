"""What may become of an object whose transfer syntax a peer does not take. Without codecs another
uncompressed little-endian one (PS3.5 §A.1, A.2, A.5): same values, other headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from isocenter.dicom.dataset import inflated, is_deflated, read_dataset, write_dataset
from isocenter.dicom.element import BulkRange
from isocenter.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.dimse.net.bodies import Body, chunks
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.kit.errors import TooLarge, Unsupported
from isocenter.kit.sizes import format_bytes

BYTES_MAX = 256 << 20
_COPIED_BYTES_MAX = 64 << 10

# Without a change of Pixel Data's bytes, best first.
_UNCOMPRESSED = {
    EXPLICIT_VR_LITTLE_ENDIAN: (IMPLICIT_VR_LITTLE_ENDIAN,),
    IMPLICIT_VR_LITTLE_ENDIAN: (EXPLICIT_VR_LITTLE_ENDIAN,),
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
}


@dataclass(frozen=True, slots=True)
class Conversions:
    """``targets(transfer_syntax_uid)``: what objects in it can be turned into, best first.
    ``as_transfer_syntax(object, its data set, target_uid)`` does it; what it raises fails that object."""

    targets: Callable[[str], tuple[str, ...]]
    as_transfer_syntax: Callable[[OutgoingObject, Body, str], Awaitable[Body]]

    def candidates(self, own_uid: str, preferred: tuple[str, ...] = ()) -> tuple[str, ...]:
        """In what to send an object, best first: what the receiver prefers as far as that can be had, its own
        transfer syntax, what it can be turned into."""
        possible = (own_uid, *self.targets(own_uid))
        return tuple(dict.fromkeys([*(uid for uid in preferred if uid in possible), *possible]))


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


async def _rewritten_object(one: OutgoingObject, body: Body, target_uid: str) -> Body:
    return await rewritten(body, one.transfer_syntax_uid, target_uid)


UNCOMPRESSED = Conversions(lambda uid: _UNCOMPRESSED.get(uid, ()), _rewritten_object)


def _rewrite(data: bytes, source_uid: str, target_uid: str) -> bytes:
    if is_deflated(source_uid):
        data, source_uid = inflated(data), EXPLICIT_VR_LITTLE_ENDIAN
        if target_uid == EXPLICIT_VR_LITTLE_ENDIAN:
            return data
    elements = read_dataset(data, source_uid, bulk_threshold_bytes=_COPIED_BYTES_MAX)
    if any(isinstance(e.value, BulkRange) and e.value.encapsulated for e in elements):
        raise Unsupported("its Pixel Data is compressed, whatever its transfer syntax says")
    return write_dataset(elements, target_uid, source=data)
