"""Compressed frames as they lie in an object (PS3.5 A.4)."""

from __future__ import annotations

import struct

from isocenter.features.archive.retrieve import StoredInstance, lost, read_bytes
from isocenter.platform.storage.interface import ObjectStore

_ITEM = 0xFFFEE000
_ITEM_HEADER = struct.Struct("<HHI")


async def read_frame(store: ObjectStore, instance: StoredInstance, start: int, end: int) -> bytes:
    """One frame's fragments joined, from the item header at ``start`` to ``end`` (from ``pixel_offset``).

    Raises InternalError when the object is lost or its items do not add up.
    """
    assert instance.pixel_offset is not None
    items = await read_bytes(store, instance, instance.pixel_offset + start, end - start)
    fragments: list[bytes] = []
    position = 0
    while position < len(items):
        if len(items) - position < _ITEM_HEADER.size:
            raise lost(instance)
        group, number, length = _ITEM_HEADER.unpack_from(items, position)
        position += _ITEM_HEADER.size
        if group << 16 | number != _ITEM or position + length > len(items):
            raise lost(instance)
        fragments.append(items[position : position + length])
        position += length
    return b"".join(fragments)
