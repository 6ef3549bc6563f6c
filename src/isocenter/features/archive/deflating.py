"""Deflating a data set on its way (PS3.5 A.5)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator


async def deflated(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """RFC 1951, an even number of bytes."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    length = 0
    async for piece in pieces:
        produced = await asyncio.to_thread(deflater.compress, piece)
        length += len(produced)
        if produced:
            yield produced
    last = deflater.flush()
    yield last + b"\0" * ((length + len(last)) % 2)
