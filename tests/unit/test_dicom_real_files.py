"""The scanner and the reader against pydicom, on every file that pydicom ships and every shared one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import RawDataElement

from isocenter.dicom.dataset import inflated, read_dataset, write_dataset
from isocenter.dicom.dictionary import tag_of
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.scanner import ScanError, Wanted, scan
from services.dicom_files import shared_data_folder

KEYWORDS = (  # noqa: SIM905
    "SpecificCharacterSet SOPClassUID SOPInstanceUID StudyDate StudyTime AccessionNumber Modality "
    "ReferringPhysicianName StudyDescription SeriesDescription PatientName PatientID IssuerOfPatientID "
    "PatientBirthDate PatientSex StudyInstanceUID SeriesInstanceUID StudyID SeriesNumber InstanceNumber "
    "NumberOfFrames Rows Columns BitsAllocated PixelRepresentation"
).split(" ")
TAGS = [tag_of(keyword) for keyword in KEYWORDS]
PIXEL_TAGS = [0x7FE00008, 0x7FE00009, 0x7FE00010]
WANTED = Wanted(TAGS + PIXEL_TAGS)

# Files that pydicom reads in part, logging that the rest is missing.
TRUNCATED = {"MR_truncated.dcm", "rtplan_truncated.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"}
# Its directory records say to be longer than the file is.
UNREADABLE = {"DICOMDIR-nooffset"}
NOT_DICOM = {"README", "no_meta.dcm"}  # the latter lacks its first byte


def real_files() -> list[Path]:
    folder = Path(pydicom.__file__).parent / "data"
    shipped = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".dcm", "")]
    shared = shared_data_folder()
    return sorted(shipped) + (sorted((shared / "syntaxes").glob("*.dcm")) if shared else [])


FILES = [path for path in real_files() if path.name not in NOT_DICOM]
WHOLE = [path for path in FILES if path.name not in TRUNCATED]
READABLE = [path for path in WHOLE if path.name not in UNREADABLE]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def by_pydicom(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True)


def test_there_are_files() -> None:
    assert len(WHOLE) > 150
    if shared_data_folder() is None:
        pytest.skip("no shared test data here: only pydicom's own files were compared")
    assert len(WHOLE) > 200


@pytest.mark.parametrize("path", WHOLE, ids=name)
def test_scan_finds_what_pydicom_finds(path: Path) -> None:
    data = path.read_bytes()
    found = scan(data, WANTED)
    theirs = by_pydicom(path)
    assert {tag for tag in TAGS if tag in theirs} == set(found.elements)
    for tag, (_, value) in found.elements.items():
        raw = theirs.get_item(tag)
        if isinstance(raw, RawDataElement):
            assert value == little_endian(raw), KEYWORDS[TAGS.index(tag)]
        else:
            # Decoded already, as pydicom does with the character set.
            decoded = "\\".join(
                [raw.value] if isinstance(raw.value, str) else [str(one) for one in raw.value or ()]
            )
            assert (
                value.decode("latin-1").rstrip(" \0").replace("^^", "") == decoded.rstrip(" ") or raw.VM > 1
            )
    pixel_tags = [tag for tag in PIXEL_TAGS if tag in theirs]
    if not pixel_tags:
        assert found.pixel_data is None
        return
    assert found.pixel_data is not None
    assert [found.pixel_data.tag] == pixel_tags
    pixels = inflated(data[found.header_size :]) if found.deflated else data
    ours = pixels[found.pixel_data.offset : found.pixel_data.offset + found.pixel_data.length]
    assert ours == theirs.get_item(pixel_tags[0]).value.removesuffix(b"\xfe\xff\xdd\xe0\0\0\0\0")


@pytest.mark.parametrize("path", [path for path in FILES if path.name in TRUNCATED], ids=name)
def test_truncated_files_are_told(path: Path) -> None:
    with pytest.raises(ScanError) as caught:
        scan(path.read_bytes(), WANTED)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("path", [path for path in WHOLE if path.name in UNREADABLE], ids=name)
def test_lengths_beyond_the_end_are_told(path: Path) -> None:
    data = path.read_bytes()
    found = scan(data, WANTED)
    with pytest.raises(ScanError) as caught:
        read_dataset(data[found.header_size :], found.transfer_syntax_uid)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("path", READABLE, ids=name)
def test_reader_finds_what_pydicom_finds(path: Path) -> None:
    data = path.read_bytes()
    found = scan(data, WANTED)
    body = data[found.header_size :]
    same_elements(read_dataset(body, found.transfer_syntax_uid), by_pydicom(path), body)


def same_elements(ours: Iterable[Element], theirs: pydicom.Dataset, data: bytes) -> None:
    ours = {element.tag: element for element in ours}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert set(ours) == {int(tag) for tag in theirs._dict if tag.group != 2}
        for tag, element in ours.items():
            raw = theirs.get_item(tag)
            if isinstance(element.value, list):
                items = theirs[tag].value
                assert len(items) == len(element.value)
                for our_item, their_item in zip(element.value, items, strict=True):
                    same_elements(our_item, their_item, data)
            elif isinstance(raw, RawDataElement):
                value = element.value
                if isinstance(value, BulkRange):
                    value = data[value.offset : value.offset + value.length]
                    assert value == raw.value.removesuffix(b"\xfe\xff\xdd\xe0\0\0\0\0")
                else:
                    assert value == little_endian(raw, element.vr)


def little_endian(raw: RawDataElement, vr: str | None = None) -> bytes:
    value = raw.value or b""
    words = {
        "US": 2,
        "SS": 2,
        "AT": 2,
        "OW": 2,
        "UL": 4,
        "SL": 4,
        "FL": 4,
        "OF": 4,
        "OL": 4,
        "FD": 8,
        "OD": 8,
    }
    size = words.get(vr or raw.VR or "", 1)
    if raw.is_little_endian or size == 1:
        return value
    return b"".join(value[at : at + size][::-1] for at in range(0, len(value), size))


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", None])
def test_written_and_read_again_is_the_same(uid: str | None) -> None:
    for path in READABLE:
        data = path.read_bytes()
        found = scan(data, WANTED)
        body = data[found.header_size :]
        elements = read_dataset(body, found.transfer_syntax_uid, stop_before_pixel_data=True)
        target = uid or "1.2.840.10008.1.2.1.99"
        again = read_dataset(write_dataset(elements, target, source=body), target)
        assert comparable(again, uid, body) == comparable(elements, uid, body), path


def comparable(elements: Iterable[Element], uid: str | None, body: bytes) -> list[tuple[int, str, object]]:
    """What must survive: not group lengths, nor padding to even length, nor (implicit) VRs nobody wrote."""
    result: list[tuple[int, str, object]] = []
    for element in sorted(elements, key=lambda element: element.tag):
        if element.tag & 0xFFFF == 0:
            continue
        value: object = element.value
        if isinstance(value, bytes):
            value = value + (b"\0" if element.vr in ("UI", "OB", "UN") else b" ") * (len(value) % 2)
        elif isinstance(value, list):
            value = [comparable(item, uid, body) for item in value]
        vr = "" if uid == "1.2.840.10008.1.2" and not isinstance(value, list) else element.vr
        result.append((element.tag, vr, value))
    return result
