"""Which form wins when a client accepts several (PS3.18 §8.7)."""

from __future__ import annotations

import pytest

from isocenter.doors.dicomweb.frames import frame_numbers
from isocenter.doors.dicomweb.media_types import parse_accept
from isocenter.doors.dicomweb.representations import Wish, choose, default_syntax, frame_wishes, object_wishes
from isocenter.kit.errors import InvalidInput

J2K, JLS, LITTLE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1"
M = 'multipart/related; type="application/dicom"'


def chosen(accept: str, stored: str, possible: set[str]) -> tuple[str, str] | None:
    def fulfil(wish: Wish, one: str) -> str | None:
        if wish.media_type != "application/dicom":
            return None
        syntax = stored if wish.syntax == "*" else wish.syntax or LITTLE
        return syntax if syntax in possible | {one} else None

    found = choose(object_wishes(parse_accept(accept)), [stored], fulfil, lambda one: one)
    return None if found is None else (found.container, found.forms[0][1])


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", ("multipart/related", LITTLE)),
        (f"{M}; transfer-syntax=*", ("multipart/related", J2K)),
        (f"{M}; transfer-syntax={JLS}", ("multipart/related", JLS)),
        (f"{M}; transfer-syntax={JLS}, {M}; transfer-syntax={J2K}", ("multipart/related", J2K)),
        (f"{M}; transfer-syntax={JLS}, {M}; transfer-syntax={J2K}; q=0.9", ("multipart/related", JLS)),
        (f"{M}; transfer-syntax=1.2.3; q=1, {M}; transfer-syntax={JLS}; q=0.1", ("multipart/related", JLS)),
        (f"{M}; transfer-syntax=1.2.3", None),
        (f"{M}; transfer-syntax={JLS}; q=0", None),
        (f"application/dicom; transfer-syntax={JLS}", ("application/dicom", JLS)),
        ("application/dicom, */*; q=0.1", ("application/dicom", LITTLE)),
        ("multipart/related", ("multipart/related", LITTLE)),
        ("MULTIPART/RELATED; TYPE=Application/DICOM; Transfer-Syntax=*", ("multipart/related", J2K)),
        ("image/png", None),
        ("", None),
    ],
)
def test_the_best_that_is_possible(accept: str, expected: tuple[str, str] | None) -> None:
    assert chosen(accept, J2K, {JLS, LITTLE}) == expected


def test_frames_have_names_of_their_own() -> None:
    wishes = frame_wishes(
        parse_accept('image/jls, multipart/related; type="image/jp2"; transfer-syntax=*, */*; q=0.1')
    )
    assert [(wish.container, wish.media_type, wish.syntax) for wish in wishes] == [
        ("image/jls", "image/jls", ""),
        ("multipart/related", "image/jp2", "*"),
        ("multipart/related", "application/octet-stream", ""),
    ]
    assert default_syntax("image/jpeg", LITTLE) == "1.2.840.10008.1.2.4.70"
    assert default_syntax("image/jpeg", "1.2.840.10008.1.2.4.50") == "1.2.840.10008.1.2.4.50"
    assert default_syntax("application/octet-stream", J2K) == LITTLE


@pytest.mark.parametrize(
    ("text", "numbers"), [("1", [1]), ("3,1", [3, 1]), ("1-3,7", [1, 2, 3, 7]), ("5-5", [5])]
)
def test_lists_of_frames(text: str, numbers: list[int]) -> None:
    assert frame_numbers(text) == numbers


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "1,",
        ",1",
        "a",
        "1.5",
        "3-1",
        "1-",
        "1--2",
        "1-1000000",
        "1-99999,1-99999",
        "9" * 30,
        "\u0661",
    ],
)
def test_what_is_no_list_of_frames(text: str) -> None:
    with pytest.raises(InvalidInput):
        frame_numbers(text)
