"""One frame, from its bytes to a picture's file: what a worker process is asked for.

The steps are those of PS3.4 N.2 and PS3.18 §8.3.5: decode, modality LUT, VOI LUT, colours, overlays, the
region and its size, profile, annotation, file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isocenter.imaging.decoding import DecodedFrame, decode_frame
from isocenter.imaging.errors import PixelDataBroken
from isocenter.imaging.rendering.annotation import annotate
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.color import is_supplemental, paint, paint_above, palette_of, rgb_of
from isocenter.imaging.rendering.described import Described, describe
from isocenter.imaging.rendering.geometry import aspect_of, place, placed
from isocenter.imaging.rendering.graphics import draw_graphics
from isocenter.imaging.rendering.groups import FrameGroups
from isocenter.imaging.rendering.icc import profiled, source_profile
from isocenter.imaging.rendering.overlays import draw_overlays
from isocenter.imaging.rendering.pictures import encoded
from isocenter.imaging.rendering.presentation import Presentation, read_presentation
from isocenter.imaging.rendering.request import FrameSource, Rendering, Window
from isocenter.imaging.rendering.voi import Situation, grayscale_of

Image.MAX_IMAGE_PIXELS = None  # pictures are made here, never opened

PIXELS_OUT_MAX = 1 << 26
"""Of one rendered picture."""
PIXELS_IN_MAX = 1 << 30
"""Of one stored frame: what a whole slide image without tiles may have."""


def render_frame(source: FrameSource, rendering: Rendering) -> bytes:
    """The picture's file.

    Raises PixelDataBroken, PixelDataUnsupported, ViewportOutside, PresentationOfOthers, MemoryError.
    """
    image, icc = picture_of(source, rendering)
    return encoded(image, rendering.media_type, quality=rendering.quality, icc=icc)


def picture_of(source: FrameSource, rendering: Rendering) -> tuple[Image.Image, bytes | None]:
    """The picture (mode L or RGB) and the profile to embed. Raises as `render_frame` does."""
    described = describe(source.header, source.transfer_syntax_uid)
    attributes, pixels = described.attributes, described.pixels
    groups = FrameGroups(attributes, source.frame)
    state = _presentation(rendering, attributes, source.frame)
    # Where it lies is settled first: a region outside of the image need not be decoded to be refused.
    placement = place(
        pixels.columns,
        pixels.rows,
        aspect_of(attributes, groups),
        state.viewport(rendering.viewport) if state is not None else rendering.viewport,
        pixels_max=PIXELS_OUT_MAX,
    )
    decoded = _decoded(source, described)
    shown = _shown(decoded, Situation(pixels, attributes, groups), rendering.window, state)
    if state is None:
        shown = draw_overlays(shown, decoded.samples, attributes, source.frame)
        image = placed(Image.fromarray(shown), placement)
    else:
        # Of overlays, only what the state itself says is seen (PS3.3 C.11.7).
        shown = draw_overlays(shown, decoded.samples, state.state, source.frame)
        image = state.turned(placed(state.shuttered(Image.fromarray(shown)), placement))
    source_icc = source_profile(attributes) if image.mode == "RGB" else None
    image, icc = profiled(image, source_icc, rendering.icc_profile)
    if state is not None:
        image = draw_graphics(image, state, placement, rendering.fonts)
    if rendering.annotations:
        image = annotate(image, attributes, rendering.annotations, rendering.fonts)
    return image, icc


def _presentation(rendering: Rendering, attributes: Attributes, frame: int) -> Presentation | None:
    asked = rendering.presentation
    if asked is None:
        return None
    return read_presentation(asked.data_set, asked.transfer_syntax_uid, attributes, frame)


def _decoded(source: FrameSource, described: Described) -> DecodedFrame:
    pixels = described.pixels
    if pixels.rows * pixels.columns > PIXELS_IN_MAX:
        raise PixelDataBroken("a frame of that size is more than this server decodes")
    return decode_frame(source.encoded, pixels, first_bit=source.first_bit)


def _shown(
    decoded: DecodedFrame, situation: Situation, window: Window | None, state: Presentation | None
) -> NDArray[np.uint8]:
    samples, pixels, attributes = decoded.samples, situation.pixels, situation.attributes
    if samples.ndim == 3:
        return rgb_of(samples, decoded.photometric_interpretation, pixels)
    if decoded.photometric_interpretation == "PALETTE COLOR":
        palette = palette_of(attributes, pixels)
        if palette is None:
            raise PixelDataBroken("its colour palette is missing or cannot be read")
        return paint(samples, palette, pixels)
    gray = _gray(samples, situation, window, state)
    if is_supplemental(attributes) and (palette := palette_of(attributes, pixels)) is not None:
        return paint_above(samples, palette, pixels, gray)
    return gray


def _gray(
    samples: NDArray[Any], situation: Situation, window: Window | None, state: Presentation | None
) -> NDArray[np.uint8]:
    grayscale = grayscale_of(situation, samples, window)
    if state is not None:
        grayscale = state.applied(situation, grayscale)
    return grayscale.shown(samples, situation.pixels)
