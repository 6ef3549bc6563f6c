"""One frame's bytes to samples, in every transfer syntax that a codec here knows.

    native, deflated frame          ours
    RLE                             pylibjpeg-rle
    JPEG, lossless too              libjpeg-turbo (imagecodecs)
    JPEG-LS                         CharLS (imagecodecs)
    JPEG 2000                       OpenJPEG (imagecodecs)
    HTJ2K                           OpenJPH, and OpenJPEG for what may be lossy (imagecodecs)
    JPEG XL                         libjxl (imagecodecs)

Decoders are C code that reads bytes of strangers: call this in a worker process (``platform.workers``).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocenter.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    GE_PRIVATE_IMPLICIT_VR_BIG_ENDIAN_PIXELS,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.imaging.codestreams import Codestream, check_end, read_jpeg, read_jpeg_2000
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported, in_words
from isocenter.imaging.pixel_description import PixelDescription

Samples = NDArray[Any]

_NATIVE = frozenset(
    (
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        GE_PRIVATE_IMPLICIT_VR_BIG_ENDIAN_PIXELS,
    )
)
_LOSSLESS_PROCESSES = frozenset((0xC3, 0xC7, 0xCB, 0xCF))


class DecodedFrame(NamedTuple):
    """``samples``: (rows, columns), or (rows, columns, 3) for colours, which then are by pixel and not
    subsampled. Their type is that of the described words: signed or not, 8 to 64 bits, floating; one-bit
    pixels are bytes of 0 and 1. Bits outside of Bits Stored are as they came (`stored_values`).

    ``photometric_interpretation`` is what the samples are now: RGB for YBR_RCT, YBR_ICT and lossy JPEG,
    YBR_FULL for YBR_FULL_422, else what the description says.
    """

    samples: Samples
    photometric_interpretation: str


def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether there is a decoder for this transfer syntax."""
    return transfer_syntax_uid in _DECODERS or is_native(transfer_syntax_uid)


def is_native(transfer_syntax_uid: str) -> bool:
    """Whether pixels are uncompressed words in it (PS3.5 A.1 to A.3, A.5)."""
    return transfer_syntax_uid in _NATIVE


def decode_frame(encoded: bytes, pixels: PixelDescription, *, first_bit: int = 0) -> DecodedFrame:
    """``encoded`` is a compressed frame, its fragments joined; or an uncompressed one's bytes in little
    endian, beginning with bit ``first_bit`` (see `PixelDescription.frame_extent`).

    Raises PixelDataBroken, PixelDataUnsupported, MemoryError.
    """
    if is_native(pixels.transfer_syntax_uid):
        return _native(encoded, pixels, first_bit)
    decoder = _DECODERS.get(pixels.transfer_syntax_uid)
    if decoder is None:
        raise PixelDataUnsupported(f"there is no decoder for transfer syntax {pixels.transfer_syntax_uid}")
    if pixels.floating:
        raise PixelDataBroken("floating point pixels cannot be compressed")
    try:
        frame = decoder(encoded, pixels)
    except (PixelDataBroken, PixelDataUnsupported, MemoryError):
        raise
    except Exception as error:  # each library has exceptions of its own
        raise PixelDataBroken(f"the decoder says {in_words(error)}") from error
    expected = (pixels.rows, pixels.columns, 3)[: 3 if pixels.samples_per_pixel == 3 else 2]
    if frame.samples.shape != expected:
        raise PixelDataBroken("the decoded frame has another size than the object says")
    return frame


def stored_values(samples: Samples, pixels: PixelDescription) -> Samples:
    """The values that Bits Stored and High Bit say (PS3.5 §8.1.1), without what else the words hold (old
    overlays), sign extended. Same shape and type; no copy where there is nothing to do."""
    if pixels.floating or pixels.bits_allocated in {1, pixels.bits_stored}:
        return samples
    width = samples.dtype.itemsize * 8
    unsigned = samples.view(np.dtype(f"u{samples.dtype.itemsize}"))
    aligned = unsigned << np.array(width - 1 - pixels.high_bit, unsigned.dtype)
    values: Samples = aligned.view(samples.dtype) >> np.array(width - pixels.bits_stored, samples.dtype)
    return values


def sample_type(pixels: PixelDescription) -> np.dtype[Any]:
    """The type of a decoded frame's samples."""
    if pixels.bits_allocated == 1:
        return np.dtype("u1")
    kind = "f" if pixels.floating else "i" if pixels.signed else "u"
    return np.dtype(f"<{kind}{pixels.bits_allocated // 8}")


