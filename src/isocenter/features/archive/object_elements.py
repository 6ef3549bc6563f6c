"""An object's attributes, read from the store without its pixels; and where its large values lie.

Only the bytes up to Pixel Data are read (the index knows where it begins). Objects without Pixel Data are
read whole when they are small, and mapped from disk when they are not, so that a film in a PDF costs no
memory.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from isocenter.dicom.dataset import encoding_of, inflated, is_deflated, read_dataset
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.encoding import UNDEFINED_LENGTH
from isocenter.dicom.json_dataset import BulkPath
from isocenter.dicom.scan_model import PIXEL_TAGS
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, lookup
from isocenter.features.archive.retrieve import StoredInstance, read_bytes, stream_bytes
from isocenter.kit.errors import InternalError, InvalidInput, NotFound
from isocenter.platform.storage.interface import ObjectStore

T = TypeVar("T")
Buffer = bytes | memoryview

BULK_THRESHOLD_BYTES = 8 << 10
"""Longer values are left where they are and get an address of their own."""

_WHOLE_BYTES_MAX = 1 << 20
_INLINE_BYTES_MAX = 256 << 10  # more is parsed in a thread: it takes longer than the event loop may pause
_TAIL_BYTES_MAX = 1 << 20
_DELIMITER_BYTES = 8
_SEQUENCE_DELIMITATION = 0xFFFEE0DD


@dataclass(frozen=True, slots=True)
class BulkValue:
    """One large value: ``length`` bytes at ``offset`` of the object, or ``content`` where it was inflated.

    ``big_endian`` values stand in the object's byte order; the outside world expects little endian.
    """

    vr: str
    offset: int = 0
    length: int = 0
    encapsulated: bool = False
    big_endian: bool = False
    content: bytes | None = None


async def read_elements(store: ObjectStore, instance: StoredInstance) -> list[Element]:
    """The data set's elements; values over `BULK_THRESHOLD_BYTES`, and Pixel Data, as ranges.

    Raises InternalError when the object is lost or cannot be read (ingest lets none such in).
    """
    if instance.pixel_offset is None:
        return await with_whole(store, instance, lambda data: _elements(data, instance))
    header = await read_bytes(
        store, instance, instance.header_size, instance.pixel_offset - instance.header_size
    )
    if len(header) > _INLINE_BYTES_MAX:
        elements = await asyncio.to_thread(_elements, header, instance)
    else:
        elements = _elements(header, instance)
    return [*elements, _pixel_element(header, instance), *await _after_pixels(store, instance)]


async def find_bulk_value(store: ObjectStore, instance: StoredInstance, path: BulkPath) -> BulkValue:
    """The value at ``path`` of the data set. Raises NotFound where there is none, or a sequence."""
    if is_deflated(instance.transfer_syntax_uid):
        return await with_whole(store, instance, lambda data: _inflated_value(data, path))
    element = _at(await read_elements(store, instance), path)
    syntax = lookup(instance.transfer_syntax_uid)
    big_endian = syntax is not None and (
        syntax.big_endian_pixels if element.tag in PIXEL_TAGS else syntax.big_endian
    )
    match element.value:
        case BulkRange(offset, length, encapsulated):
            start = instance.header_size + offset
            return BulkValue(element.vr, start, length, encapsulated, big_endian)
        case bytes(content):
            return BulkValue(element.vr, length=len(content), content=content)
        case _:
            raise _no_bulk_data()


def _elements(data: Buffer, instance: StoredInstance) -> list[Element]:
    syntax = instance.transfer_syntax_uid
    try:
        if is_deflated(syntax):
            data, syntax = inflated(data), EXPLICIT_VR_LITTLE_ENDIAN
        return read_dataset(
            data,
            syntax,
            bulk_threshold_bytes=BULK_THRESHOLD_BYTES,
            stop_before_pixel_data=instance.pixel_offset is not None,
        )
    except InvalidInput as error:
        raise _unreadable(instance) from error


def _inflated_value(data: Buffer, path: BulkPath) -> BulkValue:
    content = inflated(data)
    elements = read_dataset(content, EXPLICIT_VR_LITTLE_ENDIAN, bulk_threshold_bytes=BULK_THRESHOLD_BYTES)
    element = _at(elements, path)
    match element.value:
        case BulkRange(offset, length):
            return BulkValue(element.vr, length=length, content=content[offset : offset + length])
        case bytes(value):
            return BulkValue(element.vr, length=len(value), content=value)
        case _:
            raise _no_bulk_data()


def _pixel_element(header: bytes, instance: StoredInstance) -> Element:
    """Pixel Data's element from the end of its own header (PS3.5 §7.1.2, §7.1.3)."""
    assert instance.pixel_offset is not None
    assert instance.pixel_length is not None
    order = ">" if encoding_of(instance.transfer_syntax_uid).big_endian else "<"
    # Which of the two it is the tag tells better than the transfer syntax, about which files lie.
    group, number, raw_vr, _, length = struct.unpack(order + "HH2sHI", header[-12:].rjust(12, b"\0"))
    vr = raw_vr.decode("latin-1")
    if group << 16 | number not in PIXEL_TAGS:
        group, number, length = struct.unpack(order + "HHI", header[-8:].rjust(8, b"\0"))
        vr = "OW"  # PS3.5 A.1
    if group << 16 | number not in PIXEL_TAGS:
        raise _unreadable(instance)
    start = instance.pixel_offset - instance.header_size
    pixels = BulkRange(start, instance.pixel_length, encapsulated=length == UNDEFINED_LENGTH)
    return Element(group << 16 | number, vr, pixels)


