"""From a stored image to what a renderer is given: its header, and the bytes of one frame, nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from isocenter.dicom.dataset import is_deflated
from isocenter.features.archive.pixel_access import Bytes, OpenedPixels, PixelAccess, PixelLayout
from isocenter.features.archive.retrieve import StoredInstance, read_bytes
from isocenter.imaging.errors import PixelDataUnsupported
from isocenter.imaging.pixel_description import PixelDescription
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.described import describe
from isocenter.imaging.rendering.request import FrameSource
from isocenter.kit.errors import NotFound
from isocenter.platform.storage.interface import ObjectStore

_AT_ONCE_BYTES_MAX = 8 << 20
"""Objects of one frame up to this size are read in one go: one visit to the store instead of three."""
_HEADER_BYTES_MAX = 64 << 20
_FRAME_BYTES_MAX = 512 << 20
_DEFLATED_BYTES_MAX = 256 << 20
_INLINE_BYTES_MAX = 256 << 10  # more is looked at in a thread: it takes longer than the event loop may pause


class NoSuchFrame(NotFound):
    default_code = "no-such-frame"

    def __init__(self, number_of_frames: int) -> None:
        super().__init__(
            f"The instance has no such frame; it has {number_of_frames}.",
            remedy="Frames are counted from 1.",
        )


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image, its header read. Make it with `open_image`."""

    attributes: Attributes
    _access: PixelAccess
    _opened: OpenedPixels
    _layout: PixelLayout
    _header: bytes

    @property
    def pixels(self) -> PixelDescription:
        return self._layout.pixels

    @property
    def number_of_frames(self) -> int:
        return self._layout.pixels.number_of_frames

    def check_frame(self, number: int) -> None:
        """``number`` counts from 1. Raises NoSuchFrame."""
        if not 1 <= number <= self.number_of_frames:
            raise NoSuchFrame(self.number_of_frames)

    async def frame(self, number: int) -> FrameSource:
        """``number`` counts from 1. Raises NoSuchFrame, PixelDataBroken, PixelDataUnsupported, and what
        `read_bytes` raises."""
        self.check_frame(number)
        if self._frame_bytes(number) > _FRAME_BYTES_MAX:
            raise PixelDataUnsupported("one frame of it is too large")
        ((encoded, first_bit),) = await self._access.frames(self._opened, self._layout, number - 1)
        syntax = self._opened.transfer_syntax_uid
        return FrameSource(self._header, syntax, encoded, number - 1, first_bit)

    def _frame_bytes(self, number: int) -> int:
        if self._layout.starts:
            return self._layout.starts[number] - self._layout.starts[number - 1]
        return self.pixels.frame_bits // 8


async def open_image(store: ObjectStore, access: PixelAccess, instance: StoredInstance) -> StoredImage:
    """The image, as far as it can be described.

    Raises PixelDataBroken, PixelDataUnsupported (also where it has no pixels), and what `read_bytes` raises.
    """
    try:
        opened = await access.open(instance, content=await _ahead(store, instance))
    except NotFound as error:
        raise PixelDataUnsupported("it has none") from error
    if opened.element.start - opened.data_set_start > _HEADER_BYTES_MAX:
        raise PixelDataUnsupported("its description is too long")
    header = await opened.header()
    layout = await access.layout(instance, opened)
    described = (
        describe(header, opened.transfer_syntax_uid)
        if len(header) <= _INLINE_BYTES_MAX
        else await asyncio.to_thread(describe, header, opened.transfer_syntax_uid)
    )
    return StoredImage(described.attributes, access, opened, layout, header)


async def _ahead(store: ObjectStore, instance: StoredInstance) -> Bytes | None:
    """All that rendering will ask for, where that is little."""
    length = instance.size - instance.header_size
    if is_deflated(instance.transfer_syntax_uid):
        if length > _DEFLATED_BYTES_MAX:
            raise PixelDataUnsupported("it is deflated and too long to be inflated")
        return None
    if instance.number_of_frames > 1 or length > _AT_ONCE_BYTES_MAX or instance.pixel_offset is None:
        return None
    content = await read_bytes(store, instance, instance.header_size, length)
    return _ReadAhead(content, instance.header_size)


@dataclass(frozen=True, slots=True)
class _ReadAhead:
    """``content`` begins at byte ``start`` of the object."""

    content: bytes
    start: int

    async def read(self, start: int, length: int) -> bytes:
        return self.content[start - self.start : start - self.start + length]
