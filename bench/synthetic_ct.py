"""Synthetic CT slices as scanners make them: ~130 elements, private and nested sequences, noise for pixels.

Made of integers alone, so that two runs send the same bytes. A template is built once for each size; each
slice is the template with values of equal length put in, so that making one costs little more than a copy.
Encoded here and not by the package's own writer: what is measured must not be what made the input.
"""

from __future__ import annotations

import random
import struct
from functools import cache

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
LONG_VRS = ("OB", "OW", "SQ")

# Stand-ins for the values that differ from slice to slice; each is as long as what replaces it.
_UID_DIGITS = 38
_SOP_UID, _SERIES_UID, _STUDY_UID, _FRAME_UID = (f"2.25.{mark * _UID_DIGITS}\0" for mark in "isvf")
_PATIENT_ID, _ACCESSION, _STUDY_ID = "ppppppppp ", "aaaaaaaaa ", "uuuuuuuu"
_PATIENT_NAME, _DATE, _BIRTH_DATE = "nnnnnnnnnnn^nnnnnnnn", "dddddddd", "bbbbbbbb"
_SERIES_NUMBER, _INSTANCE_NUMBER = "rrrrrr", "mmmmmm"
_POSITION, _LOCATION = "zzzzzzzzz ", "llllllllll"

_HEADER = f"""
00080005 CS ISO_IR 100
00080008 CS ORIGINAL\\PRIMARY\\AXIAL
00080012 DA {_DATE}
00080013 TM 101530.250000
00080016 UI {CT_IMAGE_STORAGE}
00080018 UI {_SOP_UID}
00080020 DA {_DATE}
00080021 DA {_DATE}
00080022 DA {_DATE}
00080023 DA {_DATE}
00080030 TM 101500
00080031 TM 101510.120000
00080032 TM 101520.330000
00080033 TM 101525.440000
00080050 SH {_ACCESSION}
00080060 CS CT
00080070 LO SYNTHETIC
00080080 LO General Hospital
00080081 ST 1 Main Street, Anytown
00080090 PN Referring^Physician
00081010 SH CT-SCANNER-1
00081030 LO CT Abdomen with contrast
00081032 SQ 5
0008103E LO Axial 1.0 mm soft tissue
00081040 LO Radiology
00081050 PN Performing^Physician
00081060 PN Reading^Physician
00081070 PN Operator^Technician
00081090 LO Virtual CT 128
00081110 SQ 2
00081111 SQ 2
00081140 SQ 2u
00082112 SQ 2
00082218 SQ 3
00089215 SQ 3u
00090010 LO SYNTHETIC CT HEADER 01
00091001 LO private text of this vendor
00091002 US 7
00091003 FD 0.75
00091010 SQ 4u
00100010 PN {_PATIENT_NAME}
00100020 LO {_PATIENT_ID}
00100030 DA {_BIRTH_DATE}
00100040 CS F
00101010 AS 055Y
00101020 DS 1.70
00101030 DS 72.5
00102160 SH Unknown
00102180 SH Occupation
001021B0 LT No relevant history
00180015 CS ABDOMEN
00180022 CS HELICAL MODE
00180050 DS 1.000000
00180060 DS 120
00180090 DS 500
00181000 LO SN00012345
00181020 LO 5.4.1\\build 2231
00181030 LO 5.10 Abdomen routine
00181040 LO IV
00181041 DS 80
00181100 DS 360.000000
00181110 DS 949.075012
00181111 DS 541.000000
00181120 DS 0.000000
00181130 DS 154.500000
00181140 CS CW
00181150 IS 500
00181151 IS 220
00181152 IS 110
00181160 SH BODY FILTER
00181170 IS 48
00181190 DS 1.200000
00181210 SH STANDARD
00185100 CS HFS
00189305 FD 0.5
00189306 FD 0.625
00189307 FD 40.0
00189309 FD 55.0
00189310 FD 110.0
00189311 FD 0.984
00189323 CS XYZ_EC
00189324 FD 32.0
00189345 FD 11.25
0020000D UI {_STUDY_UID}
0020000E UI {_SERIES_UID}
00200010 SH {_STUDY_ID}
00200011 IS {_SERIES_NUMBER}
00200012 IS 1
00200013 IS {_INSTANCE_NUMBER}
00200032 DS -250.000000\\-250.000000\\{_POSITION}
00200037 DS 1.000000\\0.000000\\0.000000\\0.000000\\1.000000\\0.000000
00200052 UI {_FRAME_UID}
00200060 CS
00201040 LO SN
00201041 DS {_LOCATION}
00204000 LT Synthetic slice
00210010 LO SYNTHETIC CT IMAGE 01
00211003 SL 12345
00211035 SS 16
00211091 SS 0
00280002 US 1
00280004 CS MONOCHROME2
00280010 US rows
00280011 US columns
00280030 DS 0.976562\\0.976562
00280100 US 16
00280101 US 16
00280102 US 15
00280103 US 1
00280106 SS -2000
00280107 SS 3071
00281050 DS 40
00281051 DS 400
00281052 DS -1024
00281053 DS 1
00281054 LO HU
00321060 LO CT ABDOMEN W CONTRAST
00400244 DA {_DATE}
00400245 TM 101500
00400253 SH PPS0000001
00400254 LO CT Abdomen
00400275 SQ 5u
00430010 LO SYNTHETIC CT PARMS 01
00431027 SH /1.0:1
00431031 DS 1.500000\\2.500000
00431040 FL 178.5
"""

_NUMBERS = {"US": "<H", "SS": "<h", "SL": "<i", "UL": "<I", "FL": "<f", "FD": "<d"}


