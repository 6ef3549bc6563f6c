"""What an object says of its pixels (PS3.3 C.7.6.3, Image Pixel), and where a frame lies by that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from isocenter.dicom.element import Element
from isocenter.dicom.tags import DOUBLE_FLOAT_PIXEL_DATA, FLOAT_PIXEL_DATA
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC_INTERPRETATION = 0x00280004
PLANAR_CONFIGURATION = 0x00280006
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS_ALLOCATED = 0x00280100
BITS_STORED = 0x00280101
HIGH_BIT = 0x00280102
PIXEL_REPRESENTATION = 0x00280103

_FLOAT_TAGS = frozenset((FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA))
_BITS_ALLOCATED = frozenset((1, 8, 16, 32, 64))
_FRAMES_MAX = 1 << 24


class FrameExtent(NamedTuple):
    """Where an uncompressed frame lies in the value of Pixel Data: ``length`` bytes from ``start``; its
    first pixel is bit ``first_bit`` of the first of them (0 but for pixels of one bit)."""

    start: int
    length: int
    first_bit: int


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """The attributes by their names. ``floating``: (Double) Float Pixel Data (PS3.3 C.7.6.24, C.7.6.25)."""

    rows: int
    columns: int
    samples_per_pixel: int
    photometric_interpretation: str
    planar_configuration: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    number_of_frames: int
    transfer_syntax_uid: str
    floating: bool = False

    def __post_init__(self) -> None:
        """Raises PixelDataBroken, PixelDataUnsupported: nothing below needs to doubt a description."""
        if not (0 < self.rows < 1 << 16 and 0 < self.columns < 1 << 16):
            raise PixelDataBroken("Rows or Columns is missing or 0")
        if not 0 < self.number_of_frames <= _FRAMES_MAX:
            raise PixelDataBroken("Number of Frames makes no sense")
        if self.samples_per_pixel not in {1, 3}:
            raise PixelDataUnsupported(f"it has {self.samples_per_pixel} samples per pixel")
        if self.bits_allocated not in _BITS_ALLOCATED:
            raise PixelDataUnsupported(f"Bits Allocated is {self.bits_allocated}")
        if not 0 < self.bits_stored <= self.bits_allocated or not (
            self.bits_stored - 1 <= self.high_bit < self.bits_allocated
        ):
            raise PixelDataBroken("Bits Allocated, Bits Stored and High Bit contradict one another")

    @classmethod
    def of_elements(cls, elements: Iterable[Element], transfer_syntax_uid: str) -> PixelDescription:
        """From the elements of a data set (values little endian). Raises as the class does."""
        values = {element.tag: element.value for element in elements}

        def number(tag: int, default: int) -> int:
            value = values.get(tag)
            return int.from_bytes(value[:2], "little") if isinstance(value, bytes) and value else default

        def text(tag: int) -> str:
            value = values.get(tag)
            return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""

        return _description(number, text, transfer_syntax_uid, floating=not _FLOAT_TAGS.isdisjoint(values))

    @classmethod
    def of_dataset(cls, dataset: Dataset, transfer_syntax_uid: str = "") -> PixelDescription:
        """From pydicom's data set; its own transfer syntax unless one is named. Raises as the class does."""

        def value(tag: int) -> object:
            return dataset[tag].value if tag in dataset else None

        def number(tag: int, default: int) -> int:
            found = value(tag)
            return found if isinstance(found, int) else default

        def text(tag: int) -> str:
            found = value(tag)
            return "" if found is None else str(found)

        syntax = transfer_syntax_uid or str(dataset.file_meta.TransferSyntaxUID)
        return _description(number, text, syntax, floating=any(tag in dataset for tag in _FLOAT_TAGS))

    @property
    def signed(self) -> bool:
        return self.pixel_representation == 1

    @property
    def subsampled(self) -> bool:
        """Whether uncompressed pixels share their chrominance in pairs (PS3.3 C.7.6.3.1.2)."""
        return self.photometric_interpretation == "YBR_FULL_422" and self.samples_per_pixel == 3

    @property
    def frame_bits(self) -> int:
        """Of one uncompressed frame."""
        samples = 2 if self.subsampled else self.samples_per_pixel
        return self.rows * self.columns * samples * self.bits_allocated

    @property
    def decoded_bytes(self) -> int:
        """What one decoded frame takes in memory: pixels of one bit become bytes."""
        return self.rows * self.columns * self.samples_per_pixel * max(self.bits_allocated // 8, 1)

    def frame_extent(self, frame: int) -> FrameExtent:
        """``frame`` counts from 0."""
        first, end = frame * self.frame_bits, (frame + 1) * self.frame_bits
        return FrameExtent(first // 8, (end + 7) // 8 - first // 8, first % 8)


def _description(
    number: Callable[[int, int], int], text: Callable[[int], str], transfer_syntax_uid: str, *, floating: bool
) -> PixelDescription:
    allocated = number(BITS_ALLOCATED, 0)
    stored = allocated if floating else number(BITS_STORED, allocated)
    samples = number(SAMPLES_PER_PIXEL, 1)
    frames = text(NUMBER_OF_FRAMES).partition("\\")[0].strip()
    return PixelDescription(
        rows=number(ROWS, 0),
        columns=number(COLUMNS, 0),
        samples_per_pixel=samples,
        photometric_interpretation=text(PHOTOMETRIC_INTERPRETATION)
        or ("RGB" if samples == 3 else "MONOCHROME2"),
        planar_configuration=number(PLANAR_CONFIGURATION, 0),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=number(HIGH_BIT, stored - 1) if not floating else stored - 1,
        pixel_representation=number(PIXEL_REPRESENTATION, 0) if not floating else 0,
        number_of_frames=int(frames) if frames.isdecimal() and len(frames) < 10 else 0 if frames else 1,
        transfer_syntax_uid=transfer_syntax_uid,
        floating=floating,
    )
