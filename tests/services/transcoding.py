"""A transcoder over a test archive, and what an object's pixels are, whatever it is encoded in."""

from __future__ import annotations

import io
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pydicom
from pydicom.encaps import get_frame

from isocenter.dicom.value_representations import swap_bytes
from isocenter.features.archive.pixel_access import PixelAccess
from isocenter.features.archive.retrieve import StoredInstance, find_stored
from isocenter.features.archive.transcode_cache import TranscodeCache
from isocenter.features.archive.transcoded_pieces import TranscodedPieces
from isocenter.features.archive.transcoding import GivenObject, Transcoder
from isocenter.imaging.decoding import DecodedFrame, decode_frame, is_native
from isocenter.imaging.pixel_description import PixelDescription
from isocenter.platform.workers.pool import WorkerLimits, WorkerPool
from services.archive import ORGANIZATION, TestArchive

PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009)


@asynccontextmanager
async def transcoding(
    archive: TestArchive, cache: TranscodeCache | None = None, workers: WorkerPool | None = None
) -> AsyncIterator[Transcoder]:
    workers = workers or WorkerPool(2, WorkerLimits(memory_bytes=1 << 30))
    pieces = TranscodedPieces(archive.store, PixelAccess(archive.store), workers)
    transcoder = Transcoder(archive.store, pieces, cache)
    try:
        yield transcoder
    finally:
        await transcoder.close()
        await workers.close()


async def instance_of(archive: TestArchive, file: bytes) -> StoredInstance:
    """The stored object that this file became."""
    with warnings.catch_warnings(action="ignore"):
        read = pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True, force=True)
        uids = (str(read.StudyInstanceUID), str(read.SeriesInstanceUID), str(read.SOPInstanceUID))
    [instance] = await find_stored(archive.database, ORGANIZATION, *uids)
    return instance


async def content_of(given: GivenObject) -> bytes:
    content = b"".join([piece async for piece in given.stream()])
    assert given.size in {None, len(content)}
    return content


def read(file: bytes) -> pydicom.Dataset:
    with warnings.catch_warnings(action="ignore"):
        return pydicom.dcmread(io.BytesIO(file), force=True)


def frames_of(file: bytes | pydicom.Dataset) -> list[DecodedFrame]:
    """Every frame, as pydicom finds it and our decoder (which has tests of its own) decodes it."""
    made = read(file) if isinstance(file, bytes) else file
    pixels = PixelDescription.of_dataset(made)
    element = next(made[tag] for tag in PIXEL_TAGS if tag in made)
    value: bytes = element.value
    frames = []
    if pixels.transfer_syntax_uid == "1.2.840.10008.1.2.2":
        width = max(pixels.bits_allocated // 8, 2 if element.VR == "OW" else 1)
        value = swap_bytes(value, {1: "OB", 2: "OW", 4: "OL", 8: "OV"}[width])
    for number in range(pixels.number_of_frames):
        if is_native(pixels.transfer_syntax_uid):
            extent = pixels.frame_extent(number)
            encoded, first_bit = value[extent.start : extent.start + extent.length], extent.first_bit
        else:
            encoded, first_bit = get_frame(value, number, number_of_frames=pixels.number_of_frames), 0
        frames.append(decode_frame(encoded, pixels, first_bit=first_bit))
    return frames


def same(one: list[DecodedFrame], other: list[DecodedFrame]) -> bool:
    return len(one) == len(other) and all(
        a.photometric_interpretation == b.photometric_interpretation
        and a.samples.dtype == b.samples.dtype
        and np.array_equal(a.samples, b.samples)
        for a, b in zip(one, other, strict=True)
    )
