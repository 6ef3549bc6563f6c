"""Images as a presentation state shows them (PS3.4 N, PS3.3 C.10 and C.11)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isocenter.imaging.rendering.errors import PresentationOfOthers
from isocenter.imaging.rendering.frame import render_frame
from isocenter.imaging.rendering.request import PNG, PresentationState, Rendering, Viewport
from isocenter.kit.errors import IsocenterError, Kind
from isocenter.platform.fonts import font_files
from services.archive import EXPLICIT, element
from services.rendered_files import Tag, image, lut, opened, sequence, us

_UID = "1.2.3.4"
_BOARD = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
_NAMED: Tag = (0x00081155, "UI", _UID)


def state(*more: Tag, uid: str = _UID, frames: str = "") -> PresentationState:
    reference: list[Tag] = [(0x00081155, "UI", uid)]
    if frames:
        reference.append((0x00081160, "IS", frames))
    elements: list[Tag] = [
        (0x00081115, "SQ", sequence([(0x00081140, "SQ", sequence(reference))])),
        *more,
    ]
    content = b"".join(element(tag, vr, value) for tag, vr, value in sorted(elements))
    return PresentationState("state", content, EXPLICIT)


def shown(pixels: NDArray[Any], asked: PresentationState, *more: Tag, **rendering: Any) -> NDArray[np.uint8]:
    source = image(pixels, (0x00080018, "UI", _UID), (0x00080060, "CS", "US"), *more)
    return opened(render_frame(source, Rendering(PNG, presentation=asked, **rendering)))


def voi(center: str, width: str, *more: Tag) -> Tag:
    item: list[Tag] = [(0x00281050, "DS", center), (0x00281051, "DS", width), *more]
    return (0x00283110, "SQ", sequence([*item, (0x00281056, "CS", "LINEAR_EXACT")]))


def test_a_state_that_says_nothing_changes_nothing() -> None:
    assert np.array_equal(shown(_BOARD, state()), _BOARD)


def test_window_table_and_polarity() -> None:
    assert shown(_BOARD, state(voi("100", "200")))[0, 2] == round(40 * 255 / 200)
    inverse = shown(_BOARD, state((0x20500020, "CS", "INVERSE")))
    assert np.array_equal(inverse, 255 - _BOARD)
    negative = shown(_BOARD, state((0x20500020, "CS", "IDENTITY")), (0x00280004, "CS", "MONOCHROME1"))
    assert np.array_equal(negative, _BOARD), "the state's polarity replaces the image's"
    table: Tag = (0x00283110, "SQ", sequence([(0x00283010, "SQ", sequence(lut(0, 8, range(255, -1, -1))))]))
    assert np.array_equal(shown(_BOARD, state(table)), 255 - _BOARD)


def test_its_own_rescale() -> None:
    rescaled = state((0x00281052, "DS", "-100"), (0x00281053, "DS", "2"), voi("0", "200"))
    assert shown(np.array([[0, 50, 100]], np.uint8), rescaled).tolist() == [[0, 128, 255]]


def test_a_window_is_for_the_images_that_it_names() -> None:
    others: Tag = (0x00081140, "SQ", sequence([(0x00081155, "UI", "9.9")]))
    assert np.array_equal(shown(_BOARD, state(voi("1", "1", others))), _BOARD)
    ours: Tag = (0x00081140, "SQ", sequence([_NAMED]))
    assert not np.array_equal(shown(_BOARD, state(voi("1", "1", ours))), _BOARD)


@pytest.mark.parametrize(
    "rotation,flip,wanted",
    [
        (0, "N", _BOARD),
        (90, "N", np.rot90(_BOARD, -1)),
        (180, "N", np.rot90(_BOARD, 2)),
        (270, "N", np.rot90(_BOARD, 1)),
        (0, "Y", _BOARD[:, ::-1]),
        (90, "Y", np.rot90(_BOARD[:, ::-1], -1)),
        (45, "N", _BOARD),
    ],
)
def test_turned_and_flipped(rotation: int, flip: str, wanted: NDArray[np.uint8]) -> None:
    turned = state((0x00700042, "US", us(rotation)), (0x00700041, "CS", flip))
    assert np.array_equal(shown(_BOARD, turned), wanted)


def area(left: int, top: int, right: int, bottom: int) -> Tag:
    def corner(column: int, row: int) -> bytes:
        return np.array([column, row], "<i4").tobytes()

    return (
        0x0070005A,
        "SQ",
        sequence(
            [(0x00700052, "SL", corner(left, top)), (0x00700053, "SL", corner(right, bottom))],
        ),
    )


def test_the_displayed_area() -> None:
    assert np.array_equal(shown(_BOARD, state(area(2, 1, 3, 2))), _BOARD[0:2, 1:3])
    turned = state(area(2, 2, 3, 1), (0x00700042, "US", us(90)))
    assert np.array_equal(shown(_BOARD, turned), np.rot90(_BOARD[0:2, 1:3], -1))
    assert shown(_BOARD, state(area(1, 1, 4, 3)), viewport=Viewport(40, 40)).shape == (30, 40)
    on_end = state(area(1, 1, 4, 3), (0x00700042, "US", us(90)))
    assert shown(_BOARD, on_end, viewport=Viewport(40, 40)).shape == (40, 30)
    assert np.array_equal(shown(_BOARD, state(area(-5, -5, 400, 300))), _BOARD)


def test_shutters() -> None:
    white = np.full((20, 20), 255, np.uint8)
    edges: list[Tag] = [
        (0x00181602, "IS", "5"),
        (0x00181604, "IS", "10"),
        (0x00181606, "IS", "3"),
        (0x00181608, "IS", "8"),
    ]
    cut = shown(white, state((0x00181600, "CS", "RECTANGULAR"), *edges))
    wanted = np.zeros_like(white)
    wanted[2:8, 4:10] = 255
    assert np.array_equal(cut, wanted)
    circle = state((0x00181600, "CS", "CIRCULAR"), (0x00181610, "IS", "10\\10"), (0x00181612, "IS", "5"))
    round_hole = shown(white, circle)
    assert round_hole[9, 9] == 255 and not round_hole[0, 0] and 60 < (round_hole > 0).sum() < 100
    triangle = state(
        (0x00181600, "CS", "POLYGONAL"),
        (0x00181620, "IS", "1\\1\\1\\20\\20\\1"),
        (0x00181622, "US", us(0x8000)),
    )
    cut = shown(white, triangle)
    assert cut[2, 2] == 255 and cut[18, 18] == 128
    for nonsense in ("CIRCULAR", "POLYGONAL", "RECTANGULAR", "BITMAP"):
        assert np.array_equal(shown(white, state((0x00181600, "CS", nonsense))), white)


def annotation(*objects: Tag) -> Tag:
    return (0x00700001, "SQ", sequence(objects))


def graphic(kind: str, *points: float, units: str = "PIXEL") -> Tag:
    item: list[Tag] = [
        (0x00700005, "CS", units),
        (0x00700022, "FL", np.array(points, "<f4").tobytes()),
        (0x00700023, "CS", kind),
    ]
    return (0x00700009, "SQ", sequence(item))


def test_graphics_lie_on_their_pixels_however_the_image_is_turned() -> None:
    gray = np.full((60, 80), 100, np.uint8)
    line = annotation(graphic("POLYLINE", 11, 11, 60, 11))
    drawn = shown(gray, state(line))
    assert (drawn[10, 12:58] > 200).all() and set(drawn[30].flat) == {100}
    turned = shown(gray, state(line, (0x00700042, "US", us(90))))
    expected = np.rot90(drawn, -1)
    assert np.abs(turned.astype(int) - expected).mean() < 3
    flipped = shown(gray, state(line, (0x00700041, "CS", "Y")))
    assert np.abs(flipped.astype(int) - drawn[:, ::-1]).mean() < 3
    zoomed = shown(gray, state(line, area(1, 1, 40, 30)), viewport=Viewport(80, 60))
    assert (zoomed[20:23, 30:70] > 200).any(axis=0).all()


@pytest.mark.parametrize(
    "kind,points",
    [
        ("POINT", (30, 30)),
        ("CIRCLE", (30, 30, 40, 30)),
        ("ELLIPSE", (10, 30, 50, 30, 30, 20, 30, 40)),
        ("INTERPOLATED", (5, 5, 20, 30, 50, 50)),
        ("POLYLINE", (0.1, 0.1, 0.9, 0.9)),
    ],
)
def test_every_kind_of_graphic_is_drawn(kind: str, points: tuple[float, ...]) -> None:
    gray = np.full((60, 80), 100, np.uint8)
    units = "DISPLAY" if max(points) < 1 else "PIXEL"
    drawn = shown(gray, state(annotation(graphic(kind, *points, units=units))))
    assert (drawn == 255).any() and (drawn == 100).mean() > 0.5


def test_texts_are_written() -> None:
    gray = np.full((120, 160), 100, np.uint8)
    text: list[Tag] = [
        (0x00700003, "CS", "PIXEL"),
        (0x00700006, "ST", "A mass"),
        (0x00700010, "FL", np.array([20, 60], "<f4").tobytes()),
        (0x00700011, "FL", np.array([80, 80], "<f4").tobytes()),
    ]
    drawn = shown(gray, state(annotation((0x00700008, "SQ", sequence(text)))), fonts=font_files())
    assert (drawn[60:80, 15:60] != 100).any() and set(drawn[:50].flat) == {100}


def test_overlays_are_the_states_own() -> None:
    dark = np.zeros((8, 8), np.uint8)
    of_image: list[Tag] = [
        (0x60000010, "US", us(8)),
        (0x60000011, "US", us(8)),
        (0x60003000, "OW", b"\xff" * 8),
    ]
    assert not shown(dark, state(), *of_image).any()
    assert shown(dark, state(*of_image)).all()


@pytest.mark.parametrize(
    "other",
    [
        state(uid="9.9"),
        state(frames="2\\3"),
        PresentationState("", b"", EXPLICIT),
        PresentationState("", b"junk" * 9, EXPLICIT),
    ],
)
def test_states_of_others(other: PresentationState) -> None:
    with pytest.raises(PresentationOfOthers):
        shown(_BOARD, other)


@settings(max_examples=300)
@given(data=st.data())
def test_any_byte_of_a_state_may_be_wrong(data: st.DataObject) -> None:
    rich = state(
        voi("100", "200"),
        area(1, 1, 4, 3),
        (0x00700042, "US", us(90)),
        (0x00181600, "CS", "CIRCULAR\\POLYGONAL"),
        (0x00181610, "IS", "2\\2"),
        (0x00181612, "IS", "2"),
        (0x00181620, "IS", "1\\1\\1\\4\\3\\1"),
        annotation(graphic("ELLIPSE", 1, 1, 4, 3, 1, 3, 4, 1)),
        (0x20500020, "CS", "INVERSE"),
    )
    content = bytearray(rich.data_set)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        shown(_BOARD, PresentationState("", bytes(content), EXPLICIT))
    except IsocenterError as error:
        assert error.kind in {Kind.UNSUPPORTED, Kind.INVALID}
