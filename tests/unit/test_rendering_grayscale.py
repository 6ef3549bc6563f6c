"""Grays, against pydicom's own pipeline, and against the formulas of PS3.3 C.11 written out once more."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from isocenter.imaging.rendering.grayscale import display_table
from isocenter.imaging.rendering.request import Window, WindowFunction
from services.dicom_files import pydicom_files, shared_files
from services.rendered_files import image, lut, rendered, sequence, us

_RAMP = np.arange(4096, dtype="<u2").reshape(64, 64)


def expected(shown: NDArray[Any]) -> NDArray[np.uint8]:
    """0 to 1 as 8 bits, halves upwards."""
    return np.floor(np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)


def windowed(center: str, width: str, function: str = "") -> list[tuple[int, str, bytes | str]]:
    more: list[tuple[int, str, bytes | str]] = [(0x00281050, "DS", center), (0x00281051, "DS", width)]
    return [*more, (0x00281056, "CS", function)] if function else more


# --- against pydicom ------------------------------------------------------------------------------------


def _with_voi() -> list[Path]:
    """Grayscale files of up to 16 bits with a window or VOI LUT, in syntaxes that `rendered` reads."""
    found = []
    for path in {path.name: path for path in (*pydicom_files(), *shared_files())}.values():
        if "mr-head" in path.parts:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(path, stop_before_pixels=True)
                syntax = dataset.file_meta.TransferSyntaxUID
        except Exception:
            continue
        if (
            str(dataset.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
            and ("WindowCenter" in dataset or "VOILUTSequence" in dataset)
            and syntax.is_little_endian
            and not syntax.is_deflated
            and not any(0x60000010 + (n << 17) in dataset for n in range(16))
            and "PixelAspectRatio" not in dataset
            and dataset.get("NumberOfFrames") in (None, 1, 2)
        ):
            found.append(path)
    return sorted(found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", _with_voi(), ids=lambda path: path.stem)
def test_real_files_are_as_pydicom_shows_them(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    try:
        stored = dataset.pixel_array
    except Exception as error:
        pytest.skip(f"pydicom cannot decode it: {type(error).__name__}")
    stored = stored if stored.ndim == 2 else stored[0]
    values = apply_modality_lut(stored, dataset)
    shown = apply_voi_lut(values, dataset).astype(np.float64)
    low, high = _output_range(dataset)
    wanted = (shown - low) / (high - low)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        wanted = 1 - wanted
    wanted = expected(wanted)
    if "PixelPaddingValue" in dataset and isinstance(dataset.PixelPaddingValue, int):
        wanted[stored == dataset.PixelPaddingValue] = 0
    picture = rendered(path)
    if picture.shape != wanted.shape:
        pytest.skip("its pixels are not square")
    # A wavelet decoder's last bit may differ from pydicom's; a window makes more of it.
    exact = dataset.file_meta.TransferSyntaxUID != "1.2.840.10008.1.2.4.91"
    difference = np.abs(picture.astype(int) - wanted)
    assert difference.max() <= (0 if exact else 40), np.unravel_index(difference.argmax(), difference.shape)
    assert difference.mean() < 0.5


def _output_range(dataset: Any) -> tuple[float, float]:
    """What pydicom puts black and white at."""
    if "VOILUTSequence" in dataset:
        bits = dataset.VOILUTSequence[0].LUTDescriptor[2]
        entries = np.asarray(dataset.VOILUTSequence[0].LUTData)
        return 0, (1 << max(int(bits), int(entries.max()).bit_length())) - 1
    if "ModalityLUTSequence" in dataset:
        return 0, float((1 << dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    low, high = (
        (-(1 << (dataset.BitsStored - 1)), (1 << (dataset.BitsStored - 1)) - 1)
        if dataset.PixelRepresentation
        else (0, (1 << dataset.BitsStored) - 1)
    )
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


# --- windows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("center,width", [(2048.0, 4096.0), (100.0, 1.0), (40.5, 400.0), (-10.0, 33.0)])
def test_linear(center: float, width: float) -> None:
    x = _RAMP.astype(float)
    low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        ramp = (x - (center - 0.5)) / (width - 1) + 0.5
    wanted = np.where(x <= low, 0, np.where(x > high, 1, ramp))
    picture = rendered(image(_RAMP, *windowed(str(center), str(width)), bits_stored=12))
    assert np.array_equal(picture, expected(wanted))


def test_linear_exact_and_sigmoid() -> None:
    x = _RAMP.astype(float)
    exact = rendered(image(_RAMP, *windowed("1000", "500", "LINEAR_EXACT"), bits_stored=12))
    assert np.array_equal(exact, expected((x - 1000) / 500 + 0.5))
    sigmoid = rendered(image(_RAMP, *windowed("1000", "500", "SIGMOID"), bits_stored=12))
    assert np.array_equal(sigmoid, expected(1 / (1 + np.exp(-4 * (x - 1000) / 500))))


def test_the_request_outranks_the_object() -> None:
    source = image(
        _RAMP,
        *windowed("1", "2"),
        (0x00283010, "SQ", sequence(lut(0, 8, range(256)))),
        bits_stored=12,
    )
    window = Window(2048, 4096, WindowFunction.LINEAR_EXACT)
    assert np.array_equal(rendered(source, window=window), expected(_RAMP / 4096))


def test_of_several_windows_the_first() -> None:
    several = rendered(image(_RAMP, *windowed("1000\\5", "500\\1"), bits_stored=12))
    assert np.array_equal(several, rendered(image(_RAMP, *windowed("1000", "500"), bits_stored=12)))


@pytest.mark.parametrize("center,width", [("", "100"), ("x", "100"), ("40", "0"), ("40", "-5"), ("nan", "1")])
def test_windows_that_are_none_are_passed_over(center: str, width: str) -> None:
    picture = rendered(image(_RAMP, *windowed(center, width), bits_stored=12))
    assert picture.min() == 0 and picture.max() == 255 and 120 < picture.mean() < 135


# --- modality, tables, padding ----------------------------------------------------------------------------


def test_rescale_and_signs() -> None:
    stored = np.array([[-1024, 0], [1000, 2000]], "<i2")
    rescale = ((0x00281052, "DS", "-10"), (0x00281053, "DS", "2"))
    picture = rendered(image(stored, *rescale, *windowed("1000", "2000", "LINEAR_EXACT")))
    assert picture.tolist() == [[0, 0], [254, 255]]


def test_bits_above_the_stored_ones_do_not_count() -> None:
    """Twelve bits, the sign in the twelfth, and rubbish above."""
    clean = np.array([[-2048, -1], [0, 2047]], "<i2")
    dirty = (clean.view("<u2") & 0x0FFF | np.array([[0x3000, 0], [0xF000, 0x7000]], "<u2")).view("<i2")
    more = windowed("0", "4096", "LINEAR_EXACT")
    assert np.array_equal(
        rendered(image(dirty, *more, bits_stored=12)), rendered(image(clean, *more, bits_stored=12))
    )
    high = (clean << 4).astype("<i2")
    shifted = image(high, *more, (0x00280102, "US", us(15)), bits_stored=12)
    assert np.array_equal(rendered(shifted), rendered(image(clean, *more, bits_stored=12)))


def test_modality_table_then_voi_table() -> None:
    stored = np.array([[0, 1, 2, 3, 9]], np.uint8)
    modality = (0x00283000, "SQ", sequence(lut(1, 16, [100, 200, 300])))
    voi = (0x00283010, "SQ", sequence(lut(100, 8, range(0, 202))))
    # 100 below its first, then each, then the last; the table maps 100..301 to 0..201 of 255.
    assert rendered(image(stored, modality, voi)).tolist() == [[0, 0, 100, 200, 200]]


@pytest.mark.parametrize(
    "item",
    [
        [(0x00283002, "US", us(256, 0, 8))],
        [(0x00283006, "OW", us(*range(16)))],
        [(0x00283002, "US", us(4)), (0x00283006, "OW", us(1))],
        lut(0, 8, []),
    ],
    ids=["no data", "no descriptor", "short descriptor", "empty"],
)
def test_tables_that_are_none_are_passed_over(item: list[tuple[int, str, bytes | str]]) -> None:
    source = image(_RAMP, (0x00283010, "SQ", sequence(item)), *windowed("1000", "500"), bits_stored=12)
    assert np.array_equal(rendered(source), rendered(image(_RAMP, *windowed("1000", "500"), bits_stored=12)))


def test_lying_tables_are_used_as_far_as_they_reach() -> None:
    """4,096 entries announced, three there; and twelve bits where eight are announced."""
    item = [(0x00283002, "US", us(4096, 0, 8)), (0x00283006, "OW", us(0, 2047, 4095))]
    picture = rendered(image(np.array([[0, 1, 2, 3, 4000]], "<u2"), (0x00283010, "SQ", sequence(item))))
    assert picture.tolist() == [[0, 127, 255, 255, 255]]


def test_padding_is_black_and_not_measured() -> None:
    stored = np.full((40, 40), 500, "<i2")
    stored[:, 20:] = 600
    stored[:5] = -2000
    stored[5:10] = -1990
    padding = ((0x00280120, "SS", struct.pack("<h", -2000)), (0x00280121, "SS", struct.pack("<h", -1990)))
    picture = rendered(image(stored, *padding))
    assert set(picture[:10].flat) == {0}
    assert set(picture[10:, :20].flat) == {0} and set(picture[10:, 20:].flat) == {255}
    inverted = rendered(image(stored, *padding, photometric="MONOCHROME1"))
    assert set(inverted[:10].flat) == {0}, "black in negatives too"
    assert set(inverted[10:, :20].flat) == {255}


def test_monochrome_1_is_white_for_the_lowest() -> None:
    more = windowed("2048", "4096", "LINEAR_EXACT")
    positive = rendered(image(_RAMP, *more, bits_stored=12))
    negative = rendered(image(_RAMP, *more, bits_stored=12, photometric="MONOCHROME1"))
    assert np.abs(positive.astype(int) + negative - 255).max() <= 1


# --- no window --------------------------------------------------------------------------------------------


def test_without_a_window_few_pixels_are_cut_off() -> None:
    generator = np.random.default_rng(1)
    stored = generator.normal(1000, 100, (200, 200)).astype("<u2")
    stored[0, :50] = 60000
    picture = rendered(image(stored, (0x00080060, "CS", "MR")))
    assert 110 < np.median(picture) < 145
    assert (picture == 0).mean() < 0.02 and (picture == 255).mean() < 0.02


def test_counting_modalities_begin_at_zero() -> None:
    stored = np.linspace(1000, 2000, 10000).astype("<u2").reshape(100, 100)
    picture = rendered(image(stored, (0x00080060, "CS", "PT")))
    assert 120 < picture.min() < 135 and picture.max() == 255


def test_screens_are_shown_as_they_are() -> None:
    stored = np.arange(100, 164, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(rendered(image(stored, (0x00080060, "CS", "US"))), stored)


def test_ct_without_a_window_shows_soft_tissue() -> None:
    stored = np.array([[0, 1024, 1064, 1264, 4000]], "<u2")
    more = ((0x00080060, "CS", "CT"), (0x00281052, "DS", "-1024"), (0x00281053, "DS", "1"))
    picture = rendered(image(stored, *more))
    assert picture[0, 0] == 0 and picture[0, 2] in {127, 128} and picture[0, 4] == 255


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_an_image_of_one_value_is_no_error(value: int) -> None:
    assert rendered(image(np.full((4, 4), value, "<u2"))).shape == (4, 4)


# --- wide and floating values -------------------------------------------------------------------------------


def test_wide_integers() -> None:
    stored = np.array([[0, 1 << 30], [1 << 31, (1 << 32) - 1]], "<u4")
    picture = rendered(image(stored, *windowed("2147483648", "4294967296", "LINEAR_EXACT")))
    assert picture.tolist() == [[0, 64], [128, 255]]


def test_floating_values_and_what_is_no_number() -> None:
    stored = np.array([[0.0, 0.25], [np.nan, np.inf]], "<f4")
    source = image(stored, *windowed("0.5", "1"))
    header = source.header[:-12] + struct.pack("<HH2sHI", 0x7FE0, 0x0008, b"OF", 0, 16)
    picture = rendered(type(source)(header, source.transfer_syntax_uid, source.encoded))
    assert picture.tolist() == [[0, 64], [0, 255]]
    unknown = image(stored)
    header = unknown.header[:-12] + struct.pack("<HH2sHI", 0x7FE0, 0x0008, b"OF", 0, 16)
    assert rendered(type(source)(header, source.transfer_syntax_uid, source.encoded)).shape == (2, 2)


# --- enhanced objects -------------------------------------------------------------------------------------


def _group(tag: int, *elements: tuple[int, str, bytes | str]) -> tuple[int, str, bytes | str]:
    return (tag, "SQ", sequence(elements))


def test_each_frame_has_its_own_transformations() -> None:
    stored = np.array([[0, 50], [100, 200]], "<u2")
    shared = _group(0x00289145, (0x00281052, "DS", "0"), (0x00281053, "DS", "1"))
    per_frame = [
        [_group(0x00289132, *windowed("100", "200", "LINEAR_EXACT"))],
        [
            _group(0x00289132, *windowed("100", "200", "LINEAR_EXACT")),
            _group(0x00289145, (0x00281052, "DS", "100"), (0x00281053, "DS", "0.5")),
        ],
    ]
    more = (
        (0x00280008, "IS", "2"),
        (0x52009229, "SQ", sequence([shared])),
        (0x52009230, "SQ", sequence(*per_frame)),
    )
    first, second = (rendered(image(stored, *more, frame=frame)) for frame in (0, 1))
    assert first.tolist() == [[0, 64], [128, 255]]
    assert second.tolist() == [[128, 159], [191, 255]]


def test_a_broken_group_sequence_is_passed_over() -> None:
    more = ((0x52009230, "SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\x7f"), *windowed("1000", "500"))
    assert np.array_equal(
        rendered(image(_RAMP, *more, bits_stored=12)),
        rendered(image(_RAMP, *windowed("1000", "500"), bits_stored=12)),
    )


def test_tables_are_made_once() -> None:
    more = windowed("1234", "567")
    rendered(image(_RAMP, *more, bits_stored=12))
    before = display_table.cache_info()
    rendered(image(_RAMP + 1, *more, bits_stored=12))
    after = display_table.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