def _native(encoded: bytes, pixels: PixelDescription, first_bit: int) -> DecodedFrame:
    if len(encoded) * 8 < first_bit + pixels.frame_bits:
        raise PixelDataBroken("it is shorter than its rows, columns and frames need")
    if pixels.bits_allocated == 1:
        return DecodedFrame(_unpacked(encoded, pixels, first_bit), pixels.photometric_interpretation)
    count = pixels.frame_bits // pixels.bits_allocated
    words = np.frombuffer(encoded, sample_type(pixels), count)
    if pixels.subsampled:
        return DecodedFrame(_upsampled(words, pixels), "YBR_FULL")
    if pixels.samples_per_pixel == 1:
        samples: Samples = words.reshape(pixels.rows, pixels.columns)
    elif pixels.planar_configuration == 1:
        planes = words.reshape(3, pixels.rows, pixels.columns)
        samples = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    else:
        samples = words.reshape(pixels.rows, pixels.columns, 3)
    return DecodedFrame(samples, pixels.photometric_interpretation)


def _unpacked(encoded: bytes, pixels: PixelDescription, first_bit: int) -> Samples:
    """PS3.5 §8.1.1: the first pixel is the least significant bit; frames follow without padding."""
    if pixels.samples_per_pixel != 1:
        raise PixelDataUnsupported("its colours have one bit")
    bits = np.unpackbits(np.frombuffer(encoded, np.uint8), bitorder="little")
    return bits[first_bit : first_bit + pixels.frame_bits].reshape(pixels.rows, pixels.columns)


