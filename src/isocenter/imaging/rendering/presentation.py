"""Softcopy Presentation States: how somebody wanted an image to be seen (PS3.3 A.33, C.10, C.11; PS3.4 N).

Read from the state: modality and VOI LUT, polarity, displayed area, flip and rotation, shutters, graphics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.scan_limits import ScanError
from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.errors import PresentationOfOthers
from isocenter.imaging.rendering.grayscale import Grayscale
from isocenter.imaging.rendering.lookup_tables import read_table
from isocenter.imaging.rendering.request import Viewport
from isocenter.imaging.rendering.voi import Situation, given_voi, rescale_of

_REFERENCED_SERIES_SEQUENCE = 0x00081115
_REFERENCED_IMAGE_SEQUENCE = 0x00081140
_REFERENCED_SOP_INSTANCE_UID = 0x00081155
_REFERENCED_FRAME_NUMBER = 0x00081160
_SOFTCOPY_VOI_LUT_SEQUENCE = 0x00283110
_PRESENTATION_LUT_SHAPE = 0x20500020
_DISPLAYED_AREA_SELECTION_SEQUENCE = 0x0070005A
_TOP_LEFT, _BOTTOM_RIGHT = 0x00700052, 0x00700053
_HORIZONTAL_FLIP, _ROTATION = 0x00700041, 0x00700042
_SHUTTER_SHAPE, _SHUTTER_VALUE = 0x00181600, 0x00181622
_EDGES = (0x00181602, 0x00181606, 0x00181604, 0x00181608)  # left, upper, right, lower
_CENTER, _RADIUS, _VERTICES = 0x00181610, 0x00181612, 0x00181620


@dataclass(frozen=True, slots=True)
class Presentation:
    """A state as far as it holds for one frame of one image."""

    state: Attributes
    sop_instance_uid: str
    frame: int  # from 1

    def applied(self, situation: Situation, usual: Grayscale) -> Grayscale:
        """What the image would be shown by, with what the state says instead. Its polarity replaces the
        image's own (C.11.6.1.2)."""
        modality = usual.modality
        item = self.state.item(tags.MODALITY_LUT_SEQUENCE)
        if item is not None:
            modality = read_table(item, signed=situation.pixels.signed) or modality
        elif tags.RESCALE_INTERCEPT in self.state:
            modality = rescale_of(self.state)
        voi = self._own(_SOFTCOPY_VOI_LUT_SEQUENCE)
        given = given_voi(voi, situation, modality) if voi is not None else None
        shape = self.state.word(_PRESENTATION_LUT_SHAPE)
        inverted = shape == "INVERSE" if shape else usual.inverted
        return replace(usual, modality=modality, voi=given or usual.voi, inverted=inverted)

    def viewport(self, asked: Viewport | None) -> Viewport:
        """The displayed area (C.10.4) in the size that is asked for; turned, its sides change places."""
        width, height = (asked.width, asked.height) if asked is not None else (None, None)
        if self.rotation in {90, 270}:
            width, height = height, width
        area = self._own(_DISPLAYED_AREA_SELECTION_SEQUENCE)
        corners = [*area.numbers(_TOP_LEFT)[:2], *area.numbers(_BOTTOM_RIGHT)[:2]] if area is not None else []
        if len(corners) < 4:
            return Viewport(width, height)
        # Corners are pixels, counted from 1, that belong to the area; where it is turned, in any order.
        left, right = sorted((corners[0], corners[2]))
        top, bottom = sorted((corners[1], corners[3]))
        left, top = max(left - 1, 0.0), max(top - 1, 0.0)
        return Viewport(width, height, left, top, max(right - left, 1.0), max(bottom - top, 1.0))

    @property
    def rotation(self) -> int:
        """Clockwise, after flipping: 0, 90, 180 or 270."""
        turned = self.state.integer(_ROTATION) % 360
        return turned if turned in {90, 180, 270} else 0

    @property
    def flipped(self) -> bool:
        return self.state.word(_HORIZONTAL_FLIP) == "Y"

    def turned(self, picture: Image.Image) -> Image.Image:
        """Flipped first, then rotated (C.10.6)."""
        if self.flipped:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turns = {
            90: Image.Transpose.ROTATE_270,
            180: Image.Transpose.ROTATE_180,
            270: Image.Transpose.ROTATE_90,
        }
        return picture.transpose(turns[self.rotation]) if self.rotation else picture

    def shuttered(self, picture: Image.Image) -> Image.Image:
        """The picture with what lies outside of the shutters covered (C.7.6.11)."""
        shapes = self.state.words(_SHUTTER_SHAPE)
        if not shapes:
            return picture
        mask = Image.new("1", picture.size, 1)
        for shape in shapes:
            seen = Image.new("1", picture.size, 0)
            if not self._draw_opening(ImageDraw.Draw(seen), shape):
                continue
            covered = Image.new("1", picture.size, 0)
            covered.paste(mask, mask=seen)
            mask = covered
        gray = self.state.integer(_SHUTTER_VALUE) >> 8 & 0xFF
        ground = Image.new(picture.mode, picture.size, gray if picture.mode == "L" else (gray,) * 3)
        ground.paste(picture, mask=mask)
        return ground

    def _draw_opening(self, drawing: ImageDraw.ImageDraw, shape: str) -> bool:
        """What one shutter leaves open, in white. False where it cannot be read."""
        if shape == "RECTANGULAR":
            left, top, right, bottom = (self.state.number(tag) for tag in _EDGES)
            if left is None or top is None or right is None or bottom is None or right < left or bottom < top:
                return False
            drawing.rectangle([left - 1, top - 1, right - 1, bottom - 1], fill=1)
            return True
        if shape == "CIRCULAR":
            center, radius = self.state.numbers(_CENTER), self.state.number(_RADIUS)
            if len(center) < 2 or radius is None or radius <= 0:
                return False
            row, column = center[0] - 1, center[1] - 1
            drawing.ellipse([column - radius, row - radius, column + radius, row + radius], fill=1)
            return True
        vertices = self.state.numbers(_VERTICES)
        points = [(column - 1, row - 1) for row, column in zip(vertices[::2], vertices[1::2], strict=False)]
        if shape != "POLYGONAL" or len(points) < 3:
            return False
        drawing.polygon(points, fill=1)
        return True

    def annotations(self) -> list[Attributes]:
        """The items of Graphic Annotation Sequence (C.10.5) that are for this frame."""
        return [item for item in self.state.items(0x00700001)[:_ANNOTATIONS_MAX] if self._is_for(item)]

    def _own(self, sequence: int) -> Attributes | None:
        """The item of a sequence that is for this frame; one that names no image is for all."""
        return next((item for item in self.state.items(sequence) if self._is_for(item)), None)

    def _is_for(self, item: Attributes) -> bool:
        named = item.items(_REFERENCED_IMAGE_SEQUENCE)
        return not named or any(self.names(one) for one in named)

    def names(self, reference: Attributes) -> bool:
        frames = reference.numbers(_REFERENCED_FRAME_NUMBER)
        return reference.word(_REFERENCED_SOP_INSTANCE_UID) == self.sop_instance_uid and (
            not frames or self.frame in frames
        )


_ANNOTATIONS_MAX = 1000


def read_presentation(
    data_set: bytes, transfer_syntax_uid: str, image: Attributes, frame: int
) -> Presentation:
    """``data_set``: the whole state. ``frame`` from 0. Raises PresentationOfOthers where it is for others."""
    try:
        state = Attributes.of_elements(read_dataset(data_set, transfer_syntax_uid))
    except ScanError as error:
        raise PresentationOfOthers from error
    presentation = Presentation(state, image.word(tags.SOP_INSTANCE_UID), frame + 1)
    for series in state.items(_REFERENCED_SERIES_SEQUENCE):
        if any(presentation.names(one) for one in series.items(_REFERENCED_IMAGE_SEQUENCE)):
            return presentation
    raise PresentationOfOthers
