"""A data set in another transfer syntax, piece by piece: what `transcoding.py` gives out."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from isocenter.dicom.dataset import read_dataset, write_dataset, write_header
from isocenter.dicom.element import Element
from isocenter.dicom.encoding import EXPLICIT_LITTLE, ITEM, SEQUENCE_DELIMITER, UNDEFINED_LENGTH
from isocenter.dicom.scan_limits import ScanError
from isocenter.dicom.tags import DATA_SET_TRAILING_PADDING
from isocenter.dicom.transfer_syntaxes import lookup
from isocenter.features.archive.data_set_pieces import rewritten
from isocenter.features.archive.pixel_access import OpenedPixels, PixelAccess, PixelLayout, swapped
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.imaging.decoding import is_native
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported
from isocenter.imaging.packed_bits import BitJoiner
from isocenter.imaging.transcoding import (
    EncodedFrames,
    can_transcode,
    data_set_syntax,
    keeps_frames,
    pixel_data_vr,
    transcode_beginning,
    transcode_frames,
    undeflated,
)
from isocenter.kit.errors import InvalidInput, NotFound
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.workers.pool import WorkerPool

_BATCH_BYTES = 4 << 20  # decoded: what one call to a worker is about
_BATCH_FRAMES_MAX = 256
_CHUNK_BYTES = 1 << 20
_INLINE_BYTES_MAX = 256 << 10  # more is parsed in a thread: it takes longer than the event loop may pause
_TAIL_BYTES_MAX = 1 << 20
_DELIMITER_BYTES = 8
_SEQUENCE_DELIMITER = EXPLICIT_LITTLE.wide.pack(SEQUENCE_DELIMITER >> 16, SEQUENCE_DELIMITER & 0xFFFF, 0)


class TranscodedPieces:
    """``ahead``: how many calls to workers may be under way for one object. With ``verify`` each frame is
    decoded again and compared."""

    def __init__(
        self,
        store: ObjectStore,
        access: PixelAccess,
        workers: WorkerPool,
        *,
        ahead: int = 2,
        time_limit_s: float | None = None,
        verify: bool = False,
    ) -> None:
        self._store = store
        self._access = access
        self._workers = workers
        self._ahead = ahead
        self._time_limit_s = time_limit_s
        self._verify = verify

    async def of(self, instance: StoredInstance, target: str) -> tuple[str, AsyncIterator[bytes]]:
        """The transfer syntax that it really is (``target``, unless there is nothing to compress), and the
        data set in it, before any deflating. Raises as `Transcoder.given`."""
        try:
            opened = await self._access.open(instance)
        except NotFound:
            target = data_set_syntax(target, has_pixels=False)
            return target, rewritten(self._store, instance, target)
        source = opened.transfer_syntax_uid
        if not can_transcode(source, target):
            raise PixelDataUnsupported(f"from {source} to {target} leads no way here")
        if is_native(source) and is_native(target):
            return target, self._moved(opened, instance, target)
        layout = await self._access.layout(instance, opened)
        return target, self._converted(opened, layout, target)

    # --- uncompressed pixels stay what they are --------------------------------------------------------

    async def _moved(
        self, opened: OpenedPixels, instance: StoredInstance, target: str
    ) -> AsyncIterator[bytes]:
        source, element = opened.transfer_syntax_uid, opened.element
        header = await opened.header()
        if len(header) <= _INLINE_BYTES_MAX:
            yield _rewritten_header(header, source, target)
        else:
            yield await asyncio.to_thread(_rewritten_header, header, source, target)
        word_bytes = 1
        vr = element.vr or "OW"
        if _big_endian_pixels(source) != _big_endian_pixels(target):
            layout = await self._access.layout(instance, opened)
            vr = pixel_data_vr(target, layout.pixels)
            word_bytes = layout.word_bytes
            if _big_endian_pixels(target):
                word_bytes = max(layout.pixels.bits_allocated // 8, 1)
        padding = element.length % 2
        yield write_header(element.tag, vr, element.length + padding, undeflated(target))
        for start in range(0, element.length, _CHUNK_BYTES):
            length = min(_CHUNK_BYTES, element.length - start)
            yield swapped(await opened.content.read(element.start + start, length), word_bytes)
        yield b"\0" * padding + await _tail(opened, target)

    # --- pixels are decoded, or encoded, or both --------------------------------------------------------

    async def _converted(
        self, opened: OpenedPixels, layout: PixelLayout, target: str
    ) -> AsyncIterator[bytes]:
        pixels = layout.pixels
        count = pixels.number_of_frames
        batch = max(1, min(_BATCH_BYTES // pixels.decoded_bytes, _BATCH_FRAMES_MAX, count))
        frames = await self._access.frames(opened, layout, 0, batch)
        try:
            header, encoded = await self._workers.run(
                transcode_beginning,
                *(await opened.header(), frames, pixels, target, self._verify),
                time_limit_s=self._time_limit_s,
            )
        except InvalidInput as error:
            raise PixelDataBroken("its header cannot be read") from error
        yield header
        async with contextlib.aclosing(self._batches(opened, layout, target, batch, encoded)) as batches:
            if is_native(target):
                pieces = _native_value(batches, layout, target)
            else:
                pieces = _encapsulated_value(batches, table=_offset_table(encoded) if batch == count else b"")
            async for piece in pieces:
                yield piece
        yield await _tail(opened, target)

    async def _batches(
        self, opened: OpenedPixels, layout: PixelLayout, target: str, size: int, first: list[bytes]
    ) -> AsyncGenerator[list[bytes]]:
        """All frames, the ``first`` of them done already."""
        count = layout.pixels.number_of_frames
        starts = iter(range(size, count, size))
        under_way: deque[asyncio.Task[list[bytes]]] = deque()

        def begin() -> None:
            start = next(starts, None)
            if start is not None:
                work = self._batch(opened, layout, target, start, min(size, count - start))
                under_way.append(asyncio.create_task(work))

        try:
            for _ in range(self._ahead):
                begin()
            yield first
            while under_way:
                frames = await under_way.popleft()
                begin()
                yield frames
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _batch(
        self, opened: OpenedPixels, layout: PixelLayout, target: str, start: int, count: int
    ) -> list[bytes]:
        frames: EncodedFrames = await self._access.frames(opened, layout, start, count)
        if keeps_frames(opened.transfer_syntax_uid, target):
            return [content for content, _ in frames]
        _, encoded = await self._workers.run(
            transcode_frames,
            *(frames, layout.pixels, target, self._verify),
            time_limit_s=self._time_limit_s,
        )
        return encoded


async def _native_value(
    batches: AsyncIterator[list[bytes]], layout: PixelLayout, target: str
) -> AsyncIterator[bytes]:
    pixels = layout.pixels
    bits = pixels.rows * pixels.columns * pixels.samples_per_pixel * pixels.bits_allocated
    length = (bits * pixels.number_of_frames + 7) // 8
    if length > UNDEFINED_LENGTH - 2:
        raise PixelDataUnsupported("uncompressed, its pixels would be more than 4 GiB")
    vr = pixel_data_vr(target, pixels)
    yield write_header(layout.element.tag, vr, length + length % 2, undeflated(target))
    word_bytes = max(pixels.bits_allocated // 8, 1) if _big_endian_pixels(target) else 1
    joiner = BitJoiner(bits) if bits % 8 else None
    async for frames in batches:
        content = b"".join(frames) if joiner is None else joiner.joined(frames)
        yield swapped(content, word_bytes)
    last = joiner.rest() if joiner is not None else b""
    yield last + b"\0" * (length % 2)


async def _encapsulated_value(batches: AsyncIterator[list[bytes]], *, table: bytes) -> AsyncIterator[bytes]:
    """PS3.5 A.4: an item for the Basic Offset Table, one for each frame, a delimiter."""
    yield write_header(0x7FE00010, "OB", UNDEFINED_LENGTH, "1.2.840.10008.1.2.1") + _item(table)
    async for frames in batches:
        yield b"".join(map(_item, frames))
    yield _SEQUENCE_DELIMITER


def _item(content: bytes) -> bytes:
    padding = len(content) % 2
    header = EXPLICIT_LITTLE.wide.pack(ITEM >> 16, ITEM & 0xFFFF, len(content) + padding)
    return header + content + b"\0" * padding


def _offset_table(frames: list[bytes]) -> bytes:
    """For frames that are all at hand; left empty, as is allowed, where the sizes of later ones are not."""
    offsets, position = [], 0
    for frame in frames:
        offsets.append(position)
        position += 8 + len(frame) + len(frame) % 2
    if position > UNDEFINED_LENGTH:
        return b""
    return b"".join(offset.to_bytes(4, "little") for offset in offsets)


async def _tail(opened: OpenedPixels, target: str) -> bytes:
    """What follows the pixels (digital signatures; padding is left out), rewritten."""
    tail = await opened.tail(_TAIL_BYTES_MAX)
    if opened.element.encapsulated:
        tail = tail[_DELIMITER_BYTES:]
    try:
        elements = read_dataset(tail, opened.transfer_syntax_uid) if tail else []
    except ScanError:
        elements = []  # what cannot be read after the image is no part of it
    kept: list[Element] = [element for element in elements if element.tag != DATA_SET_TRAILING_PADDING]
    return write_dataset(kept, undeflated(target))


def _rewritten_header(header: bytes, source: str, target: str) -> bytes:
    try:
        elements = read_dataset(header, source, stop_before_pixel_data=True)
    except ScanError as error:
        raise PixelDataBroken("its header cannot be read") from error
    return write_dataset(elements, undeflated(target), source=header)


def _big_endian_pixels(transfer_syntax_uid: str) -> bool:
    syntax = lookup(transfer_syntax_uid)
    return syntax is not None and syntax.big_endian_pixels
