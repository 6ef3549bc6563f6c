"""Where an object's frames lie, and their bytes: one range read a frame, whatever the size of the object.

What had to be read for that (a few attributes; for compressed frames that nothing indexed, the items' first
bytes) is remembered: an object's contents never change.
"""

from __future__ import annotations

import asyncio
import struct
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from isocenter.dicom.dataset import encoding_of, inflated, is_deflated
from isocenter.dicom.element import Element
from isocenter.dicom.encoding import UNDEFINED_LENGTH
from isocenter.dicom.scan_model import PIXEL_TAGS
from isocenter.dicom.scanner import ScanError, Wanted, scan
from isocenter.dicom.tags import DOUBLE_FLOAT_PIXEL_DATA, FLOAT_PIXEL_DATA, PIXEL_DATA
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, lookup
from isocenter.features.archive.fragments import fragments_of, frame_starts_by_content
from isocenter.features.archive.retrieve import StoredInstance, read_bytes
from isocenter.imaging import pixel_description as attributes
from isocenter.imaging.errors import PixelDataBroken
from isocenter.imaging.pixel_description import PixelDescription
from isocenter.imaging.transcoding import EncodedFrames, swapped_word_bytes
from isocenter.kit.errors import NotFound
from isocenter.platform.storage.interface import ObjectStore

_DESCRIBING = (
    attributes.SAMPLES_PER_PIXEL,
    attributes.PHOTOMETRIC_INTERPRETATION,
    attributes.PLANAR_CONFIGURATION,
    attributes.NUMBER_OF_FRAMES,
    attributes.ROWS,
    attributes.COLUMNS,
    attributes.BITS_ALLOCATED,
    attributes.BITS_STORED,
    attributes.HIGH_BIT,
    attributes.PIXEL_REPRESENTATION,
)
_WANTED = Wanted(_DESCRIBING)
_WANTED_WITH_PIXELS = Wanted((*_DESCRIBING, FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA))
_REMEMBERED = 512
_FRAMES_REMEMBERED = 1 << 20
_VR_BYTES = 12


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Pixel Data's element: its ``value`` begins at byte ``start`` of the object and has ``length`` bytes
    (``encapsulated``: all items, without the delimiter). ``vr`` is empty where the data set does not tell."""

    tag: int
    vr: str
    start: int
    length: int
    encapsulated: bool


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """``pixels`` describe them; ``starts`` are where compressed frames begin, from the element's value, with
    its end behind the last. ``word_bytes``: what changes places in the object's byte order; 1: nothing."""

    element: PixelElement
    pixels: PixelDescription
    starts: Sequence[int] = ()
    word_bytes: int = 1


class Bytes(Protocol):
    """An object's bytes: in the store, or inflated in memory."""

    async def read(self, start: int, length: int) -> bytes: ...


class _InStore:
    def __init__(self, store: ObjectStore, instance: StoredInstance) -> None:
        self._store = store
        self._instance = instance

    async def read(self, start: int, length: int) -> bytes:
        return await read_bytes(self._store, self._instance, start, length)


class _InMemory:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self, start: int, length: int) -> bytes:
        return self._content[start : start + length]


@dataclass(frozen=True, slots=True)
class OpenedPixels:
    """An object with pixels: ``data_set_start`` is where its data set begins in ``content``, whose encoding
    ``transfer_syntax_uid`` tells (of a deflated object, the inflated one), and ``end`` where it ends."""

    content: Bytes
    transfer_syntax_uid: str
    data_set_start: int
    end: int
    element: PixelElement

    async def header(self) -> bytes:
        """The data set up to the value of Pixel Data."""
        return await self.content.read(self.data_set_start, self.element.start - self.data_set_start)

    async def tail(self, length_max: int) -> bytes:
        """What follows the value of Pixel Data; empty where that is longer than any real object's."""
        start = self.element.start + self.element.length
        return await self.content.read(start, self.end - start) if self.end - start <= length_max else b""


