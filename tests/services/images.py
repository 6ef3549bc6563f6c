"""Images made for the tests: every kind of pixel that the standard knows, uncompressed or not."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.dicom.part10 import encode_file_meta
from isocenter.dicom.value_representations import swap_bytes

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MULTI_FRAME_GRAY = "1.2.840.10008.5.1.4.1.1.7.2"


@dataclass(frozen=True)
class Pixels:
    """What a made image is like. Values are noise over a ramp, so that nothing compresses to a constant."""

    rows: int = 24
    columns: int = 20
    bits_allocated: int = 16
    bits_stored: int = 12
    signed: bool = False
    samples: int = 1
    photometric: str = "MONOCHROME2"
    planar: int = 0
    frames: int = 1
    overlay_bits: bool = False
    """Whether bits above Bits Stored are in use."""

    def but(self, **changes: Any) -> Pixels:
        return replace(self, **changes)

    def words(self) -> np.ndarray:
        """(frames, …) as they lie in Pixel Data."""
        rng = np.random.default_rng(self.rows * self.columns + self.bits_stored)
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        bits = self.bits_allocated if self.overlay_bits else self.bits_stored
        low, high = (-(1 << bits - 1), 1 << bits - 1) if self.signed else (0, 1 << bits)
        count = self.rows * self.columns * samples
        ramp = np.linspace(low, high - 1, count)
        values = [
            np.clip(ramp + rng.normal(0, (high - low) / 64, count), low, high - 1).astype(np.int64)
            for _ in range(self.frames)
        ]
        kind = "i" if self.signed else "u"
        return np.array(values).astype(f"<{kind}{max(self.bits_allocated // 8, 1)}")

    def pixel_data(self) -> bytes:
        words = self.words()
        if self.bits_allocated == 1:
            content = np.packbits(words.reshape(-1).astype(np.uint8), bitorder="little").tobytes()
        else:
            content = words.tobytes()
        return content + b"\0" * (len(content) % 2)


def data_set(pixels: Pixels, number: int = 1) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = SECONDARY_CAPTURE if pixels.frames == 1 else MULTI_FRAME_GRAY
    made.SOPInstanceUID = f"1.2.3.4.7.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.4.5", "1.2.3.4.6"
    made.PatientID, made.PatientName, made.Modality = "IMG", "Made^Image", "OT"
    made.StudyDate, made.InstanceNumber = "20260101", str(number)
    made.SamplesPerPixel, made.PhotometricInterpretation = pixels.samples, pixels.photometric
    if pixels.samples > 1:
        made.PlanarConfiguration = pixels.planar
    if pixels.frames > 1:
        made.NumberOfFrames = str(pixels.frames)
    made.Rows, made.Columns = pixels.rows, pixels.columns
    made.BitsAllocated, made.BitsStored = pixels.bits_allocated, pixels.bits_stored
    made.HighBit, made.PixelRepresentation = pixels.bits_stored - 1, int(pixels.signed)
    if pixels.photometric == "PALETTE COLOR":
        for colour in ("Red", "Green", "Blue"):
            setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(made, f"{colour}PaletteColorLookupTableData", bytes(range(256)) * 2)
    made.PixelData = pixels.pixel_data()
    made["PixelData"].VR = "OW" if pixels.bits_allocated > 8 else "OB"
    return made


def file_of(made: Dataset, syntax: str = "") -> bytes:
    """As a DICOM file; ``syntax`` re-encodes an uncompressed data set."""
    buffer = io.BytesIO()
    if syntax:
        made.file_meta.TransferSyntaxUID = syntax
    if syntax == "1.2.840.10008.1.2.2" and "PixelData" in made and made.BitsAllocated > 8:
        made = copy.deepcopy(made)  # pydicom writes such values as they are
        made.PixelData = swap_bytes(made.PixelData, {16: "OW", 32: "OL"}[made.BitsAllocated])
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    wanted = made.file_meta.TransferSyntaxUID
    known = wanted.is_transfer_syntax
    if not known:  # newer than pydicom: written as another one that differs in the pixels only
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    made.save_as(buffer, enforce_file_format=True)
    made.file_meta.TransferSyntaxUID = wanted
    content = buffer.getvalue()
    if known:
        return content
    data_set_start = 144 + int.from_bytes(content[140:144], "little")
    header = encode_file_meta(
        sop_class_uid=made.SOPClassUID, sop_instance_uid=made.SOPInstanceUID, transfer_syntax_uid=wanted
    )
    return header + content[data_set_start:]


def compressed(made: Dataset, syntax: str, frames: list[bytes], *, table: str = "basic") -> Dataset:
    """The data set with these frames for its pixels: offset ``table`` "basic", "empty", "extended"; or
    "fragmented": each frame in fragments of some bytes, and no table."""
    made.file_meta.TransferSyntaxUID = syntax
    match table:
        case "extended":
            made.PixelData, made.ExtendedOffsetTable, made.ExtendedOffsetTableLengths = encapsulate_extended(
                frames
            )
        case "fragmented":
            made.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=False)
        case _:
            made.PixelData = encapsulate(frames, has_bot=table == "basic")
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made
