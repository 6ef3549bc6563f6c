"""Compressing what is stored: the same to the bit, the same to senders, and never without an object."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
import pytest_asyncio

from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.images import open_images
from isocenter.features.archive.recompressing import Recompression
from isocenter.features.archive.spare_time import SpareTime
from isocenter.features.archive.transcoded_pieces import TranscodedPieces
from isocenter.imaging import transcoding
from isocenter.imaging.errors import PixelDataBroken
from isocenter.imaging.pixel_description import PixelDescription
from isocenter.kit.errors import IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.workers.pool import WorkerPool
from services.archive import TestArchive, broken_promises, opened
from services.images import Pixels, data_set, file_of
from services.schema import fresh_url
from services.transcoding import frames_of, instance_of, same

HTJ2K, LITTLE = "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.1"
KINDS = (
    Pixels(rows=64, columns=64),
    Pixels(rows=64, columns=64, signed=True, frames=3),
    Pixels(rows=64, columns=64, samples=3, photometric="RGB", bits_allocated=8, bits_stored=8, planar=1),
    Pixels(rows=64, columns=64, overlay_bits=True),
)


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest_asyncio.fixture
async def archive(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> AsyncIterator[TestArchive]:
    with fresh_url(request, kind, tmp_path) as url:
        store = FaultyStore(LocalStore(tmp_path / "objects"))
        async with opened(url, tmp_path, store=store) as archive:
            yield archive
            assert await broken_promises(archive) == []


@pytest_asyncio.fixture
async def recompression(archive: TestArchive) -> AsyncIterator[Recompression]:
    images = open_images(archive.store, workers=WorkerPool(1))
    yield Recompression(
        archive.database, archive.store, archive.ingest, images.verifying(archive.store), archive.clock
    )
    await images.close()


async def content(archive: TestArchive, file: bytes) -> bytes:
    return await archive.store.get((await instance_of(archive, file)).object_key)


async def test_images_are_compressed_to_the_bit(archive: TestArchive, recompression: Recompression) -> None:
    made = [data_set(pixels, number) for number, pixels in enumerate(KINDS, 1)]
    files = [file_of(one, "1.2.840.10008.1.2" if number % 2 else LITTLE) for number, one in enumerate(made)]
    await archive.send(*files)
    report = await recompression.run(SpareTime())
    assert (report.examined, report.compressed) == (4, 4) and report.saved_bytes > 10_000
    for one, file in zip(made, files, strict=True):
        instance = await instance_of(archive, file)
        assert instance.transfer_syntax_uid == HTJ2K
        stored = await content(archive, file)
        assert len(stored) == instance.size < len(file)
        assert same(frames_of(stored), frames_of(one))
        read = pydicom.dcmread(io.BytesIO(stored))
        assert read.PatientName == one.PatientName and "LossyImageCompression" not in read
    assert (await recompression.run(SpareTime())).examined == 0


async def test_the_sender_who_repeats_himself_is_known(
    archive: TestArchive, recompression: Recompression
) -> None:
    file = file_of(data_set(KINDS[0]))
    await archive.send_one(file)
    await recompression.run(SpareTime())
    assert (await archive.send_one(file)).kind is OutcomeKind.DUPLICATE
    compressed = await content(archive, file)
    assert (await archive.send_one(compressed)).kind is OutcomeKind.DUPLICATE
    changed = data_set(KINDS[0])
    changed.PatientComments = "other bytes"
    assert (await archive.send_one(file_of(changed))).kind is OutcomeKind.REJECTED
    assert (await instance_of(archive, file)).transfer_syntax_uid == HTJ2K


async def test_the_original_goes_with_the_sweep_and_not_before(
    archive: TestArchive, recompression: Recompression
) -> None:
    file = file_of(data_set(KINDS[0]))
    await archive.send_one(file)
    before = (await instance_of(archive, file)).object_key
    await recompression.run(SpareTime())
    assert await archive.store.stat(before) is not None
    await archive.sweep(timedelta(days=1)).run()
    assert await archive.store.stat(before) is not None
    await archive.sweep(timedelta(seconds=-5)).run()
    assert await archive.store.stat(before) is None
    assert same(frames_of(await content(archive, file)), frames_of(data_set(KINDS[0])))


async def test_what_cannot_be_or_gains_nothing_stays(
    archive: TestArchive, recompression: Recompression
) -> None:
    without = data_set(Pixels(), 1)
    del without.PixelData
    files = [
        file_of(without),
        file_of(data_set(Pixels(bits_allocated=32, bits_stored=32), 2)),
        file_of(data_set(Pixels(rows=1, columns=1), 3)),
        file_of(data_set(Pixels(bits_allocated=1, bits_stored=1, frames=2), 4)),
    ]
    await archive.send(*files)
    assert (await recompression.run(SpareTime())).compressed == 0
    for file in files:
        assert await content(archive, file) == file


async def test_a_codec_that_loses_a_bit_is_found_out(
    archive: TestArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the worker's own function, since a worker is another process."""
    pixels = PixelDescription.of_dataset(data_set(KINDS[0]))
    frames = [(data_set(KINDS[0]).PixelData, 0)]
    transcoding.transcode_frames(frames, pixels, HTJ2K, True)
    encode = transcoding.encode_frame

    def losing(frame: Any, *more: Any) -> Any:
        samples = frame.samples.copy()
        samples[5, 5] ^= 1
        return encode(frame._replace(samples=samples), *more)

    monkeypatch.setattr(transcoding, "encode_frame", losing)
    transcoding.transcode_frames(frames, pixels, HTJ2K)
    with pytest.raises(PixelDataBroken, match="does not come back"):
        transcoding.transcode_frames(frames, pixels, HTJ2K, True)


