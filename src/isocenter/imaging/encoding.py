"""One frame's samples to bytes, in every transfer syntax that a codec here writes.

Lossless ones give back every bit of every word, also those above Bits Stored (old overlays lie there). Lossy
ones are as good as a reader cannot tell: JPEG quality 90, JPEG-LS near 2, wavelets quantised below the noise.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from isocenter.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.imaging.decoding import DecodedFrame, Samples, is_native
from isocenter.imaging.errors import PixelDataUnsupported, in_words
from isocenter.imaging.pixel_description import PixelDescription

_JPEG_QUALITY = 90
_JPEG_LS_NEAR = 2
_JPEG_2000_PSNR_DB = 55
_HTJ2K_STEP = 1 / 512
"""Of the range of Bits Stored."""
_HTJ2K_THUMBNAIL = 64


class EncodedFrame(NamedTuple):
    """``content`` without padding; pixels of one bit are packed, from the first byte on."""

    content: bytes
    photometric_interpretation: str


class _Codec(NamedTuple):
    encode: Callable[[DecodedFrame, PixelDescription], EncodedFrame]
    bits_allocated: frozenset[int]
    lossy_method: str = ""


def can_encode(transfer_syntax_uid: str) -> bool:
    return transfer_syntax_uid in _CODECS or transfer_syntax_uid in _NATIVE


def encodable() -> list[str]:
    """All transfer syntaxes that can be written."""
    return sorted((*_NATIVE, *_CODECS), key=lambda uid: [int(part) for part in uid.split(".")])


def lossy_method(transfer_syntax_uid: str) -> str:
    """The defined term of Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1) for what `encode_frame` does
    to pixels there; empty where it loses nothing."""
    codec = _CODECS.get(transfer_syntax_uid)
    return codec.lossy_method if codec else ""


def encode_frame(frame: DecodedFrame, pixels: PixelDescription, transfer_syntax_uid: str) -> EncodedFrame:
    """``pixels`` describe what ``frame`` was decoded from. Raises PixelDataUnsupported, MemoryError."""
    if is_native(transfer_syntax_uid):
        return _native(frame, pixels)
    codec = _CODECS.get(transfer_syntax_uid)
    if codec is None:
        raise PixelDataUnsupported(f"there is no encoder for transfer syntax {transfer_syntax_uid}")
    if pixels.floating or pixels.bits_allocated not in codec.bits_allocated:
        kind = "floating point" if pixels.floating else f"{pixels.bits_allocated}-bit"
        raise PixelDataUnsupported(f"transfer syntax {transfer_syntax_uid} does not hold {kind} pixels")
    if codec.lossy_method and frame.photometric_interpretation == "PALETTE COLOR":
        raise PixelDataUnsupported("indexes of a palette bear no loss")
    try:
        return codec.encode(frame, pixels)
    except (PixelDataUnsupported, MemoryError):
        raise
    except Exception as error:  # each library has exceptions of its own
        raise PixelDataUnsupported(f"the encoder says {in_words(error)}") from error


def _native(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    samples = frame.samples
    if pixels.bits_allocated == 1:
        samples = np.packbits(samples.reshape(-1), bitorder="little")
    return EncodedFrame(samples.tobytes(), frame.photometric_interpretation)


def _deflated(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = deflater.compress(_native(frame, pixels).content) + deflater.flush()
    return EncodedFrame(content, frame.photometric_interpretation)


def _rle(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    """PS3.5 G; pixels of one bit are packed first (PS3.5 G.2)."""
    from rle import rle

    content = _native(frame, pixels).content
    if pixels.bits_allocated == 1:
        encoded = rle.encode_frame(content, 1, len(content), 1, 8, "<")
    else:
        if pixels.samples_per_pixel * pixels.bits_allocated > 8 * 15:
            raise PixelDataUnsupported("RLE has no more than 15 segments")
        encoded = rle.encode_frame(
            content, pixels.rows, pixels.columns, pixels.samples_per_pixel, pixels.bits_allocated, "<"
        )
    return EncodedFrame(bytes(encoded), frame.photometric_interpretation)


def _jpeg_lossless(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    """ISO/IEC 10918-1 H; colours stay what they are."""
    import imagecodecs

    words = _unsigned(frame.samples)
    encoded = imagecodecs.jpeg8_encode(
        words,
        lossless=True,
        predictor=1,
        bitspersample=_precision(words, pixels, signed=False),
        **_colour_space(pixels, "RGB", "RGB"),
    )
    return EncodedFrame(bytes(encoded), frame.photometric_interpretation)


def _jpeg_lossy(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    """ISO/IEC 10918-1, 8 bits (process 1) or 12 (process 4); colours become YBR_FULL_422."""
    import imagecodecs

    samples, photometric = _as_rgb(frame)
    if pixels.signed or pixels.bits_stored > 12 or (samples.ndim == 3 and pixels.bits_stored > 8):
        raise PixelDataUnsupported("lossy JPEG holds unsigned pixels of at most 12 bits, colours of 8")
    bits = 8 if pixels.bits_allocated == 8 else 12
    if samples.ndim == 3:
        photometric = "YBR_FULL_422"
    encoded = imagecodecs.jpeg8_encode(
        np.minimum(samples, (1 << bits) - 1),
        level=_JPEG_QUALITY,
        bitspersample=bits,
        **_colour_space(pixels, "RGB", "YCBCR", subsampling="422"),
    )
    return EncodedFrame(bytes(encoded), photometric)


def _jpeg_baseline(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    if pixels.bits_stored > 8:
        raise PixelDataUnsupported("JPEG Baseline holds pixels of at most 8 bits")
    return _jpeg_lossy(frame, pixels)


def _jpeg_ls(frame: DecodedFrame, _: PixelDescription) -> EncodedFrame:
    import imagecodecs

    words = _unsigned(frame.samples)
    encoded = imagecodecs.jpegls_encode(words, level=0, out=_room_for(words))
    return EncodedFrame(bytes(encoded), frame.photometric_interpretation)


def _jpeg_ls_near(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    import imagecodecs

    if pixels.signed:
        raise PixelDataUnsupported("near-lossless JPEG-LS would break pixels around 0 that have a sign")
    samples, photometric = _as_rgb(frame)
    encoded = imagecodecs.jpegls_encode(samples, level=_JPEG_LS_NEAR, out=_room_for(samples))
    return EncodedFrame(bytes(encoded), photometric)


def _jpeg_2000(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    import imagecodecs

    transformed = frame.photometric_interpretation == "RGB"
    encoded = imagecodecs.jpeg2k_encode(
        frame.samples,
        level=0,
        codecformat="j2k",
        reversible=True,
        mct=transformed,
        bitspersample=_precision(frame.samples, pixels, signed=pixels.signed),
        numthreads=1,
    )
    return EncodedFrame(bytes(encoded), "YBR_RCT" if transformed else frame.photometric_interpretation)


def _jpeg_2000_lossy(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    import imagecodecs

    samples, photometric = _as_rgb(frame)
    encoded = imagecodecs.jpeg2k_encode(
        samples,
        level=_JPEG_2000_PSNR_DB,
        codecformat="j2k",
        reversible=False,
        mct=samples.ndim == 3,
        bitspersample=_precision(samples, pixels, signed=pixels.signed),
        numthreads=1,
    )
    return EncodedFrame(bytes(encoded), "YBR_ICT" if samples.ndim == 3 else photometric)


def _htj2k(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    """What the constrained transfer syntax wants (PS3.5 §10.18): RPCL, tile lengths, a base of at most 64."""
    import imagecodecs

    transformed = frame.photometric_interpretation == "RGB"
    encoded = imagecodecs.htj2k_encode(
        frame.samples, reversible=True, rgb=transformed, tlm=True, resolutions=_decompositions(pixels)
    )
    return EncodedFrame(bytes(encoded), "YBR_RCT" if transformed else frame.photometric_interpretation)


def _htj2k_lossy(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    import imagecodecs

    samples, photometric = _as_rgb(frame)
    words = samples.dtype.itemsize * 8
    encoded = imagecodecs.htj2k_encode(
        samples,
        level=_HTJ2K_STEP / (1 << (words - pixels.bits_stored)),
        reversible=False,
        rgb=samples.ndim == 3,
        tlm=True,
        resolutions=_decompositions(pixels),
    )
    return EncodedFrame(bytes(encoded), "YBR_ICT" if samples.ndim == 3 else photometric)


def _jpeg_xl(frame: DecodedFrame, pixels: PixelDescription) -> EncodedFrame:
    import imagecodecs

    if pixels.signed or frame.photometric_interpretation.startswith("YBR"):
        raise PixelDataUnsupported("JPEG XL holds unsigned pixels, colours as RGB")
    encoded = imagecodecs.jpegxl_encode(frame.samples, lossless=True, numthreads=1)
    return EncodedFrame(bytes(encoded), frame.photometric_interpretation)


def _as_rgb(frame: DecodedFrame) -> tuple[Samples, str]:
    """Lossy encoders want RGB, to make of it what they like."""
    if frame.photometric_interpretation != "YBR_FULL":
        return frame.samples, frame.photometric_interpretation
    if frame.samples.dtype != np.uint8:
        raise PixelDataUnsupported("its YBR_FULL colours have more than 8 bits")
    return rgb_of_ybr_full(frame.samples), "RGB"


def rgb_of_ybr_full(samples: Samples) -> Samples:
    """PS3.3 C.7.6.3.1.2: full-range YCbCr of ITU-R BT.601, 8 bits, to RGB."""
    y, cb, cr = (samples[:, :, plane].astype(np.float32) for plane in range(3))
    cb, cr = cb - 128, cr - 128
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    octets: Samples = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return octets


def _unsigned(samples: Samples) -> Samples:
    """The words as JPEG and JPEG-LS take them: two's complement is only bits to them (PS3.5 §8.2.1)."""
    words: Samples = samples.view(f"u{samples.dtype.itemsize}")
    return words


