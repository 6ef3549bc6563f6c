"""Every real file at hand: given in other transfer syntaxes to the bit, or refused with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from isocenter.dicom.validation import Strictness
from isocenter.features.archive.transcoding import Transcoder
from isocenter.imaging.decoding import DecodedFrame
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported
from services.archive import TestArchive, opened
from services.dicom_files import pydicom_files, shared_files
from services.schema import fresh_url
from services.transcoding import PIXEL_TAGS, content_of, frames_of, instance_of, read, same, transcoding

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

J = "1.2.840.10008.1.2.4."
TARGETS = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", J + "90", J + "201")
LARGE_BYTES = 3 << 20
# What is wrong with pydicom's and the shared broken files, as our decoders see it.
BROKEN = {
    "MR_truncated.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "badVR.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm",
}


def real_files() -> list[Path]:
    by_name = {path.name: path for path in (*shared_files(), *pydicom_files())}
    return [path for _, path in sorted(by_name.items()) if path.stat().st_size < LARGE_BYTES]


@pytest_asyncio.fixture
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TestArchive]:
    with fresh_url(request, "sqlite", tmp_path) as url:
        async with opened(
            url, tmp_path, strictness=Strictness.LENIENT, accept_unknown_sop_classes=True
        ) as archive:
            yield archive


async def test_every_file(archive: TestArchive) -> None:
    given, refused, broken = 0, set(), set()
    async with transcoding(archive) as transcoder:
        for path in real_files():
            file = path.read_bytes()
            if "TransferSyntaxUID" not in read(file).file_meta:
                continue  # nothing to compare with
            if not (await archive.send_one(file)).kind.accepted:
                continue
            try:
                original = expected(file)
            except (PixelDataBroken, PixelDataUnsupported):
                original = None
            for target in TARGETS:
                outcome = await one(archive, transcoder, file, original, target)
                given += outcome == "given"
                if outcome == "broken":
                    broken.add(path.name)
                if outcome == "unsupported":
                    refused.add((path.name, target))
            await archive.execute("DELETE FROM instance")
            await archive.execute("DELETE FROM series")
            await archive.execute("DELETE FROM study")
    assert given > 200
    assert broken <= BROKEN
    assert not [name for name, target in refused if target == TARGETS[0]], "all can be had uncompressed"


def expected(file: bytes) -> list[DecodedFrame] | None:
    made = read(file)
    return frames_of(made) if any(tag in made for tag in PIXEL_TAGS) else []


async def one(
    archive: TestArchive,
    transcoder: Transcoder,
    file: bytes,
    original: list[DecodedFrame] | None,
    target: str,
) -> str:
    instance = await instance_of(archive, file)
    try:
        result = await content_of(await transcoder.given(instance, target))
    except PixelDataBroken:
        assert original is None
        return "broken"
    except PixelDataUnsupported:
        return "unsupported"
    if original is None:
        assert target == TARGETS[0]
        return "given"  # native to native needs no decoding
    made = read(result)
    if original:
        assert same(frames_of(made), original), (instance.sop_instance_uid, target)
        assert made.file_meta.TransferSyntaxUID == target
    before, pixels = read(file), set(PIXEL_TAGS) | {0x7FE00001, 0x7FE00002, 0xFFFCFFFC, 0x00280006}
    kept = {e.tag for e in before if e.tag.element} - pixels - {0x00282110}
    assert {e.tag for e in made if e.tag.element} - pixels - {0x00282110} == kept
    assert made.SOPInstanceUID == before.SOPInstanceUID
    return "given"
