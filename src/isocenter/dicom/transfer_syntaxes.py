"""All transfer syntaxes of PS3.6 table A-1, retired ones too, and one private one still met."""

from __future__ import annotations

from dataclasses import dataclass

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
GE_PRIVATE_IMPLICIT_VR_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """How a data set is encoded (PS3.5 §10).

    ``big_endian`` speaks of the data set; ``big_endian_pixels`` of the words of native Pixel Data.
    ``lossy`` means that the process may lose information, not that it did in a given object.
    """

    uid: str
    name: str
    implicit_vr: bool = False
    big_endian: bool = False
    deflated: bool = False
    encapsulated: bool = False
    retired: bool = False
    lossy: bool = False
    big_endian_pixels: bool = False


def lookup(uid: str) -> TransferSyntax | None:
    """The transfer syntax of that UID (without padding); ``None`` for one that the standard does not know."""
    return TRANSFER_SYNTAXES.get(uid)


def _row(uid: str, name: str, flags: str) -> TransferSyntax:
    return TransferSyntax(
        uid,
        name,
        implicit_vr="i" in flags,
        big_endian="b" in flags,
        deflated="d" in flags,
        encapsulated="e" in flags,
        retired="r" in flags,
        lossy="l" in flags,
        big_endian_pixels="b" in flags or "p" in flags,
    )


# Flags: i implicit VR, b big endian, d deflated, e encapsulated Pixel Data, r retired, l lossy,
# p big-endian pixels.
_ROWS = (
    ("1.2.840.10008.1.2", "Implicit VR Little Endian", "i"),
    ("1.2.840.10008.1.2.1", "Explicit VR Little Endian", ""),
    ("1.2.840.10008.1.2.1.98", "Encapsulated Uncompressed Explicit VR Little Endian", "e"),
    ("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", "d"),
    ("1.2.840.10008.1.2.2", "Explicit VR Big Endian", "br"),
    ("1.2.840.10008.1.2.4.50", "JPEG Baseline (Process 1)", "el"),
    ("1.2.840.10008.1.2.4.51", "JPEG Extended (Process 2 and 4)", "el"),
    ("1.2.840.10008.1.2.4.52", "JPEG Extended (Process 3 and 5)", "erl"),
    ("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)", "erl"),
    ("1.2.840.10008.1.2.4.54", "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)", "erl"),
    ("1.2.840.10008.1.2.4.55", "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)", "erl"),
    ("1.2.840.10008.1.2.4.56", "JPEG Full Progression, Non-Hierarchical (Process 11 and 13)", "erl"),
    ("1.2.840.10008.1.2.4.57", "JPEG Lossless, Non-Hierarchical (Process 14)", "e"),
    ("1.2.840.10008.1.2.4.58", "JPEG Lossless, Non-Hierarchical (Process 15)", "er"),
    ("1.2.840.10008.1.2.4.59", "JPEG Extended, Hierarchical (Process 16 and 18)", "erl"),
    ("1.2.840.10008.1.2.4.60", "JPEG Extended, Hierarchical (Process 17 and 19)", "erl"),
    ("1.2.840.10008.1.2.4.61", "JPEG Spectral Selection, Hierarchical (Process 20 and 22)", "erl"),
    ("1.2.840.10008.1.2.4.62", "JPEG Spectral Selection, Hierarchical (Process 21 and 23)", "erl"),
    ("1.2.840.10008.1.2.4.63", "JPEG Full Progression, Hierarchical (Process 24 and 26)", "erl"),
    ("1.2.840.10008.1.2.4.64", "JPEG Full Progression, Hierarchical (Process 25 and 27)", "erl"),
    ("1.2.840.10008.1.2.4.65", "JPEG Lossless, Hierarchical (Process 28)", "er"),
    ("1.2.840.10008.1.2.4.66", "JPEG Lossless, Hierarchical (Process 29)", "er"),
    (
        "1.2.840.10008.1.2.4.70",
        "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        "e",
    ),
    ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless Image Compression", "e"),
    ("1.2.840.10008.1.2.4.81", "JPEG-LS Lossy (Near-Lossless) Image Compression", "el"),
    ("1.2.840.10008.1.2.4.90", "JPEG 2000 Image Compression (Lossless Only)", "e"),
    ("1.2.840.10008.1.2.4.91", "JPEG 2000 Image Compression", "el"),
    ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)", "e"),
    ("1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2 Multi-component Image Compression", "el"),
    ("1.2.840.10008.1.2.4.94", "JPIP Referenced", ""),
    ("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate", "d"),
    ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level", "el"),
    ("1.2.840.10008.1.2.4.100.1", "Fragmentable MPEG2 Main Profile / Main Level", "el"),
    ("1.2.840.10008.1.2.4.101", "MPEG2 Main Profile / High Level", "el"),
    ("1.2.840.10008.1.2.4.101.1", "Fragmentable MPEG2 Main Profile / High Level", "el"),
    ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1", "el"),
    ("1.2.840.10008.1.2.4.102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1", "el"),
    ("1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", "el"),
    (
        "1.2.840.10008.1.2.4.103.1",
        "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
        "el",
    ),
    ("1.2.840.10008.1.2.4.104", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", "el"),
    (
        "1.2.840.10008.1.2.4.104.1",
        "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
        "el",
    ),
    ("1.2.840.10008.1.2.4.105", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", "el"),
    (
        "1.2.840.10008.1.2.4.105.1",
        "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
        "el",
    ),
    ("1.2.840.10008.1.2.4.106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", "el"),
    ("1.2.840.10008.1.2.4.106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", "el"),
    ("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile / Level 5.1", "el"),
    ("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile / Level 5.1", "el"),
    ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless", "e"),
    ("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression", "el"),
    ("1.2.840.10008.1.2.4.112", "JPEG XL", "el"),
    ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Image Compression (Lossless Only)", "e"),
    (
        "1.2.840.10008.1.2.4.202",
        "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)",
        "e",
    ),
    ("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000 Image Compression", "el"),
    ("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced", ""),
    ("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate", "d"),
    ("1.2.840.10008.1.2.5", "RLE Lossless", "e"),
    ("1.2.840.10008.1.2.6.1", "RFC 2557 MIME encapsulation", "r"),
    ("1.2.840.10008.1.2.6.2", "XML Encoding", "r"),
    ("1.2.840.10008.1.2.7.1", "SMPTE ST 2110-20 Uncompressed Progressive Active Video", ""),
    ("1.2.840.10008.1.2.7.2", "SMPTE ST 2110-20 Uncompressed Interlaced Active Video", ""),
    ("1.2.840.10008.1.2.7.3", "SMPTE ST 2110-30 PCM Digital Audio", ""),
    ("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression", "e"),
    ("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian", "ir"),
    (GE_PRIVATE_IMPLICIT_VR_BIG_ENDIAN_PIXELS, "GE Private Implicit VR Big Endian Pixels", "ip"),
)

TRANSFER_SYNTAXES: dict[str, TransferSyntax] = {row[0]: _row(*row) for row in _ROWS}