def _room_for(words: Samples) -> int:
    """CharLS wants its buffer beforehand, and noise grows."""
    return 2 * words.nbytes + 4096


def _precision(samples: Samples, pixels: PixelDescription, *, signed: bool) -> int:
    """Bits Stored where all values fit; else all that are allocated, so that nothing is lost."""
    if pixels.bits_allocated == 1:
        return 1
    low, high = int(samples.min()), int(samples.max())
    bits = pixels.bits_stored
    limits = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    fits = limits[0] <= low and high <= limits[1] and not (pixels.signed and not signed)
    return max(bits, 2) if fits else pixels.bits_allocated


def _colour_space(pixels: PixelDescription, given: str, wanted: str, **more: Any) -> dict[str, Any]:
    return {"colorspace": given, "outcolorspace": wanted, **more} if pixels.samples_per_pixel == 3 else {}


def _decompositions(pixels: PixelDescription) -> int:
    levels = 5
    while min(pixels.rows, pixels.columns) >> levels >= _HTJ2K_THUMBNAIL:
        levels += 1
    return levels


_NATIVE = frozenset(
    (
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    )
)
_WORDS = frozenset((8, 16))
_CODECS = {
    "1.2.840.10008.1.2.1.98": _Codec(_native, frozenset((1, 8, 16, 32, 64))),
    "1.2.840.10008.1.2.4.50": _Codec(_jpeg_baseline, frozenset((8,)), "ISO_10918_1"),
    "1.2.840.10008.1.2.4.51": _Codec(_jpeg_lossy, _WORDS, "ISO_10918_1"),
    "1.2.840.10008.1.2.4.57": _Codec(_jpeg_lossless, _WORDS),
    "1.2.840.10008.1.2.4.70": _Codec(_jpeg_lossless, _WORDS),
    "1.2.840.10008.1.2.4.80": _Codec(_jpeg_ls, _WORDS),
    "1.2.840.10008.1.2.4.81": _Codec(_jpeg_ls_near, _WORDS, "ISO_14495_1"),
    "1.2.840.10008.1.2.4.90": _Codec(_jpeg_2000, frozenset((1, 8, 16))),
    "1.2.840.10008.1.2.4.91": _Codec(_jpeg_2000_lossy, _WORDS, "ISO_15444_1"),
    "1.2.840.10008.1.2.4.110": _Codec(_jpeg_xl, _WORDS),
    "1.2.840.10008.1.2.4.201": _Codec(_htj2k, _WORDS),
    "1.2.840.10008.1.2.4.202": _Codec(_htj2k, _WORDS),
    "1.2.840.10008.1.2.4.203": _Codec(_htj2k_lossy, _WORDS, "ISO_15444_15"),
    "1.2.840.10008.1.2.5": _Codec(_rle, frozenset((1, 8, 16, 32, 64))),
    "1.2.840.10008.1.2.8.1": _Codec(_deflated, frozenset((1, 8, 16, 32, 64))),
}
