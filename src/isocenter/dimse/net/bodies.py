"""A data set to be sent: in memory, as chunks that come, or in a file. Never read whole into memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

Buffer = bytes | bytearray | memoryview

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileBody:
    """The bytes of ``path`` from ``offset`` on: in a Part-10 file, from where its data set starts."""

    path: Path
    offset: int = 0


Body = Buffer | Sequence[Buffer] | FileBody | AsyncIterable[Buffer]


async def chunks(body: Body) -> AsyncGenerator[tuple[Buffer, bool], None]:
    """Yields (chunk, whether it is the last one); at least one."""
    if isinstance(body, bytes | bytearray | memoryview):
        view = memoryview(body)
        for start in range(0, len(view), CHUNK_BYTES) or (0,):
            yield view[start : start + CHUNK_BYTES], start + CHUNK_BYTES >= len(view)
    elif isinstance(body, FileBody):
        async for chunk, is_last in _marked(_read(body)):
            yield chunk, is_last
    elif isinstance(body, AsyncIterable):
        async for chunk, is_last in _marked(body):
            yield chunk, is_last
    else:
        for number, buffer in enumerate(body, 1):
            yield buffer, number == len(body)
        if not body:
            yield b"", True


async def _marked(source: AsyncIterable[Buffer]) -> AsyncIterator[tuple[Buffer, bool]]:
    """One chunk behind, because only the next one tells whether there is a next one."""
    held: Buffer | None = None
    async for chunk in source:
        if held is not None:
            yield held, False
        held = chunk
    yield held or b"", True


async def _read(body: FileBody) -> AsyncIterator[Buffer]:
    file, chunk = await asyncio.to_thread(_open, body)
    try:
        while chunk:
            yield chunk
            if len(chunk) < CHUNK_BYTES:
                return
            chunk = await asyncio.to_thread(file.read, CHUNK_BYTES)
    finally:
        file.close()


def _open(body: FileBody) -> tuple[BinaryIO, bytes]:
    file = body.path.open("rb", buffering=0)
    try:
        file.seek(body.offset)
        size = max(os.fstat(file.fileno()).st_size - body.offset, 0)
        return file, file.read(min(size, CHUNK_BYTES))
    except BaseException:
        file.close()
        raise