async def test_an_attribute_that_would_change_is_found_out(
    archive: TestArchive, recompression: Recompression, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TranscodedPieces.of

    async def altering(self: Any, instance: Any, target: str) -> Any:
        target, pieces = await original(self, instance, target)

        async def altered() -> AsyncIterator[bytes]:
            async for piece in pieces:
                yield piece.replace(b"Made^Image", b"Made^Other")

        return target, altered()

    monkeypatch.setattr(TranscodedPieces, "of", altering)
    file = file_of(data_set(KINDS[0]))
    await archive.send_one(file)
    assert (await recompression.run(SpareTime())).compressed == 0
    assert await content(archive, file) == file


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("operation", [Operation.PUT, Operation.GET])
async def test_whatever_fails_the_image_stays(
    archive: TestArchive, recompression: Recompression, operation: Operation, nth: int
) -> None:
    """And the next run makes up for it."""
    made = [data_set(pixels, number) for number, pixels in enumerate(KINDS, 1)]
    files = [file_of(one) for one in made]
    await archive.send(*files)
    store = archive.store
    assert isinstance(store, FaultyStore)
    fault = OutOfSpace("full") if operation is Operation.PUT else Unavailable("away")
    store.fail(operation, lambda: fault, nth=nth)
    with pytest.raises(IsocenterError):
        await recompression.run(SpareTime())
    for file, one in zip(files, made, strict=True):
        assert same(frames_of(await content(archive, file)), frames_of(one))
    store.heal()
    await recompression.run(SpareTime())
    assert (await instance_of(archive, files[-1])).transfer_syntax_uid == HTJ2K
    for file, one in zip(files, made, strict=True):
        assert same(frames_of(await content(archive, file)), frames_of(one))


async def test_an_instance_replaced_meanwhile_is_left_alone(
    archive: TestArchive, recompression: Recompression, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(data_set(KINDS[0]))
    await archive.send_one(file)
    check = Recompression._check

    async def deleted_meanwhile(self: Any, *args: Any) -> None:
        await check(self, *args)
        await archive.execute("UPDATE instance SET object_key = object_key || 'x'")

    monkeypatch.setattr(Recompression, "_check", deleted_meanwhile)
    assert (await recompression.run(SpareTime())).compressed == 0
    monkeypatch.undo()
    length = "length(object_key) - 1"
    await archive.execute(f"UPDATE instance SET object_key = substr(object_key, 1, {length})")
    assert await content(archive, file) == file