async def _after_pixels(store: ObjectStore, instance: StoredInstance) -> list[Element]:
    """What follows Pixel Data: padding, seldom digital signatures (FFFA,FFFA)."""
    assert instance.pixel_offset is not None
    assert instance.pixel_length is not None
    start = instance.pixel_offset + instance.pixel_length
    length = instance.size - start
    if not _DELIMITER_BYTES < length <= _TAIL_BYTES_MAX:
        return []
    tail = await read_bytes(store, instance, start, length)
    order = ">" if encoding_of(instance.transfer_syntax_uid).big_endian else "<"
    group, number = struct.unpack(order + "HH", tail[:4])
    skipped = _DELIMITER_BYTES if group << 16 | number == _SEQUENCE_DELIMITATION else 0
    try:
        return read_dataset(tail[skipped:], instance.transfer_syntax_uid)
    except InvalidInput:
        return []  # what cannot be read after the image is no part of its description


async def with_whole(store: ObjectStore, instance: StoredInstance, work: Callable[[Buffer], T]) -> T:
    """``work`` on the bare data set: in memory when small, mapped from a file when not. What it returns must
    not point into it."""
    length = instance.size - instance.header_size
    if length <= _WHOLE_BYTES_MAX:
        data = await read_bytes(store, instance, instance.header_size, length)
        if length <= _INLINE_BYTES_MAX:
            return work(data)
        return await asyncio.to_thread(work, data)
    path = store.local_path(instance.object_key)
    if path is not None:
        try:
            return await asyncio.to_thread(_mapped_at, path, instance.header_size, work)
        except FileNotFoundError:
            raise _unreadable(instance) from None
    with tempfile.TemporaryFile() as copy:
        async for piece in stream_bytes(store, instance):
            await asyncio.to_thread(copy.write, piece)
        copy.flush()
        return await asyncio.to_thread(_mapped, copy, instance.header_size, work)


def _mapped_at(path: Path, start: int, work: Callable[[Buffer], T]) -> T:
    with path.open("rb") as file:
        return _mapped(file, start, work)


def _mapped(file: BinaryIO, start: int, work: Callable[[Buffer], T]) -> T:
    with (
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping,
        memoryview(mapping) as whole,
        whole[start:] as data,
    ):
        return work(data)


def _at(elements: list[Element], path: BulkPath) -> Element:
    """The element at ``path``: its tag; within sequences tag, item, tag, item, …, tag."""
    for depth in range(0, len(path), 2):
        element = next((one for one in elements if one.tag == path[depth]), None)
        if element is None:
            break
        if depth == len(path) - 1:
            return element
        item = path[depth + 1]
        if not isinstance(element.value, list) or item >= len(element.value):
            break
        elements = element.value[item]
    raise _no_bulk_data()


def _no_bulk_data() -> NotFound:
    return NotFound("The instance has no bulk data of that address.", code="no-such-bulk-data")


def _unreadable(instance: StoredInstance) -> InternalError:
    return InternalError(
        f"The object of SOP instance {instance.sop_instance_uid} cannot be read.",
        code="object-unreadable",
        remedy="Tell the operator: 'isocenter storage check' compares each object with the index.",
    )
