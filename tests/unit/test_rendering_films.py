"""Several frames in one file: animated GIF, AV1 in MP4."""

from __future__ import annotations

import io
import struct
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from PIL import Image

from isocenter.imaging.rendering.animation import animated
from isocenter.imaging.rendering.described import describe
from isocenter.imaging.rendering.film import render_samples
from isocenter.imaging.rendering.frame import render_frame
from isocenter.imaging.rendering.mp4 import Samples, muxed
from isocenter.imaging.rendering.request import GIF, FrameSource, Rendering, Viewport
from isocenter.imaging.rendering.timing import frame_time_ms, representative_frame
from services.archive import EXPLICIT
from services.rendered_files import Tag, image

_SHOWN: Tag = (0x00080060, "CS", "US")


def frames(count: int, *, colour: bool = False) -> list[FrameSource]:
    """A bright bar that moves to the right."""
    made = []
    for number in range(count):
        pixels = np.full((48, 64), 30, np.uint8)
        pixels[:, 4 * number : 4 * number + 8] = 220
        if colour:
            made.append(image(np.stack([pixels, pixels // 2, pixels], -1), photometric="RGB"))
        else:
            made.append(image(pixels, _SHOWN))
    return made


async def animation(sources: list[FrameSource], time_ms: float) -> Image.Image:
    async def files() -> AsyncIterator[bytes]:
        for source in sources:
            yield render_frame(source, Rendering(GIF))

    content = b"".join([piece async for piece in animated(files(), time_ms)])
    picture = Image.open(io.BytesIO(content))
    assert isinstance(picture, Image.Image)
    return picture


@pytest.mark.parametrize("colour", [False, True])
async def test_an_animation_is_its_frames(colour: bool) -> None:
    sources = frames(6, colour=colour)
    made = await animation(sources, 120)
    assert getattr(made, "n_frames", 1) == 6 and made.info["duration"] == 120 and made.info["loop"] == 0
    for number, source in enumerate(sources):
        made.seek(number)
        alone = Image.open(io.BytesIO(render_frame(source, Rendering(GIF)))).convert("RGB")
        assert np.array_equal(np.asarray(made.convert("RGB")), np.asarray(alone))


async def test_an_animation_of_frames_with_tables_of_many_sizes() -> None:
    """Each frame brings its own colours: two, then all of them."""
    flat = image(np.full((9, 9), 7, np.uint8), _SHOWN)
    rich = image(np.arange(81, dtype=np.uint8).reshape(9, 9) * 3, _SHOWN)
    made = await animation([flat, rich, flat], 40)
    shown = []
    for number in range(3):
        made.seek(number)
        shown.append(np.asarray(made.convert("L")))
    assert np.array_equal(shown[0], shown[2]) and len(np.unique(shown[1])) == 81


def boxes(content: bytes, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    while start < end:
        size, kind = struct.unpack_from(">I4s", content, start)
        assert 8 <= size <= end - start, kind
        yield kind.decode(), start + 8, start + size
        if kind in {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf"}:
            yield from boxes(content, start + 8, start + size)
        start += size


def test_a_film_is_well_formed() -> None:
    sources = frames(7)
    parts = [
        Samples(*render_samples(group, Rendering(viewport=Viewport(63, 63))))
        for group in (sources[:4], sources[4:])
    ]
    content = muxed(parts, 50)
    found = {kind: (start, end) for kind, start, end in boxes(content, 0, len(content))}
    assert [kind for kind, _, _ in boxes(content, 0, len(content)) if kind in {"ftyp", "moov", "mdat"}] == [
        "ftyp",
        "moov",
        "mdat",
    ]
    (first,) = struct.unpack_from(">I", content, found["stco"][0] + 8)
    assert first == found["mdat"][0], "the samples are where the index says"
    same, count = struct.unpack_from(">II", content, found["stsz"][0] + 4)
    sizes = struct.unpack_from(f">{count}I", content, found["stsz"][0] + 12)
    assert (same, count, sum(sizes)) == (0, 7, found["mdat"][1] - found["mdat"][0])
    assert struct.unpack_from(">II", content, found["stts"][0] + 8) == (7, 50)
    keys = struct.unpack_from(">2I", content, found["stss"][0] + 8)
    assert keys == (1, 5), "each group begins with a frame that needs none before it"
    assert parts[0].configuration == parts[1].configuration
    assert content.count(b"av1C") == 1 and (parts[0].width, parts[0].height) == (63, 47)


def test_the_samples_are_the_frames() -> None:
    """Called an AVIF sequence, which differs in its brands and one word only, Pillow plays the film."""
    sources = frames(8, colour=True)
    parts = [Samples(*render_samples(group, Rendering(quality=95))) for group in (sources[:3], sources[3:])]
    content = muxed(parts, 100)
    as_avif = (
        content.replace(b"ftypisom", b"ftypavis").replace(b"isomav01", b"avismif1").replace(b"vide", b"pict")
    )
    made = Image.open(io.BytesIO(as_avif))
    assert getattr(made, "n_frames", 1) == 8
    for number, source in enumerate(sources):
        made.seek(number)
        wanted = np.frombuffer(source.encoded, np.uint8).reshape(48, 64, 3)
        assert np.abs(np.asarray(made.convert("RGB")).astype(int) - wanted).mean() < 6, number


def timed(*more: Tag) -> float:
    return frame_time_ms(describe(image(np.zeros((2, 2), np.uint8), *more).header, EXPLICIT).attributes)


def test_how_long_a_frame_is_shown() -> None:
    assert timed() == 100
    assert timed((0x00181063, "DS", "33.5")) == 33.5
    assert timed((0x00181063, "DS", "33.5"), (0x00082144, "IS", "50")) == 20
    assert timed((0x00180040, "IS", "25")) == 40
    assert timed((0x00181065, "DS", "0\\30\\50")) == 40
    assert timed((0x00181063, "DS", "0"), (0x00180040, "IS", "-3")) == 100
    assert timed((0x00181063, "DS", "1e300")) == 10_000 and timed((0x00082144, "IS", "99999999")) == 4


def test_which_frame_stands_for_all() -> None:
    def of(frames: int, *more: Tag) -> int:
        header = image(np.zeros((2, 2), np.uint8), *more).header
        return representative_frame(describe(header, EXPLICIT).attributes, frames)

    assert (of(1), of(2), of(9)) == (0, 1, 4)
    named: Tag = (0x00286010, "US", struct.pack("<H", 3))
    assert of(9, named) == 2 and of(2, named) == 1
