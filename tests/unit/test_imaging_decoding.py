"""Every real file that an independent decoder reads is read here to the same samples."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array

from isocenter.dicom.value_representations import swap_bytes
from isocenter.imaging.decoding import DecodedFrame, decode_frame, is_native, stored_values
from isocenter.imaging.encoding import encodable, encode_frame
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported
from isocenter.imaging.pixel_description import PixelDescription
from services.dicom_files import pydicom_files, shared_files

pytestmark = pytest.mark.filterwarnings("ignore")  # broken files are what these are about

_PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
# What pydicom's plugins cannot read, or read as something else; each has a test of its own below.
NO_REFEREE = {
    "JPEG-lossy.dcm",
    "JPGExtended.dcm",
    "liver_deflate.dcm",
    "liver_nonbyte_aligned_deflate.dcm",
    "liver_nonbyte_aligned_rle.dcm",
    "liver_rle.dcm",
}
BROKEN = {"JPEG2000-embedded-sequence-delimiter.dcm", "MR_truncated.dcm", "badVR.dcm"}


def images() -> Iterator[Path]:
    seen = set()
    for path in (*pydicom_files(), *shared_files()):
        if path.name in seen or path.name in NO_REFEREE | BROKEN:
            continue
        seen.add(path.name)
        try:
            with warnings.catch_warnings(action="ignore"):
                data_set = pydicom.dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if "Rows" in data_set and "TransferSyntaxUID" in data_set.file_meta:
            yield path


def frame_of(data_set: pydicom.Dataset, pixels: PixelDescription, number: int) -> DecodedFrame:
    element = next(data_set[tag] for tag in _PIXELS if tag in data_set)
    if not is_native(pixels.transfer_syntax_uid):
        return decode_frame(
            get_frame(element.value, number, number_of_frames=pixels.number_of_frames), pixels
        )
    value: bytes = element.value
    if pixels.transfer_syntax_uid == "1.2.840.10008.1.2.2":
        width = max(pixels.bits_allocated // 8, 2 if element.VR == "OW" else 1)
        value = swap_bytes(value, {1: "OB", 2: "OW", 4: "OL", 8: "OV"}[width])
    extent = pixels.frame_extent(number)
    encoded = value[extent.start : extent.start + extent.length]
    return decode_frame(encoded, pixels, first_bit=extent.first_bit)


def named(name: str) -> pydicom.Dataset:
    path = next((path for path in (*pydicom_files(), *shared_files()) if path.name == name), None)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    return pydicom.dcmread(path)


@pytest.mark.parametrize("path", list(images()), ids=lambda path: path.name)
def test_samples_are_those_of_other_decoders(path: Path) -> None:
    data_set = pydicom.dcmread(path)
    if not any(tag in data_set for tag in _PIXELS):
        pytest.skip("no pixels")
    pixels = PixelDescription.of_dataset(data_set)
    last = pixels.number_of_frames - 1
    decoded = frame_of(data_set, pixels, last)
    referee = pixel_array(data_set, raw=decoded.photometric_interpretation != "RGB", index=last)
    assert decoded.samples.shape == referee.shape
    assert np.array_equal(stored_values(decoded.samples, pixels), stored_values_of(referee, pixels))
    if not pixels.floating:
        assert (decoded.samples.dtype.kind == "i") == pixels.signed


def stored_values_of(referee: np.ndarray, pixels: PixelDescription) -> np.ndarray:
    return stored_values(referee.astype(referee.dtype.newbyteorder("<")), pixels)


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_pixels_are_told_as_such(name: str) -> None:
    data_set = named(name)
    with pytest.raises(PixelDataBroken):
        pixels = PixelDescription.of_dataset(data_set)
        frame_of(data_set, pixels, 0)


@pytest.mark.parametrize("syntax", ["rle", "deflate"])
@pytest.mark.parametrize("aligned", ["", "_nonbyte_aligned"])
def test_pixels_of_one_bit_are_the_same_however_compressed(syntax: str, aligned: str) -> None:
    plain, compressed = named(f"liver{aligned}.dcm"), named(f"liver{aligned}_{syntax}.dcm")
    for number in range(int(plain.NumberOfFrames)):
        expected = frame_of(plain, PixelDescription.of_dataset(plain), number).samples
        found = frame_of(compressed, PixelDescription.of_dataset(compressed), number).samples
        assert expected.any() and np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_twelve_bits_of_lossy_jpeg(name: str) -> None:
    data_set = named(name)
    samples = frame_of(data_set, PixelDescription.of_dataset(data_set), 0).samples
    assert samples.dtype == np.uint16 and 255 < samples.max() < 4096


def test_video_is_told_as_unsupported() -> None:
    data_set = named("693_J2KR.dcm")
    pixels = PixelDescription.of_dataset(data_set, "1.2.840.10008.1.2.4.102")
    with pytest.raises(PixelDataUnsupported):
        decode_frame(b"\0" * 100, pixels)


@pytest.mark.parametrize("path", list(images())[::3], ids=lambda path: path.name)
def test_a_damaged_frame_ends_in_samples_or_a_typed_error(path: Path) -> None:
    """Not in any other exception. (What crashes is the workers' business.)"""
    data_set = pydicom.dcmread(path)
    element = next((data_set[tag] for tag in _PIXELS if tag in data_set), None)
    if element is None:
        pytest.skip("no pixels")
    pixels = PixelDescription.of_dataset(data_set)
    if is_native(pixels.transfer_syntax_uid):
        pytest.skip("no decoder")
    whole = get_frame(element.value, 0, number_of_frames=pixels.number_of_frames)
    for encoded in (b"", whole[:1], whole[:20], whole[: len(whole) // 2], whole[::-1]):
        try:
            decode_frame(encoded, pixels)
        except (PixelDataBroken, PixelDataUnsupported):
            continue


@pytest.mark.parametrize("syntax", [syntax for syntax in encodable() if not is_native(syntax)])
def test_a_frame_that_ends_early_is_not_made_up(syntax: str) -> None:
    bits = 8 if syntax.endswith(".50") else 12
    pixels = PixelDescription(
        64, 64, 1, "MONOCHROME2", 0, 8 if bits == 8 else 16, bits, bits - 1, 0, 1, syntax
    )
    samples = np.random.default_rng(1).integers(0, 1 << bits, (64, 64)).astype("u1" if bits == 8 else "u2")
    whole = encode_frame(DecodedFrame(samples, "MONOCHROME2"), pixels, syntax).content
    decode_frame(whole, pixels)
    for length in (len(whole) - 20, len(whole) // 2, len(whole) // 10):
        with pytest.raises(PixelDataBroken):
            decode_frame(whole[:length], pixels)
