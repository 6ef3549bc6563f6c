"""Frames as a film: AV1 video in an MP4 file (ISO/IEC 14496-12, AV1 Codec ISO Media File Format Binding).

AV1 is free of licences, and so is its encoder (libaom, in Pillow's AVIF). An AVIF image sequence holds just
the samples that a film needs; this takes them out and puts them behind one index.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from io import BytesIO

from PIL import Image

from isocenter.imaging.rendering.frame import picture_of
from isocenter.imaging.rendering.request import FrameSource, Rendering
from isocenter.kit.errors import InternalError

_SPEED = 9
_QUALITY_DEFAULT = 75
_CONTAINERS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))


def render_samples(
    sources: Sequence[FrameSource], rendering: Rendering
) -> tuple[int, int, bytes, tuple[bytes, ...]]:
    """The fields of `Samples` for these frames, two at least. Raises as `render_frame` does."""
    images = _even_modes([picture_of(source, rendering)[0] for source in sources])
    out = BytesIO()
    images[0].save(
        out,
        "AVIF",
        save_all=True,
        append_images=images[1:],
        quality=rendering.quality or _QUALITY_DEFAULT,
        speed=_SPEED,
        subsampling="4:2:0",
        max_threads=1,
        icc_profile=None,
    )
    width, height = images[0].size
    configuration, frames = _taken_apart(out.getvalue(), len(images))
    return width, height, configuration, frames


def _even_modes(images: list[Image.Image]) -> list[Image.Image]:
    """All in RGB: the sequence must not change between gray and colours within a film."""
    return [image if image.mode == "RGB" else image.convert("RGB") for image in images]


def _taken_apart(content: bytes, count: int) -> tuple[bytes, tuple[bytes, ...]]:
    """The codec's configuration and the samples of an AVIF sequence."""
    boxes = {kind: (start, end) for kind, start, end in _boxes(content, 0, len(content))}
    try:
        stsd_start, stsd_end = boxes[b"stsd"]
        at = content.index(b"av1C", stsd_start, stsd_end) - 4
        configuration = content[at : at + int.from_bytes(content[at : at + 4])]
        sizes_start, _ = boxes[b"stsz"]
        same, number = struct.unpack_from(">II", content, sizes_start + 4)
        sizes = [same] * number if same else struct.unpack_from(f">{number}I", content, sizes_start + 12)
        chunks_start, _ = boxes[b"stco"]
        chunks, position = struct.unpack_from(">II", content, chunks_start + 4)
    except (KeyError, ValueError, struct.error) as error:
        raise InternalError("The encoder's file is not built as expected.") from error
    if number != count or chunks != 1:
        raise InternalError("The encoder's file has another number of frames than expected.")
    frames = []
    for size in sizes:
        frames.append(content[position : position + size])
        position += size
    return configuration, tuple(frames)


def _boxes(content: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning and end of each box's content, containers opened."""
    while position + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, position)
        after = position + size if size else end
        if size and size < 8:
            return
        if kind in _CONTAINERS:
            yield from _boxes(content, position + 8, after)
        else:
            yield kind, position + 8, after
        position = after
