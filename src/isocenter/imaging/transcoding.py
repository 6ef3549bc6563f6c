"""From one transfer syntax to another: what is possible, the frames, the attributes that change with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.tags import EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS, PIXEL_DATA
from isocenter.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    lookup,
)
from isocenter.imaging.decoding import can_decode, decode_frame, is_native
from isocenter.imaging.encoding import can_encode, encode_frame, lossy_method
from isocenter.imaging.errors import PixelDataBroken
from isocenter.imaging.pixel_description import (
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    PixelDescription,
)

LOSSY_IMAGE_COMPRESSION = 0x00282110
LOSSY_IMAGE_COMPRESSION_RATIO = 0x00282112
LOSSY_IMAGE_COMPRESSION_METHOD = 0x00282114

EncodedFrames = list[tuple[bytes, int]]
"""Frames as `decode_frame` takes them: their bytes, and the bit that they begin with."""

# Codestreams that the second transfer syntax holds too, as they are: the first is a special case of it.
_SPECIAL_CASES = frozenset(
    (f"1.2.840.10008.1.2.4.{special}", f"1.2.840.10008.1.2.4.{general}")
    for special, general in (
        (50, 51),
        (70, 57),
        (80, 81),
        (90, 91),
        (201, 203),
        (202, 201),
        (202, 203),
    )
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What happened to pixels: ``photometric_interpretation`` is what they are now; ``ratio`` is how much
    smaller a lossy process made them, ``method`` which it was (empty: none)."""

    transfer_syntax_uid: str
    photometric_interpretation: str
    method: str = ""
    ratio: float = 1.0


def can_transcode(source: str, target: str) -> bool:
    """Whether pixels of one transfer syntax can, as a rule, be given in another. Some objects cannot: JPEG
    Baseline holds 8 bits."""
    return source == target or keeps_frames(source, target) or (can_decode(source) and can_encode(target))


def keeps_frames(source: str, target: str) -> bool:
    """Whether the frames' bytes stay what they are, and only the data set around them changes. (Between
    byte orders the words of native pixels are swapped by who moves them.)"""
    native = is_native(source) and is_native(target) and can_encode(target)
    return native or source == target or (source, target) in _SPECIAL_CASES


def transcode_frames(
    frames: EncodedFrames, pixels: PixelDescription, target: str, verify: bool = False
) -> tuple[str, list[bytes]]:
    """Photometric Interpretation and bytes of the same frames in transfer syntax ``target``; uncompressed
    ones in little endian, colour by pixel, pixels of one bit packed for each frame.

    With ``verify`` each frame is decoded again and compared to the bit. To be run in a worker process.
    Raises PixelDataBroken, PixelDataUnsupported, MemoryError.
    """
    photometric = pixels.photometric_interpretation
    encoded_frames = []
    for encoded, first_bit in frames:
        decoded = decode_frame(encoded, pixels, first_bit=first_bit)
        content, photometric = encode_frame(decoded, pixels, target)
        if verify:
            again = replace(
                pixels,
                transfer_syntax_uid=target,
                photometric_interpretation=photometric,
                planar_configuration=0,
            )
            found = decode_frame(content, again)
            if (
                found.photometric_interpretation != decoded.photometric_interpretation
                or found.samples.dtype != decoded.samples.dtype
                or not np.array_equal(found.samples, decoded.samples)
            ):
                raise PixelDataBroken("it does not come back as it was after it was compressed")
        encoded_frames.append(content)
    return photometric, encoded_frames


def conversion(
    pixels: PixelDescription, target: str, photometric: str, encoded_bytes: int, frames: int
) -> Conversion:
    """How the object is told of it, by what became of its first ``frames`` frames."""
    method = "" if keeps_frames(pixels.transfer_syntax_uid, target) else lossy_method(target)
    original_bytes = pixels.decoded_bytes * frames
    return Conversion(target, photometric, method, original_bytes / max(encoded_bytes, 1) if method else 1.0)


def data_set_syntax(target: str, *, has_pixels: bool) -> str:
    """The transfer syntax that an object gets when ``target`` is asked for: without pixels there is nothing
    to compress (PS3.5 A.4)."""
    syntax = lookup(target)
    if syntax is not None and syntax.encapsulated and not has_pixels:
        return EXPLICIT_VR_LITTLE_ENDIAN
    return target