class PixelAccess:
    """Reads frames of the objects in ``store``."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._layouts: OrderedDict[str, PixelLayout] = OrderedDict()

    async def open(self, instance: StoredInstance, content: Bytes | None = None) -> OpenedPixels:
        """``content``: the object's bytes from its data set on, where they have been read already; but for
        deflated ones. Raises NotFound (``no-pixel-data``) for an object without; PixelDataBroken for one that
        lies."""
        if is_deflated(instance.transfer_syntax_uid):
            return await self._open_deflated(instance)
        if instance.pixel_offset is None or instance.pixel_length is None:
            raise no_pixel_data()
        content = content or _InStore(self._store, instance)
        known = self._layouts.get(instance.object_key)
        if known is not None:
            element = known.element
            return OpenedPixels(
                content, known.pixels.transfer_syntax_uid, instance.header_size, instance.size, element
            )
        start = max(instance.header_size, instance.pixel_offset - _VR_BYTES)
        element = _element(await content.read(start, instance.pixel_offset - start), instance)
        return OpenedPixels(
            content, _effective_syntax(instance, element), instance.header_size, instance.size, element
        )

    async def layout(self, instance: StoredInstance, opened: OpenedPixels) -> PixelLayout:
        """Raises PixelDataBroken, PixelDataUnsupported where the object does not describe its pixels."""
        known = self._layouts.get(instance.object_key)
        if known is not None:
            self._layouts.move_to_end(instance.object_key)
            return known
        layout = await self._read_layout(instance, opened)
        self._layouts[instance.object_key] = layout
        while len(self._layouts) > _REMEMBERED or (
            sum(len(one.starts) for one in self._layouts.values()) > _FRAMES_REMEMBERED
        ):
            self._layouts.popitem(last=False)
        return layout

    async def frames(
        self, opened: OpenedPixels, layout: PixelLayout, first: int, count: int = 1
    ) -> EncodedFrames:
        """``count`` frames from ``first`` (from 0), by one read; native ones in little endian.

        Raises PixelDataBroken where they are not there.
        """
        element, pixels = layout.element, layout.pixels
        if element.encapsulated:
            return await self._compressed(opened, layout, first, count)
        begin, end = pixels.frame_extent(first), pixels.frame_extent(first + count - 1)
        wide = layout.word_bytes  # bytes change places within whole words
        start = begin.start // wide * wide
        stop = -(-(end.start + end.length) // wide) * wide
        if end.start + end.length > element.length:
            raise PixelDataBroken("it is shorter than its rows, columns and frames need")
        content = await opened.content.read(element.start + start, min(stop, element.length) - start)
        content = swapped(content, wide)
        frames = []
        for number in range(first, first + count):
            extent = pixels.frame_extent(number)
            frames.append((content[extent.start - start :][: extent.length], extent.first_bit))
        return frames

    async def _compressed(
        self, opened: OpenedPixels, layout: PixelLayout, first: int, count: int
    ) -> EncodedFrames:
        starts = layout.starts[first : first + count + 1]
        items = await opened.content.read(layout.element.start + starts[0], starts[-1] - starts[0])
        frames = []
        for begin, end in pairwise(starts):
            frames.append((fragments_of(items[begin - starts[0] : end - starts[0]]), 0))
        return frames

    async def _read_layout(self, instance: StoredInstance, opened: OpenedPixels) -> PixelLayout:
        header = await opened.header()
        pixels = await asyncio.to_thread(_described, header, opened)
        element = opened.element
        if element.encapsulated:
            return PixelLayout(element, pixels, await self._starts(instance, opened, pixels))
        syntax = lookup(opened.transfer_syntax_uid)
        big_endian = syntax is not None and syntax.big_endian_pixels
        return PixelLayout(
            element, pixels, word_bytes=swapped_word_bytes(pixels, element.vr) if big_endian else 1
        )

    async def _starts(
        self, instance: StoredInstance, opened: OpenedPixels, pixels: PixelDescription
    ) -> Sequence[int]:
        starts = array("Q", map(int, instance.frame_offsets.split()))
        if len(starts) != pixels.number_of_frames:
            element = opened.element
            starts = await frame_starts_by_content(opened.content, element.start, element.length)
        starts.append(opened.element.length)
        if len(starts) != pixels.number_of_frames + 1 or any(
            one >= following for one, following in pairwise(starts)
        ):
            raise PixelDataBroken("nothing tells its frames apart")
        return starts

    async def _open_deflated(self, instance: StoredInstance) -> OpenedPixels:
        deflated = await read_bytes(
            self._store, instance, instance.header_size, instance.size - instance.header_size
        )
        try:
            content = await asyncio.to_thread(inflated, deflated)
            found = scan(content, _WANTED_WITH_PIXELS, transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN)
        except ScanError as error:
            raise PixelDataBroken("its deflated data set cannot be read here") from error
        if found.pixel_data is None:
            raise no_pixel_data()
        data = found.pixel_data
        element = PixelElement(data.tag, data.vr, data.offset, data.length, data.encapsulated)
        return OpenedPixels(_InMemory(content), EXPLICIT_VR_LITTLE_ENDIAN, 0, len(content), element)


def swapped(content: bytes, word_bytes: int) -> bytes:
    """The bytes of each word in reverse order; what does not fill a last word stays."""
    if word_bytes == 1:
        return content
    whole = len(content) // word_bytes * word_bytes
    words = array({2: "H", 4: "I", 8: "Q"}[word_bytes], content[:whole])
    words.byteswap()
    return words.tobytes() + content[whole:]


def no_pixel_data() -> NotFound:
    return NotFound(
        "The object has no pixel data.", code="no-pixel-data", remedy="Ask for the object, or its metadata."
    )


def _element(end_of_header: bytes, instance: StoredInstance) -> PixelElement:
    """Pixel Data's element from the end of its own header (PS3.5 §7.1.2, §7.1.3). Which of the two it is the
    tag tells better than the transfer syntax, about which files lie."""
    assert instance.pixel_offset is not None
    assert instance.pixel_length is not None
    order = ">" if encoding_of(instance.transfer_syntax_uid).big_endian else "<"
    group, number, raw_vr, _, length = struct.unpack(order + "HH2sHI", end_of_header[-12:].rjust(12, b"\0"))
    vr = raw_vr.decode("latin-1")
    if group << 16 | number not in PIXEL_TAGS:
        group, number, length = struct.unpack(order + "HHI", end_of_header[-8:].rjust(8, b"\0"))
        vr = ""
    if group << 16 | number not in PIXEL_TAGS:
        raise PixelDataBroken("its header cannot be read")
    return PixelElement(
        group << 16 | number,
        vr,
        instance.pixel_offset,
        instance.pixel_length,
        encapsulated=length == UNDEFINED_LENGTH,
    )


def _effective_syntax(instance: StoredInstance, element: PixelElement) -> str:
    """As declared; but pixels of a known length are not compressed, whatever is declared."""
    syntax = lookup(instance.transfer_syntax_uid)
    if syntax is not None and syntax.encapsulated and not element.encapsulated:
        return EXPLICIT_VR_LITTLE_ENDIAN
    return instance.transfer_syntax_uid


def _described(header: bytes, opened: OpenedPixels) -> PixelDescription:
    try:
        found = scan(header, _WANTED, transfer_syntax_uid=opened.transfer_syntax_uid)
    except ScanError as error:
        raise PixelDataBroken("its header cannot be read") from error
    elements = [Element(tag, raw.vr, raw.value) for tag, raw in found.elements.items()]
    if opened.element.tag != PIXEL_DATA:
        elements.append(Element(opened.element.tag, "OF", b""))
    return PixelDescription.of_elements(elements, opened.transfer_syntax_uid)