def study_instance_uid(study: int) -> str:
    return _uid(1, study)


def series_instance_uid(study: int, series: int) -> str:
    return _uid(2, study, series)


def sop_instance_uid(study: int, series: int, instance: int) -> str:
    return _uid(3, study, series, instance)


def patient_id(patient: int) -> str:
    return f"P{patient:08d}"


def synthetic_ct(
    patient: int, study: int, series: int, instance: int, *, rows: int = 512, columns: int = 512
) -> bytes:
    """One slice as a DICOM file, explicit VR little endian; 525 kB at 512 x 512.

    ``patient`` and ``study`` are numbers up to 8 digits, unique in the archive; ``series`` (3 digits) counts
    within the study and ``instance`` (5 digits) within the series.
    """
    texts, fields, pixels = _template(rows, columns)
    date = f"20{20 + study % 7:02d}{1 + study % 12:02d}{1 + study % 28:02d}"
    position = f"{instance - 500.5:9.2f} "
    values = {
        _SOP_UID: sop_instance_uid(study, series, instance) + "\0",
        _SERIES_UID: series_instance_uid(study, series) + "\0",
        _STUDY_UID: study_instance_uid(study) + "\0",
        _FRAME_UID: _uid(4, study) + "\0",
        _PATIENT_ID: patient_id(patient) + " ",
        _ACCESSION: f"A{study:08d} ",
        _STUDY_ID: f"{study:08d}",
        _PATIENT_NAME: f"FAMILY{patient % 99999:05d}^GIVEN{patient % 997:03d}",
        _DATE: date,
        _BIRTH_DATE: f"19{30 + patient % 70:02d}{1 + patient % 12:02d}{1 + patient % 28:02d}",
        _SERIES_NUMBER: f"{series:6d}",
        _INSTANCE_NUMBER: f"{instance:6d}",
        _POSITION: position,
        _LOCATION: position,
    }
    parts = [texts[0]]
    for field, text in zip(fields, texts[1:], strict=True):
        parts.append(values[field].encode("ascii"))
        parts.append(text)
    parts.append(pixels)
    return b"".join(parts)


def _uid(kind: int, study: int, series: int = 0, instance: int = 0) -> str:
    # 38 digits, as long as the longest UUID-derived UID; the first is never 0.
    return f"2.25.{kind}{0:020d}{study:08d}{series:04d}{instance:05d}"


@cache
def _template(rows: int, columns: int) -> tuple[list[bytes], list[str], bytes]:
    """The bytes between the fields, the fields in order, and the Pixel Data element."""
    header = _file_meta() + b"".join(_line(line, rows, columns) for line in _HEADER.strip().splitlines())
    fields = (_SOP_UID, _SERIES_UID, _STUDY_UID, _FRAME_UID, _PATIENT_ID, _ACCESSION, _STUDY_ID)
    fields += (_PATIENT_NAME, _DATE, _BIRTH_DATE, _SERIES_NUMBER, _INSTANCE_NUMBER, _POSITION, _LOCATION)
    texts: list[bytes] = []
    found: list[str] = []
    at = 0
    while True:
        hits = [(header.find(field.encode(), at), field) for field in fields]
        next_at, field = min(((where, field) for where, field in hits if where >= 0), default=(-1, ""))
        if next_at < 0:
            texts.append(header[at:])
            break
        texts.append(header[at:next_at])
        found.append(field)
        at = next_at + len(field)
    noise = random.Random(rows * 65536 + columns).randbytes(rows * columns * 2)
    return texts, found, _element(0x7FE00010, "OW", noise)


def _file_meta() -> bytes:
    group = b"".join(
        (
            _element(0x00020001, "OB", b"\0\1"),
            _element(0x00020002, "UI", CT_IMAGE_STORAGE.encode()),
            _element(0x00020003, "UI", _SOP_UID.encode()),
            _element(0x00020010, "UI", EXPLICIT_VR_LITTLE_ENDIAN.encode()),
            _element(0x00020012, "UI", b"2.25.1234567890"),
            _element(0x00020013, "SH", b"SYNTHETIC_CT_1"),
            _element(0x00020016, "AE", b"SYNTHETIC"),
        )
    )
    return bytes(128) + b"DICM" + _element(0x00020000, "UL", struct.pack("<I", len(group))) + group


def _line(line: str, rows: int, columns: int) -> bytes:
    tag_text, vr, *rest = line.split(" ", 2)
    tag = int(tag_text, 16)
    text = rest[0] if rest else ""
    if vr == "SQ":
        return _sequence(tag, int(text.rstrip("u")), undefined=text.endswith("u"))
    if vr in _NUMBERS:
        number = {"rows": rows, "columns": columns}.get(text)
        value = struct.pack(_NUMBERS[vr], float(text) if vr in ("FL", "FD") else number or int(text))
        return _element(tag, vr, value)
    return _element(tag, vr, text.encode("ascii"))


def _sequence(tag: int, size: int, *, undefined: bool) -> bytes:
    """``size`` elements in an item, with a sequence of the same kind inside the larger ones."""
    content = _element(0x00081150, "UI", CT_IMAGE_STORAGE.encode())
    content += _element(0x00081155, "UI", b"2.25.987654321098765432109876543210")
    if size > 2:
        content += b"".join(
            _element(0x00400007 + number, "LO", b"Scheduled step description") for number in range(size - 2)
        )
        content += _sequence(0x0040A170, 2, undefined=undefined)
    length = 0xFFFFFFFF if undefined else len(content)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, length) + content
    if undefined:
        item += struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        header = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF)
        return header + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(item)) + item


def _element(tag: int, vr: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "OW") else b" "
    if vr not in LONG_VRS:
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(value)) + value
