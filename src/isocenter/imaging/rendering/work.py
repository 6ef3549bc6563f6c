"""What a worker process is asked for. Named here without loading what does it, which only the workers
need."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.imaging.rendering.request import FrameSource, Rendering

PRELOADED = "isocenter.imaging.rendering.frame"
"""For workers to import before their first call."""


def render(source: FrameSource, rendering: Rendering) -> bytes:
    """The picture's file. Raises PixelDataBroken, PixelDataUnsupported, ViewportOutside."""
    from isocenter.imaging.rendering.frame import render_frame

    return render_frame(source, rendering)


def render_samples(
    sources: Sequence[FrameSource], rendering: Rendering
) -> tuple[int, int, bytes, tuple[bytes, ...]]:
    """The fields of `film.Samples`. Raises as `render`."""
    from isocenter.imaging.rendering import film

    return film.render_samples(sources, rendering)


def render_document(data_set: bytes, transfer_syntax_uid: str, media_type: str) -> bytes:
    """A structured report as text. Raises NoContentTree."""
    from isocenter.imaging.rendering import documents

    return documents.render_document(data_set, transfer_syntax_uid, media_type)


def draw_icon(kind: str, media_type: str, width: int, height: int) -> bytes:
    """A picture that stands for an object without one; ``kind`` of `icons.Kind`."""
    from isocenter.imaging.rendering import icons

    return icons.icon(icons.Kind(kind), media_type, width, height)