def _upsampled(words: Samples, pixels: PixelDescription) -> Samples:
    """PS3.3 C.7.6.3.1.2: Y1 Y2 Cb Cr for each two pixels of a row."""
    if pixels.columns % 2:
        raise PixelDataBroken("YBR_FULL_422 needs an even number of columns")
    quads = words.reshape(pixels.rows, pixels.columns // 2, 4)
    samples = np.empty((pixels.rows, pixels.columns, 3), words.dtype)
    samples[:, 0::2, 0] = quads[:, :, 0]
    samples[:, 1::2, 0] = quads[:, :, 1]
    samples[:, :, 1] = quads[:, :, 2].repeat(2, axis=1)
    samples[:, :, 2] = quads[:, :, 3].repeat(2, axis=1)
    return samples


def _encapsulated_native(encoded: bytes, pixels: PixelDescription) -> DecodedFrame:
    return _native(encoded, pixels, 0)


def _deflated_frame(encoded: bytes, pixels: PixelDescription) -> DecodedFrame:
    """PS3.5 A.4.14: RFC 1951, a frame at a time."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    return _native(inflater.decompress(encoded, (pixels.frame_bits + 7) // 8), pixels, 0)


def _rle(encoded: bytes, pixels: PixelDescription) -> DecodedFrame:
    """PS3.5 G: each byte of each sample is a segment."""
    from rle import rle

    if pixels.subsampled:
        raise PixelDataUnsupported("RLE has no subsampled colours")
    count = pixels.rows * pixels.columns
    if pixels.bits_allocated == 1 and (packed := _packed_segment(encoded, (count + 7) // 8)):
        return DecodedFrame(_unpacked(packed, pixels, 0), pixels.photometric_interpretation)
    octets = rle.decode_frame(encoded, count, pixels.bits_allocated, "<")
    words = np.frombuffer(octets, sample_type(pixels))
    if pixels.samples_per_pixel == 1:
        samples: Samples = words.reshape(pixels.rows, pixels.columns)
    else:
        planes = words.reshape(3, pixels.rows, pixels.columns)
        samples = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    return DecodedFrame(samples, pixels.photometric_interpretation)


def _packed_segment(encoded: bytes, length: int) -> bytes:
    """Pixels of one bit that were packed before they were compressed; empty where they were not."""
    from rle import rle

    try:
        segment = rle.decode_segment(encoded[64:])
    except ValueError:
        return b""
    return bytes(segment[:length]) if length <= len(segment) <= length + 1 else b""


def _jpeg(encoded: bytes, pixels: PixelDescription) -> DecodedFrame:
    import imagecodecs

    stream = _checked(read_jpeg(encoded), pixels)
    check_end(encoded)
    if stream.components == 1:
        return DecodedFrame(
            _described(imagecodecs.jpeg8_decode(encoded), stream, pixels), pixels.photometric_interpretation
        )
    if stream.process in _LOSSLESS_PROCESSES:
        # Colours as they are: a conversion would lose.
        samples = imagecodecs.jpeg8_decode(encoded, colorspace="RGB", outcolorspace="RGB")
        return DecodedFrame(_described(samples, stream, pixels), _without_subsampling(pixels))
    # What the markers say outranks the description; where they say nothing, the description is right.
    ycbcr = pixels.photometric_interpretation != "RGB" if stream.ycbcr is None else stream.ycbcr
    samples = imagecodecs.jpeg8_decode(encoded, colorspace="YCBCR" if ycbcr else "RGB", outcolorspace="RGB")
    return DecodedFrame(_described(samples, stream, pixels), "RGB")


def _jpeg_ls(encoded: bytes, pixels: PixelDescription) -> DecodedFrame:
    import imagecodecs

    stream = _checked(read_jpeg(encoded), pixels)
    samples = _described(imagecodecs.jpegls_decode(encoded), stream, pixels)
    return DecodedFrame(samples, _without_subsampling(pixels))


def _jpeg_2000(encoded: bytes, pixels: PixelDescription) -> DecodedFrame:
    import imagecodecs

    stream = _checked(read_jpeg_2000(encoded), pixels)
    return _colours_undone(imagecodecs.jpeg2k_decode(encoded, numthreads=1), stream, pixels)


def _htj2k(encoded: bytes, pixels: PixelDescription) -> DecodedFrame:
    import imagecodecs

    stream = _checked(read_jpeg_2000(encoded), pixels)
    check_end(encoded)
    if stream.reversible:
        planar = None if stream.components == 1 else False
        return _colours_undone(imagecodecs.htj2k_decode(encoded, planar=planar), stream, pixels)
    # imagecodecs lets OpenJPH's values run over where a lossy image comes close to white or black.
    return _colours_undone(imagecodecs.jpeg2k_decode(encoded, numthreads=1), stream, pixels)


def _jpeg_xl(encoded: bytes, pixels: PixelDescription) -> DecodedFrame:
    import imagecodecs

    samples = imagecodecs.jpegxl_decode(encoded)
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[:, :, 0]
    stream = Codestream(pixels.rows, pixels.columns, pixels.samples_per_pixel, samples.dtype.itemsize * 8)
    return _colours_undone(samples, stream, pixels)


def _colours_undone(samples: Samples, stream: Codestream, pixels: PixelDescription) -> DecodedFrame:
    """The multi-component transformation is part of the codestream and is undone by the decoder."""
    photometric = _without_subsampling(pixels)
    if photometric in {"YBR_RCT", "YBR_ICT", "XYB"}:
        photometric = "RGB"
    return DecodedFrame(_described(samples, stream, pixels), photometric)


def _checked(stream: Codestream, pixels: PixelDescription) -> Codestream:
    if (stream.rows, stream.columns) != (pixels.rows, pixels.columns):
        raise PixelDataBroken("the compressed frame has another size than the object says")
    if stream.components != pixels.samples_per_pixel:
        raise PixelDataBroken("the compressed frame has another number of colours than the object says")
    if not 0 < stream.precision <= max(pixels.bits_allocated, 8):
        raise PixelDataBroken("the compressed frame has more bits than the object says")
    return stream


def _described(samples: Samples, stream: Codestream, pixels: PixelDescription) -> Samples:
    """Samples of the codestream's precision and sign in the words that the object describes: bits above the
    precision repeat its highest bit where the object is signed, and are 0 where it is not."""
    target = sample_type(pixels)
    if pixels.signed == (samples.dtype.kind == "i"):
        return np.ascontiguousarray(samples, target)
    words = samples.astype(f"u{target.itemsize}")
    spare = np.array(target.itemsize * 8 - min(stream.precision, target.itemsize * 8), words.dtype)
    aligned: Samples = words << spare
    if pixels.signed:
        aligned, spare = aligned.view(target), spare.astype(target)
    whole: Samples = aligned >> spare
    return whole


def _without_subsampling(pixels: PixelDescription) -> str:
    return "YBR_FULL" if pixels.subsampled else pixels.photometric_interpretation


_DECODERS: dict[str, Callable[[bytes, PixelDescription], DecodedFrame]] = {
    "1.2.840.10008.1.2.1.98": _encapsulated_native,
    "1.2.840.10008.1.2.5": _rle,
    "1.2.840.10008.1.2.8.1": _deflated_frame,
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70)), _jpeg),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)), _jpeg_ls),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (90, 91)), _jpeg_2000),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)), _htj2k),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)), _jpeg_xl),
}