def transcoded_elements(
    elements: Sequence[Element], pixels: PixelDescription, done: Conversion, *, source: bytes
) -> list[Element]:
    """The elements before Pixel Data as they must be around the transcoded frames. ``source`` is what their
    ranges point into. Raises as `transcode_frames` does, for an icon that cannot be decoded."""
    changed = [
        element
        for element in elements
        if element.tag not in {EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS}
    ]
    if not keeps_frames(pixels.transfer_syntax_uid, done.transfer_syntax_uid):
        _set(changed, PHOTOMETRIC_INTERPRETATION, "CS", done.photometric_interpretation.encode("ascii"))
        if pixels.samples_per_pixel > 1:
            _set(changed, PLANAR_CONFIGURATION, "US", b"\0\0")
    if done.method:
        _set(changed, LOSSY_IMAGE_COMPRESSION, "CS", b"01")
        _add(changed, LOSSY_IMAGE_COMPRESSION_RATIO, "DS", f"{done.ratio:.4g}".encode("ascii"))
        _add(changed, LOSSY_IMAGE_COMPRESSION_METHOD, "CS", done.method.encode("ascii"))
    elif pixels.transfer_syntax_uid in {JPEG_BASELINE, JPEG_EXTENDED}:
        # Once lossy, always lossy (PS3.3 C.7.6.1.1.5), and from now on nothing else would tell.
        _set(changed, LOSSY_IMAGE_COMPRESSION, "CS", b"01")
    return with_native_icons(changed, pixels.transfer_syntax_uid, source)


def with_native_icons(elements: list[Element], transfer_syntax_uid: str, source: bytes) -> list[Element]:
    """Compressed Pixel Data inside sequences (an icon's) uncompressed, which every transfer syntax allows
    there (PS3.3 F.7, PS3.5 A.4)."""
    for element in elements:
        if isinstance(element.value, list):
            element.value = [_native_item(item, transfer_syntax_uid, source) for item in element.value]
    return elements


def pixel_data_vr(target: str, pixels: PixelDescription) -> str:
    """PS3.5 A.1 to A.4."""
    if not is_native(target):
        return "OB"
    if pixels.floating:
        return "OF" if pixels.bits_allocated == 32 else "OD"
    return "OW" if pixels.bits_allocated > 8 else "OB"


def swapped_word_bytes(pixels: PixelDescription, vr: str) -> int:
    """How many bytes change places when native pixels change their byte order: a pixel's, or for pixels of
    8 bits and less in OW a word's (PS3.5 §7.3)."""
    if pixels.bits_allocated > 8:
        return pixels.bits_allocated // 8
    return 2 if vr == "OW" else 1


def _native_item(item: list[Element], transfer_syntax_uid: str, source: bytes) -> list[Element]:
    item = with_native_icons(item, transfer_syntax_uid, source)
    for element in item:
        if element.tag == PIXEL_DATA and isinstance(element.value, BulkRange):
            pixels = PixelDescription.of_elements(item, transfer_syntax_uid)
            encoded = _joined_fragments(source, element.value)
            photometric, (content,) = transcode_frames([(encoded, 0)], pixels, EXPLICIT_VR_LITTLE_ENDIAN)
            element.value = content
            element.vr = pixel_data_vr(EXPLICIT_VR_LITTLE_ENDIAN, pixels)
            _set(item, PHOTOMETRIC_INTERPRETATION, "CS", photometric.encode("ascii"))
            if pixels.samples_per_pixel > 1:
                _set(item, PLANAR_CONFIGURATION, "US", b"\0\0")
            break
    return item


def _joined_fragments(source: bytes, where: BulkRange) -> bytes:
    """All fragments but the Basic Offset Table, of pixels that are one frame."""
    position, end = where.offset, where.offset + where.length
    fragments = []
    while position + 8 <= end:
        length = int.from_bytes(source[position + 4 : position + 8], "little")
        fragments.append(source[position + 8 : position + 8 + length])
        position += 8 + length
    return b"".join(fragments[1:])


def _set(elements: list[Element], tag: int, vr: str, value: bytes) -> None:
    for position, element in enumerate(elements):
        if element.tag == tag:
            elements[position] = Element(tag, vr, value)
            return
    elements.append(Element(tag, vr, value))


def _add(elements: list[Element], tag: int, vr: str, value: bytes) -> None:
    """One more value behind those that are there."""
    before = next((element.value for element in elements if element.tag == tag), b"")
    assert isinstance(before, bytes)
    kept = before.rstrip(b" \0")
    _set(elements, tag, vr, kept + b"\\" + value if kept else value)


def transcode_beginning(
    header: bytes,
    frames: EncodedFrames,
    pixels: PixelDescription,
    target: str,
    verify: bool = False,
) -> tuple[bytes, list[bytes]]:
    """An object's first frames as `transcode_frames` gives them, and its data set up to Pixel Data as it must
    be around them. ``header`` is the one that it has; the new one is in transfer syntax ``target``, before
    any deflating. To be run in a worker. Raises as `transcode_frames`, and InvalidInput.
    """
    if keeps_frames(pixels.transfer_syntax_uid, target):
        photometric, encoded = pixels.photometric_interpretation, [content for content, _ in frames]
    else:
        photometric, encoded = transcode_frames(frames, pixels, target, verify)
    done = conversion(pixels, target, photometric, sum(map(len, encoded)), len(encoded))
    elements = read_dataset(header, pixels.transfer_syntax_uid, stop_before_pixel_data=True)
    changed = transcoded_elements(elements, pixels, done, source=header)
    return write_dataset(changed, undeflated(target), source=header), encoded


def undeflated(transfer_syntax_uid: str) -> str:
    """The same without deflating."""
    if transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return EXPLICIT_VR_LITTLE_ENDIAN
    return transfer_syntax_uid
