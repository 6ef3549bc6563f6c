"""From every transfer syntax to every other: not a bit of any word changes that is not meant to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import pytest_asyncio

from isocenter.dicom.validation import Strictness
from isocenter.features.archive.transcoding import Transcoder
from isocenter.imaging.decoding import DecodedFrame
from isocenter.imaging.encoding import encode_frame, lossy_method
from isocenter.imaging.errors import PixelDataUnsupported
from isocenter.imaging.pixel_description import PixelDescription
from services.archive import TestArchive, opened
from services.images import Pixels, compressed, data_set, file_of
from services.schema import fresh_url
from services.transcoding import content_of, frames_of, instance_of, read, same, transcoding

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom's, of files that are as they are on purpose

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
J = "1.2.840.10008.1.2.4."
LOSSLESS = (
    *NATIVE,
    "1.2.840.10008.1.2.1.98",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.8.1",
    *(J + number for number in ("57", "70", "80", "90", "110", "201", "202")),
)
NO_REFEREE = {J + "110", "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.8.1"}
LOSSY = tuple(J + number for number in ("50", "51", "81", "91", "203"))
KINDS = {
    "8 bit": Pixels(bits_allocated=8, bits_stored=8),
    "12 bit": Pixels(),
    "12 bit signed": Pixels(signed=True),
    "16 bit": Pixels(bits_stored=16),
    "16 bit signed": Pixels(bits_stored=16, signed=True),
    "12 bit with overlay": Pixels(overlay_bits=True),
    "10 bit": Pixels(bits_stored=10),
    "32 bit": Pixels(bits_allocated=32, bits_stored=32),
    "odd": Pixels(rows=3, columns=7, bits_allocated=8, bits_stored=8),
    "one pixel": Pixels(rows=1, columns=1),
    "RGB": Pixels(samples=3, photometric="RGB", bits_allocated=8, bits_stored=8),
    "RGB by plane": Pixels(samples=3, photometric="RGB", planar=1, bits_allocated=8, bits_stored=8),
    "RGB 16 bit": Pixels(samples=3, photometric="RGB", bits_stored=16),
    "YBR_FULL": Pixels(samples=3, photometric="YBR_FULL", bits_allocated=8, bits_stored=8),
    "YBR_FULL_422": Pixels(samples=3, photometric="YBR_FULL_422", bits_allocated=8, bits_stored=8),
    "PALETTE COLOR": Pixels(photometric="PALETTE COLOR", bits_allocated=8, bits_stored=8),
    "frames": Pixels(frames=5),
    "odd frames": Pixels(rows=3, columns=5, frames=3, bits_allocated=8, bits_stored=8),
    "bits": Pixels(rows=16, columns=16, bits_allocated=1, bits_stored=1, frames=2),
    "odd bits": Pixels(rows=3, columns=7, bits_allocated=1, bits_stored=1, frames=5),
}
# What each cannot hold; everything else it must.
_REFUSED = (
    (("32 bit",), ("57", "70", "80", "90", "110", "201", "202")),
    (("bits", "odd bits"), ("57", "70", "80", "110", "201", "202")),
    (("12 bit signed", "16 bit signed", "YBR_FULL", "YBR_FULL_422"), ("110",)),
)
REFUSED = {kind: {J + number for number in numbers} for kinds, numbers in _REFUSED for kind in kinds}


@pytest_asyncio.fixture
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TestArchive]:
    with fresh_url(request, "sqlite", tmp_path) as url:
        async with opened(url, tmp_path, strictness=Strictness.LENIENT) as archive:
            yield archive


@pytest_asyncio.fixture
async def transcoder(archive: TestArchive) -> AsyncIterator[Transcoder]:
    async with transcoding(archive) as transcoder:
        yield transcoder


async def stored(archive: TestArchive, file: bytes):  # type: ignore[no-untyped-def]
    outcome = await archive.send_one(file)
    assert outcome.kind.accepted, outcome
    return await instance_of(archive, file)


def in_syntax(kind: str, syntax: str) -> bytes | None:
    """The made image in that transfer syntax; None where that cannot hold it."""
    made = data_set(KINDS[kind])
    if syntax in NATIVE:
        return file_of(made, syntax)
    pixels = PixelDescription.of_dataset(made)
    try:
        encoded = [encode_frame(frame, pixels, syntax) for frame in frames_of(made)]
    except PixelDataUnsupported:
        return None
    made.PhotometricInterpretation = encoded[0].photometric_interpretation
    if made.SamplesPerPixel > 1:
        made.PlanarConfiguration = 0
    return file_of(compressed(made, syntax, [frame.content for frame in encoded]))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_lossless_pair_is_identical_to_the_bit(
    archive: TestArchive, transcoder: Transcoder, kind: str
) -> None:
    original = frames_of(data_set(KINDS[kind]))
    sources = 0
    for source in LOSSLESS:
        file = in_syntax(kind, source)
        assert (file is None) == (source in REFUSED.get(kind, ()))
        if file is None:
            continue
        sources += 1
        instance = await stored(archive, file)
        for target in LOSSLESS:
            if target in REFUSED.get(kind, ()):
                with pytest.raises(PixelDataUnsupported):
                    await transcoder.given(instance, target)
                continue
            given = await transcoder.given(instance, target)
            result = await content_of(given)
            made = read(result)
            assert made.file_meta.TransferSyntaxUID == target == given.transfer_syntax_uid
            assert same(frames_of(made), original), (source, target)
            assert "LossyImageCompression" not in made
        await archive.execute("DELETE FROM instance")
    assert sources > 5


@pytest.mark.parametrize("target", [target for target in LOSSLESS if target not in NO_REFEREE])
async def test_other_decoders_read_what_we_write(
    archive: TestArchive, transcoder: Transcoder, target: str
) -> None:
    for number, kind in enumerate(("8 bit", "12 bit", "16 bit signed", "RGB", "YBR_FULL", "frames")):
        made = data_set(KINDS[kind], number)
        instance = await stored(archive, file_of(made))
        result = read(await content_of(await transcoder.given(instance, target)))
        expected = pydicom.pixels.pixel_array(made, raw=True)
        assert np.array_equal(pydicom.pixels.pixel_array(result, raw=True), expected), kind


@pytest.mark.parametrize("target", LOSSY)
@pytest.mark.parametrize("kind", ["8 bit", "12 bit", "16 bit", "16 bit signed", "RGB", "YBR_FULL", "frames"])
async def test_lossy_says_so_and_is_close(
    archive: TestArchive, transcoder: Transcoder, kind: str, target: str
) -> None:
    pixels = KINDS[kind].but(rows=64, columns=64)
    instance = await stored(archive, file_of(data_set(pixels)))
    too_deep = (target == J + "50" and pixels.bits_stored > 8) or (
        target == J + "51" and pixels.bits_stored > 12
    )
    if too_deep or (pixels.signed and target in {J + "51", J + "81"}):
        with pytest.raises(PixelDataUnsupported):
            await transcoder.given(instance, target)
        return
    result = read(await content_of(await transcoder.given(instance, target)))
    assert result.LossyImageCompression == "01"
    assert result.LossyImageCompressionMethod == lossy_method(target)
    assert float(result.LossyImageCompressionRatio) > 0.5
    assert result.file_meta.TransferSyntaxUID == target
    if pixels.samples == 3:
        expected = {J + "91": "YBR_ICT", J + "203": "YBR_ICT", J + "81": "RGB"}
        assert result.PhotometricInterpretation == expected.get(target, "YBR_FULL_422")
    for before, after in zip(frames_of(data_set(pixels)), frames_of(result), strict=True):
        difference = np.abs(as_rgb(before).astype(float) - as_rgb(after).astype(float))
        assert difference.mean() < (1 << pixels.bits_stored) * 0.03


def as_rgb(frame: DecodedFrame) -> np.ndarray:
    if frame.photometric_interpretation != "YBR_FULL":
        return frame.samples
    return pydicom.pixels.convert_color_space(frame.samples, "YBR_FULL", "RGB")


@pytest.mark.parametrize("table", ["basic", "empty", "extended", "fragmented"])
@pytest.mark.parametrize("syntax", [J + "90", J + "80", J + "70", J + "201"])
async def test_frames_are_found_by_every_kind_of_offset_table(
    archive: TestArchive, transcoder: Transcoder, table: str, syntax: str
) -> None:
    made = data_set(Pixels(frames=6))
    pixels = PixelDescription.of_dataset(made)
    original = frames_of(made)
    frames = [encode_frame(frame, pixels, syntax).content for frame in original]
    instance = await stored(archive, file_of(compressed(made, syntax, frames, table=table)))
    result = read(await content_of(await transcoder.given(instance, NATIVE[1])))
    assert same(frames_of(result), original)
    assert "ExtendedOffsetTable" not in result
    again = read(await content_of(await transcoder.given(instance, J + "202")))
    assert same(frames_of(again), original)


async def test_an_object_of_many_batches_keeps_the_order_of_its_frames(
    archive: TestArchive, transcoder: Transcoder
) -> None:
    pixels = Pixels(rows=256, columns=256, frames=300, bits_stored=16)
    made = data_set(pixels)
    instance = await stored(archive, file_of(made))
    given = await transcoder.given(instance, J + "201")
    assert given.size is None
    compressed_file = await content_of(given)
    assert same(frames_of(compressed_file), frames_of(made))
    await archive.execute("DELETE FROM instance")
    again = await stored(archive, compressed_file)
    back = read(await content_of(await transcoder.given(again, NATIVE[1])))
    assert back.PixelData == made.PixelData


async def test_lossy_once_is_lossy_for_ever(archive: TestArchive, transcoder: Transcoder) -> None:
    made = data_set(KINDS["RGB"].but(rows=32, columns=32))
    pixels = PixelDescription.of_dataset(made)
    [frame] = frames_of(made)
    encoded = encode_frame(frame, pixels, J + "50")
    made.PhotometricInterpretation = encoded.photometric_interpretation
    instance = await stored(archive, file_of(compressed(made, J + "50", [encoded.content])))
    result = read(await content_of(await transcoder.given(instance, NATIVE[1])))
    assert result.LossyImageCompression == "01" and result.PhotometricInterpretation == "RGB"
    twice = read(await content_of(await transcoder.given(instance, J + "91")))
    assert twice.LossyImageCompressionMethod == "ISO_15444_1"


@pytest.mark.parametrize(
    ("source", "target"),
    [("90", "91"), ("201", "203"), ("202", "201"), ("80", "81"), ("70", "57"), ("50", "51")],
)
async def test_what_the_target_holds_as_it_is_stays_as_it_is(
    archive: TestArchive, transcoder: Transcoder, source: str, target: str
) -> None:
    made = data_set(KINDS["8 bit"])
    pixels = PixelDescription.of_dataset(made)
    frames = [encode_frame(frame, pixels, J + source).content for frame in frames_of(made)]
    instance = await stored(archive, file_of(compressed(made, J + source, frames)))
    result = read(await content_of(await transcoder.given(instance, J + target)))
    assert result.file_meta.TransferSyntaxUID == J + target
    assert pydicom.encaps.get_frame(result.PixelData, 0, number_of_frames=1).startswith(frames[0])


async def test_a_compressed_icon_becomes_a_plain_one(archive: TestArchive, transcoder: Transcoder) -> None:
    made = data_set(KINDS["RGB"])
    icon = data_set(Pixels(rows=8, columns=8, bits_allocated=8, bits_stored=8))
    plain_icon = icon.PixelData
    icon_pixels = PixelDescription.of_dataset(icon)
    [frame] = frames_of(icon)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"):
        delattr(icon, keyword)
    icon.PixelData = pydicom.encaps.encapsulate([encode_frame(frame, icon_pixels, J + "90").content])
    icon["PixelData"].VR = "OB"
    icon["PixelData"].is_undefined_length = True
    del icon.file_meta
    pixels = PixelDescription.of_dataset(made)
    encoded = encode_frame(frames_of(made)[0], pixels, J + "90")
    made.PhotometricInterpretation = encoded.photometric_interpretation
    made.IconImageSequence = [icon]
    instance = await stored(archive, file_of(compressed(made, J + "90", [encoded.content])))
    for target in (*NATIVE, J + "80", J + "201"):
        result = read(await content_of(await transcoder.given(instance, target)))
        [found] = result.IconImageSequence
        assert found.PixelData == plain_icon, target
        assert found.PhotometricInterpretation == "MONOCHROME2"


@pytest.mark.parametrize("target", [*NATIVE, J + "90"])
@pytest.mark.parametrize("source", NATIVE)
async def test_without_pixels_only_the_encoding_changes(
    archive: TestArchive, transcoder: Transcoder, source: str, target: str
) -> None:
    made = data_set(Pixels())
    del made.PixelData
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    made.EncapsulatedDocument = bytes(range(256)) * 8192
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.add_new(0x00091010, "UN", b"private ")
    instance = await stored(archive, file_of(made, source))
    result = read(await content_of(await transcoder.given(instance, target)))
    assert result.file_meta.TransferSyntaxUID == (NATIVE[1] if target == J + "90" else target)
    assert result.EncapsulatedDocument == made.EncapsulatedDocument
    assert [e.tag for e in result] == [e.tag for e in made]
    assert result.PatientName == made.PatientName


async def test_the_rest_of_the_data_set_stays(archive: TestArchive, transcoder: Transcoder) -> None:
    made = data_set(KINDS["12 bit"])
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientName = "Müller^Jürgen"
    made.add_new(0x00091001, "LO", "private")
    made.add_new(0x00090010, "LO", "ME")
    made.DataSetTrailingPadding = b"\0" * 8
    instance = await stored(archive, file_of(made))
    for target in {*NATIVE, J + "80"} - {instance.transfer_syntax_uid}:
        result = read(await content_of(await transcoder.given(instance, target)))
        assert result.PatientName == made.PatientName
        assert result[0x00091001].value in ("private", b"private ")
        for element in made:
            if element.tag.group > 8 and not element.tag.is_private and element.keyword != "PixelData":
                present = element.tag in result
                assert present != (element.keyword == "DataSetTrailingPadding")
                assert not present or result[element.tag].value == element.value
