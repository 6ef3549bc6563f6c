"""Colours, palettes, overlays, regions, profiles: against pydicom and DCMTK where they can do the same."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms
from pydicom.pixels import apply_color_lut, convert_color_space

from isocenter.imaging.rendering.errors import ViewportOutside
from isocenter.imaging.rendering.frame import PIXELS_OUT_MAX, render_frame
from isocenter.imaging.rendering.geometry import place
from isocenter.imaging.rendering.icc import profile_of
from isocenter.imaging.rendering.request import (
    GIF,
    JPEG,
    JPEG_2000,
    PNG,
    IccProfile,
    Rendering,
    Viewport,
)
from services.dcmtk import Dcmtk
from services.dicom_files import pydicom_files, shared_files
from services.rendered_files import Tag, image, opened, rendered, sequence, source_of, us

_FILES = {path.name: path for path in (*shared_files(), *pydicom_files()) if "mr-head" not in path.parts}


def real(name: str) -> Path:
    if name not in _FILES:
        pytest.skip("this machine does not have the file")
    return _FILES[name]


def colours(seed: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (17, 23, 3)).astype(np.uint8)


# --- colour spaces ----------------------------------------------------------------------------------------


def test_ybr_full_is_as_pydicom_converts_it() -> None:
    every = np.stack(
        np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3, indexing="ij"), axis=-1
    ).reshape(18, -1, 3)
    picture = rendered(image(np.ascontiguousarray(every), photometric="YBR_FULL"))
    assert np.array_equal(picture, convert_color_space(every, "YBR_FULL", "RGB"))


def test_rgb_stays_and_sixteen_bits_become_eight() -> None:
    rgb = colours()
    assert np.array_equal(rendered(image(rgb, photometric="RGB")), rgb)
    wide = rgb.astype("<u2") << 8 | 0x7F
    assert np.array_equal(rendered(image(wide, photometric="RGB")), rgb)
    twelve = rgb.astype("<u2") << 4
    assert np.array_equal(rendered(image(twelve, photometric="RGB", bits_stored=12)), rgb)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    ["OT-PAL-8-face.dcm", "gdcm-US-ALOKA-16.dcm", "examples_palette.dcm", "OBXXXX1A.dcm"],
)
def test_palettes_are_as_pydicom_applies_them(name: str) -> None:
    dataset = pydicom.dcmread(real(name), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    stored = dataset.pixel_array
    shown = apply_color_lut(stored, dataset)
    bits = max(dataset.RedPaletteColorLookupTableDescriptor[2], 1 + int(shown.max()).bit_length() - 1)
    eight = (shown >> (8 if bits > 8 and shown.max() > 255 else 0)).astype(np.uint8)
    picture = rendered(real(name))
    if picture.shape != eight.shape:
        pytest.skip("its pixels are not square")
    assert np.array_equal(picture, eight)


def palette(first: int, bits: int, *colour: list[int]) -> list[Tag]:
    tags: list[Tag] = []
    for number, entries in enumerate(colour):
        tags += [
            (0x00281101 + number, "US", us(len(entries), first, bits)),
            (0x00281201 + number, "OW", us(*entries)),
        ]
    return tags


def test_values_beyond_a_palette_take_its_ends() -> None:
    stored = np.array([[0, 5, 6, 7, 200]], np.uint8)
    more = palette(5, 16, [0x1000, 0x2000, 0x3000], [0, 0, 0xFFFF], [0xFF00, 0, 0])
    picture = rendered(image(stored, *more, photometric="PALETTE COLOR"))
    assert picture[0].tolist() == [[16, 0, 255], [16, 0, 255], [32, 0, 0], [48, 255, 0], [48, 255, 0]]


def test_words_that_all_fit_into_a_byte_are_bytes() -> None:
    """Announced as 16 bits, meant as 8: what other viewers show, too."""
    more = palette(0, 16, [0, 200], [0, 100], [0, 50])
    picture = rendered(image(np.array([[0, 1]], np.uint8), *more, photometric="PALETTE COLOR"))
    assert picture[0].tolist() == [[0, 0, 0], [200, 100, 50]]


def test_segmented_palettes() -> None:
    """A discrete, a linear and an indirect segment (PS3.3 C.7.9.2.2)."""
    # 0, 10; then in 4 steps to 50; then the first segment again, from byte 0.
    segments = us(0, 2, 0x0000, 0x0A00, 1, 4, 0x3200, 2, 1, 0, 0)
    more: list[Tag] = []
    for number in range(3):
        more += [
            (0x00281101 + number, "US", us(8, 0, 16)),
            (0x00281221 + number, "OW", segments),
        ]
    picture = rendered(image(np.arange(8, dtype=np.uint8).reshape(1, 8), *more, photometric="PALETTE COLOR"))
    assert picture[0, :, 0].tolist() == [0, 10, 20, 30, 40, 50, 0, 10]


@pytest.mark.parametrize(
    "segments",
    [us(2, 1, 0, 0), us(9, 9), us(1, 4, 5), us(0, 60000, 1), us(0, 1, 7, 2, 60000, 2, 0)],
    ids=["indirect to nothing", "unknown", "linear first", "longer than there is", "indirect to itself"],
)
def test_lying_segments_end(segments: bytes) -> None:
    more: list[Tag] = []
    for number in range(3):
        more += [(0x00281101 + number, "US", us(8, 0, 16)), (0x00281221 + number, "OW", segments)]
    source = image(np.zeros((2, 2), np.uint8), *more, photometric="PALETTE COLOR")
    try:
        rendered(source)
    except Exception as error:
        assert getattr(error, "code", "") == "pixel-data-broken", error


def test_a_supplemental_palette_colours_what_is_above_its_first() -> None:
    stored = np.array([[0, 100, 200, 201]], np.uint8)
    more = [
        *palette(200, 8, [255, 0], [0, 255], [0, 0]),
        (0x00089205, "CS", "COLOR"),
        (0x00281050, "DS", "100"),
        (0x00281051, "DS", "200"),
        (0x00281056, "CS", "LINEAR_EXACT"),
    ]
    picture = rendered(image(stored, *more))
    assert picture[0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 0, 0], [0, 255, 0]]


# --- overlays ---------------------------------------------------------------------------------------------


def overlay(plane: NDArray[np.bool_], row: int = 1, column: int = 1, group: int = 0x6000) -> list[Tag]:
    base = group << 16
    return [
        (base | 0x0010, "US", us(plane.shape[-2])),
        (base | 0x0011, "US", us(plane.shape[-1])),
        (base | 0x0040, "CS", "G"),
        (base | 0x0050, "SS", struct.pack("<hh", row, column)),
        (base | 0x0100, "US", us(1)),
        (base | 0x0102, "US", us(0)),
        (base | 0x3000, "OW", np.packbits(plane.reshape(-1), bitorder="little").tobytes()),
    ]


def test_overlays_lie_where_they_say_and_are_cut_at_the_edges() -> None:
    black = np.zeros((6, 8), np.uint8)
    square = np.ones((3, 3), bool)
    more = [*overlay(square, 2, 3), *overlay(square, 0, 7, group=0x6002)]
    picture = rendered(image(black, *more, (0x00080060, "CS", "US")))
    wanted = black.copy()
    wanted[1:4, 2:5] = 255
    wanted[0:2, 6:8] = 255
    assert np.array_equal(picture, wanted)


def test_an_overlay_in_the_pixels_own_bits() -> None:
    stored = np.arange(16, dtype="<u2").reshape(4, 4)
    plane = np.eye(4, dtype=bool)
    more: list[Tag] = [
        (0x60000010, "US", us(4)),
        (0x60000011, "US", us(4)),
        (0x60000050, "SS", us(1, 1)),
        (0x60000100, "US", us(16)),
        (0x60000102, "US", us(12)),
        (0x00281050, "DS", "8"),
        (0x00281051, "DS", "16"),
    ]
    with_overlay = rendered(image(stored | (plane.astype("<u2") << 12), *more, bits_stored=12))
    without = rendered(image(stored, *more[5:], bits_stored=12))
    assert np.array_equal(with_overlay, np.where(plane, 255, without))


def test_each_frame_has_its_own_overlay() -> None:
    planes = np.zeros((2, 2, 3), bool)
    planes[0, 0, 0] = planes[1, 1, 2] = True
    more = [
        *overlay(planes),
        (0x60000015, "IS", "2"),
        (0x60000051, "US", us(2)),
        (0x00280008, "IS", "4"),
        (0x00080060, "CS", "US"),
    ]
    frames = [rendered(image(np.zeros((2, 3), np.uint8), *more, frame=frame)) for frame in range(4)]
    assert [frame.any() for frame in frames] == [False, True, True, False]
    assert frames[1][0, 0] == frames[2][1, 2] == 255


@pytest.mark.parametrize("rows,data", [(60000, b"\xff"), (0, b"\xff"), (4, b"")])
def test_overlays_that_lie_are_passed_over(rows: int, data: bytes) -> None:
    more: list[Tag] = [
        (0x60000010, "US", us(rows)),
        (0x60000011, "US", us(60000)),
        (0x60003000, "OW", data),
        (0x00080060, "CS", "US"),
    ]
    assert not rendered(image(np.zeros((4, 4), np.uint8), *more)).any()


# --- whole pictures against DCMTK -------------------------------------------------------------------------

_ALIKE = (
    "693_UNCR.dcm",
    "CT_small.dcm",
    "MR_small.dcm",
    "MR2_UNCR.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "OT-PAL-8-face.dcm",
    "US1_UNCR.dcm",
    "examples_rgb_color.dcm",
    "examples_ybr_color.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "MR-SIEMENS-DICOM-WithOverlays.dcm",
    "vlut_04.dcm",
    "mlut_18.dcm",
    "color-pl.dcm",
    "color-px.dcm",
    "image_dfl.dcm",
)


@pytest.mark.parametrize("name", _ALIKE)
def test_pictures_are_as_dcmtk_makes_them(name: str, dcmtk: Dcmtk, tmp_path: Path) -> None:
    path = real(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if dataset.file_meta.get("TransferSyntaxUID") == "1.2.840.10008.1.2.1.99":
            pytest.skip("deflated objects come through the door alone")
    options = (
        ["+Wl", "1"] if "VOILUTSequence" in dataset else ["+Wi", "1"] if "WindowCenter" in dataset else []
    )
    if not options and str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        options = ["+Wh", "1"]  # histogram: the same idea as ours, other shares
        tolerance = 40.0
    else:
        tolerance = 2.0
    out = tmp_path / "picture.pnm"
    done = dcmtk.run("dcmj2pnm", *options, "--frame", 1, path, out)
    assert done.returncode == 0, done.stdout
    ours = rendered(path).astype(int)
    picture = Image.open(out)
    if picture.size != (ours.shape[1], ours.shape[0]):  # DCMTK leaves pixels that are not square
        picture = picture.resize((ours.shape[1], ours.shape[0]), Image.Resampling.BICUBIC)
    theirs = np.asarray(picture).astype(int)
    if theirs.ndim == 3 and ours.ndim == 2:
        ours = np.repeat(ours[:, :, np.newaxis], 3, axis=2)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() <= tolerance


# --- regions and sizes ------------------------------------------------------------------------------------

_BOARD = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
_SHOWN = (0x00080060, "CS", "US")


def test_a_region_in_its_own_size_is_cut_out() -> None:
    cut = rendered(image(_BOARD, _SHOWN), viewport=Viewport(2, 2, 1, 1, 2, 2))
    assert np.array_equal(cut, _BOARD[1:3, 1:3])


def test_negative_extents_mirror() -> None:
    mirrored = rendered(image(_BOARD, _SHOWN), viewport=Viewport(4, 3, 0, 0, -4, 3))
    assert np.array_equal(mirrored, _BOARD[:, ::-1])
    upside_down = rendered(image(_BOARD, _SHOWN), viewport=Viewport(4, 3, 0, 0, -4, -3))
    assert np.array_equal(upside_down, _BOARD[::-1, ::-1])


@pytest.mark.parametrize(
    "viewport,shape",
    [
        (Viewport(8, 8), (6, 8)),
        (Viewport(8, 3), (3, 4)),
        (Viewport(2, 2), (2, 2)),
        (Viewport(None, 6), (6, 8)),
        (Viewport(40, None), (30, 40)),
        (Viewport(4, 4, 3.5, 2.5), (4, 4)),
        (Viewport(4, 4, 2, 0, 1000, 1000), (4, 3)),
        (Viewport(10, 10, 0.5, 0.0, 0.5, 1.0, relative=True), (10, 7)),
    ],
)
def test_pictures_fit_into_the_viewport_and_keep_their_proportions(
    viewport: Viewport, shape: tuple[int, int]
) -> None:
    assert rendered(image(_BOARD, _SHOWN), viewport=viewport).shape == shape


@pytest.mark.parametrize("columns,rows", [(60000, 1), (1, 60000), (3000, 3000), (60000, 60000)])
@pytest.mark.parametrize("viewport", [Viewport(None, 8192), Viewport(8192, None), Viewport(8192, 8192), None])
def test_no_viewport_makes_a_picture_without_bounds(
    columns: int, rows: int, viewport: Viewport | None
) -> None:
    for aspect in (0.05, 1.0, 20.0):
        width, height = place(columns, rows, aspect, viewport, pixels_max=PIXELS_OUT_MAX).size
        assert max(width, height) <= 65_000
        assert width * height <= PIXELS_OUT_MAX * 1.05
        if min(width, height) > 1:
            assert abs(height - width * rows * aspect / columns) <= 1 + height / width


@pytest.mark.parametrize("left,top", [(4, 0), (0, 3), (1e12, 1e12)])
def test_regions_outside_of_the_image_are_refused(left: float, top: float) -> None:
    with pytest.raises(ViewportOutside):
        rendered(image(_BOARD, _SHOWN), viewport=Viewport(4, 4, left, top))


def test_pixels_become_square() -> None:
    tall = image(_BOARD, _SHOWN, (0x00280034, "IS", "2\\1"))
    assert rendered(tall).shape == (6, 4)
    wide = image(_BOARD, _SHOWN, (0x00280030, "DS", "0.5\\1.0"))
    assert rendered(wide).shape == (3, 8)
    for nonsense in ("0\\1", "1\\1000", "x", "5"):
        assert rendered(image(_BOARD, _SHOWN, (0x00280034, "IS", nonsense))).shape == (3, 4)


# --- files and profiles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media_type,kind", [(JPEG, "JPEG"), (PNG, "PNG"), (GIF, "GIF"), (JPEG_2000, "JPEG2000")]
)
@pytest.mark.parametrize("colour", [False, True])
def test_files_are_what_they_say(media_type: str, kind: str, colour: bool) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    source = image(np.stack([smooth] * 3, -1), photometric="RGB") if colour else image(smooth, _SHOWN)
    file = render_frame(source, Rendering(media_type, quality=95))
    assert Image.open(io.BytesIO(file)).format == kind
    assert np.abs(opened(file).astype(int).reshape(64, 64, -1)[..., 0] - smooth).mean() < 4


def test_quality_counts() -> None:
    source = image(colours(), photometric="RGB")
    sizes = [len(render_frame(source, Rendering(JPEG, quality=quality))) for quality in (5, 50, 100)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2] / 2


def embedded(icc_profile: IccProfile | None, *more: Tag, colour: bool = True) -> tuple[Any, bytes | None]:
    pixels = colours() if colour else _BOARD
    source = image(pixels, *more, photometric="RGB" if colour else "MONOCHROME2")
    made = Image.open(io.BytesIO(render_frame(source, Rendering(PNG, icc_profile=icc_profile))))
    return np.asarray(made), made.info.get("icc_profile")


def test_profiles() -> None:
    assert embedded(None)[1] is None and embedded(IccProfile.NO)[1] is None
    pixels, profile = embedded(IccProfile.SRGB)
    assert profile == profile_of(IccProfile.SRGB) and np.array_equal(pixels, colours())
    pixels, profile = embedded(IccProfile.YES)
    assert profile and np.array_equal(pixels, colours())
    gray, profile = embedded(IccProfile.YES, colour=False)
    assert profile and gray.ndim == 3 and np.ptp(gray.astype(int), axis=2).max() == 0


@pytest.mark.parametrize("named", [IccProfile.ADOBE_RGB, IccProfile.ROMM_RGB])
def test_named_profiles_are_real_ones(named: IccProfile) -> None:
    """Littlecms opens them, and back to sRGB the colours are the same ones within rounding."""
    pixels, profile = embedded(named)
    assert profile == profile_of(named) and not np.array_equal(pixels, colours())
    back = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        io.BytesIO(profile),
        io.BytesIO(profile_of(IccProfile.SRGB)),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert back is not None
    # Dark colours have few steps in a wide space.
    assert np.abs(np.asarray(back).astype(int) - colours()).mean() < 3
    white = ImageCms.profileToProfile(
        Image.new("RGB", (1, 1), "white"),
        io.BytesIO(profile_of(IccProfile.SRGB)),
        io.BytesIO(profile),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert white is not None and min(white.getpixel((0, 0))) >= 254


def test_the_objects_own_profile() -> None:
    own = profile_of(IccProfile.ADOBE_RGB)
    tag: Tag = (0x00282000, "OB", own)
    assert embedded(None, tag)[1] == own
    assert embedded(IccProfile.YES, tag)[1] == own
    assert embedded(IccProfile.NO, tag)[1] is None
    converted, profile = embedded(IccProfile.SRGB, tag)
    assert profile == profile_of(IccProfile.SRGB) and not np.array_equal(converted, colours())
    in_path: Tag = (0x00480105, "SQ", sequence([(0x00282000, "OB", own)]))
    assert embedded(None, in_path)[1] == own


@pytest.mark.parametrize(
    "junk", [b"junk", b"\0" * 200, b"\0" * 16 + b"RGB " + b"\0" * 16 + b"acsp" + b"\xff" * 200]
)
def test_a_broken_profile_is_none(junk: bytes) -> None:
    pixels, profile = embedded(IccProfile.SRGB, (0x00282000, "OB", junk))
    assert profile == profile_of(IccProfile.SRGB) and np.array_equal(pixels, colours())


def test_real_multi_frame_objects_of_one_bit() -> None:
    """Frames that do not begin at a byte."""
    path = real("liver_nonbyte_aligned.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        planes = pydicom.dcmread(path).pixel_array
    for number in (0, len(planes) // 2, len(planes) - 1):
        picture = opened(render_frame(source_of(path.read_bytes(), number), Rendering(PNG)))
        assert np.array_equal(picture, planes[number] * 255)
