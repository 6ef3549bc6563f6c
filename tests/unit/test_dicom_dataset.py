"""Data sets read and written: each encoding, ranges, the long-value rule, what is refused."""

from __future__ import annotations

import io
import struct

import pydicom
import pytest
from dicom_bytes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG_BASELINE, element, item, sequence
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.dictionary import is_ambiguous, keyword_of, name_of, tag_of, vr_of
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.part10 import encode_file_meta
from isocenter.dicom.scanner import ScanError
from isocenter.dicom.transfer_syntaxes import TRANSFER_SYNTAXES, lookup
from isocenter.kit.errors import InvalidInput

NATIVE = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
IDENTIFIER = [
    Element(0x00080005, "CS", b"ISO_IR 192"),
    Element(0x00080052, "CS", b"STUDY "),
    Element(0x00081115, "SQ", [[Element(0x00081150, "UI", b"1.2\0")], []]),
    Element(0x00100020, "LO", b"P1"),
    Element(0x0020000D, "UI", b""),
    Element(0x00280010, "US", b"\0\2"),
    Element(0x00280009, "AT", b"\x18\0\x63\x10"),
    Element(0x00720076, "FL", struct.pack("<f", 1.5)),
    Element(0x00720074, "FD", struct.pack("<d", -2.5)),
]


def by_tag(elements: list[Element]) -> list[Element]:
    return sorted(elements, key=lambda element: element.tag)


@pytest.mark.parametrize("uid", NATIVE)
def test_written_and_read_again(uid: str) -> None:
    assert read_dataset(write_dataset(IDENTIFIER, uid), uid) == by_tag(IDENTIFIER)


@pytest.mark.parametrize("uid", NATIVE)
def test_pydicom_reads_what_we_write(uid: str) -> None:
    head = encode_file_meta(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid=uid)
    read = pydicom.dcmread(io.BytesIO(head + write_dataset(IDENTIFIER, uid)))
    assert read.PatientID == "P1"
    assert read.Rows == 512
    assert read.FrameIncrementPointer == 0x00181063
    assert read[0x00720076].value == 1.5
    assert read[0x00720074].value == -2.5
    assert [item.get("ReferencedSOPClassUID") for item in read.ReferencedSeriesSequence] == ["1.2", None]


values = st.sampled_from(("LO", "PN", "US", "UL", "FD", "OB", "OW", "UN", "UT", "AT", "OV")).flatmap(
    lambda vr: st.tuples(st.just(vr), st.binary(max_size=5).map(lambda word: word * 8))
)


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 0) -> list[Element]:
    elements = []
    for tag in sorted(
        draw(st.sets(st.integers(0x00090001, 0x000900FF).map(lambda low: low | 0x1000), max_size=4))
    ):
        if depth < 3 and draw(st.booleans()):
            elements.append(Element(tag, "SQ", draw(st.lists(data_sets(depth + 1), max_size=2))))
        else:
            vr, value = draw(values)
            elements.append(Element(tag, vr, value))
    return elements


@given(data_sets(), st.sampled_from((EXPLICIT, BIG_ENDIAN, DEFLATED)))
def test_any_data_set_survives(elements: list[Element], uid: str) -> None:
    assert read_dataset(write_dataset(elements, uid), uid) == elements


@given(data_sets())
def test_private_sequences_survive_implicit_vr(elements: list[Element]) -> None:
    """VRs are lost there, but not what is a sequence."""

    def shape(items: list[Element]) -> list[object]:
        return [
            (one.tag, [shape(item) for item in one.value] if isinstance(one.value, list) else one.value)
            for one in items
        ]

    assert shape(read_dataset(write_dataset(elements, IMPLICIT), IMPLICIT)) == shape(elements)


def test_values_become_ranges() -> None:
    data = b"".join(
        (
            element(0x00080060, "CS", b"CT"),
            element(0x00420011, "OB", bytes(range(200))),
            element(0x7FE00010, "OW", bytes(10)),
        )
    )
    modality, document, pixels = read_dataset(data, EXPLICIT, bulk_threshold_bytes=100)
    assert modality.value == b"CT"
    assert isinstance(document.value, BulkRange)
    assert data[document.value.offset :][: document.value.length] == bytes(range(200))
    assert pixels.value == BulkRange(len(data) - 10, 10)
    assert read_dataset(data, EXPLICIT)[1].value == bytes(range(200))
    assert [one.tag for one in read_dataset(data, EXPLICIT, stop_before_pixel_data=True)] == [
        0x00080060,
        0x00420011,
    ]
    assert write_dataset([modality, document, pixels], EXPLICIT, source=data) == data
    with pytest.raises(InvalidInput) as caught:
        write_dataset([document], EXPLICIT)
    assert caught.value.code == "bulk-data-missing"


def test_encapsulated_pixel_data_is_a_range_of_items() -> None:
    data = sequence(0x7FE00010, item(b""), item(b"abcd"), undefined=True, vr="OB")
    [pixels] = read_dataset(data, JPEG_BASELINE)
    assert pixels.value == BulkRange(12, 20, encapsulated=True)
    assert write_dataset([pixels], JPEG_BASELINE, source=data) == data


def test_fragments_inside_an_item_are_a_range_too() -> None:
    icon = sequence(0x7FE00010, item(b""), item(b"abcd"), undefined=True, vr="OB")
    data = sequence(0x00880200, item(icon, undefined=True), undefined=True)
    [[pixels]] = read_dataset(data, JPEG_BASELINE)[0].value
    assert isinstance(pixels.value, BulkRange)
    assert pixels.value.encapsulated


def test_deflated_data_sets_have_no_ranges() -> None:
    data = write_dataset([Element(0x7FE00010, "OW", bytes(1000))], DEFLATED)
    assert len(data) < 100
    assert len(data) % 2 == 0
    assert read_dataset(data, DEFLATED, bulk_threshold_bytes=10) == [Element(0x7FE00010, "OW", bytes(1000))]


def test_value_too_long_for_its_vr_is_written_as_un() -> None:
    long = Element(0x00181020, "LO", b"x" * 70_000)
    data = write_dataset([long], EXPLICIT)
    assert data[:12] == struct.pack("<HH2sHI", 0x0018, 0x1020, b"UN", 0, 70_000)
    # The dictionary knows better when it is read again (PS3.5 §6.2.2).
    assert read_dataset(data, EXPLICIT) == [long]
    assert read_dataset(write_dataset([long], IMPLICIT), IMPLICIT) == [long]


def test_un_that_only_claims_to_be_a_sequence_stays_un() -> None:
    data = element(0x00081115, "UN", b"no items at all!")
    assert read_dataset(data, EXPLICIT) == [Element(0x00081115, "UN", b"no items at all!")]


@pytest.mark.parametrize(
    ("vr", "pad"), [("UI", b"\0"), ("OB", b"\0"), ("LO", b" "), ("UT", b" "), ("UN", b"\0")]
)
def test_odd_values_are_padded(vr: str, pad: bytes) -> None:
    assert write_dataset([Element(0x00091001, vr, b"abc")], EXPLICIT).endswith(b"abc" + pad)


def test_tags_are_written_in_ascending_order_without_group_lengths() -> None:
    elements = [
        Element(0x00100020, "LO", b"P1"),
        Element(0x00080000, "UL", bytes(4)),
        Element(0x00080060, "CS", b"CT"),
    ]
    assert [one.tag for one in read_dataset(write_dataset(elements, EXPLICIT), EXPLICIT)] == [
        0x00080060,
        0x00100020,
    ]


def test_pixel_representation_decides_about_signs_in_implicit_vr() -> None:
    def vrs(signed: bytes) -> list[str]:
        data = element(0x00280103, "", signed, implicit=True) + element(
            0x00280107, "", b"\1\0", implicit=True
        )
        return [one.vr for one in read_dataset(data, IMPLICIT)]

    assert vrs(b"\0\0") == ["US", "US"]
    assert vrs(b"\1\0") == ["US", "SS"]


def test_item_longer_than_its_sequence_is_malformed() -> None:
    overrun = struct.pack("<HHI", 0xFFFE, 0xE000, 50) + element(0x00080100, "SH", b"CODE")
    data = element(0x00081115, "SQ", overrun) + bytes(200)
    with pytest.raises(ScanError) as caught:
        read_dataset(data, EXPLICIT)
    assert caught.value.code == "malformed"


def test_writing_too_deep_is_refused() -> None:
    elements: list[Element] = []
    for _ in range(100):
        elements = [Element(0x00081115, "SQ", [elements])]
    with pytest.raises(InvalidInput) as caught:
        write_dataset(elements, EXPLICIT)
    assert caught.value.code == "too-deep"


# The dictionary and the transfer syntaxes


@pytest.mark.parametrize("attribute", ["PatientName", "00100010", "0010,0010", "(0010,0010)"])
def test_tag_of(attribute: str) -> None:
    assert tag_of(attribute) == 0x00100010


@pytest.mark.parametrize(
    "attribute", ["", "Patient Name", "0010001", "001000100", "0010;0010", "NoSuchThing"]
)
def test_unknown_attributes(attribute: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        tag_of(attribute)
    assert caught.value.code == "unknown-attribute"


def test_dictionary_entries() -> None:
    assert (keyword_of(0x00100010), name_of(0x00100010), vr_of(0x00100010)) == (
        "PatientName",
        "Patient's Name",
        "PN",
    )
    assert (keyword_of(0x60023000), vr_of(0x60FE3000), keyword_of(0x50040005)) == (
        "OverlayData",
        "OW",
        "CurveDimensions",
    )
    assert (vr_of(0x00280106), vr_of(0x7FE00010), vr_of(0x00283006)) == ("US", "OW", "OW")
    assert is_ambiguous(0x00280106)
    assert not is_ambiguous(0x00280010)
    assert (vr_of(0x00090010), vr_of(0x00091001), vr_of(0x00090000), vr_of(0x00090001)) == (
        "LO",
        "UN",
        "UL",
        "UN",
    )
    assert (keyword_of(0x00091001), name_of(0x12345678), vr_of(0x12345678)) == ("", "", "UN")


def test_every_transfer_syntax_that_pydicom_knows() -> None:
    from pydicom.uid import UID, UID_dictionary

    theirs = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert theirs <= set(TRANSFER_SYNTAXES)
    for uid in theirs:
        ours, known = lookup(uid), UID(uid)
        assert ours is not None
        assert ours.retired is known.is_retired
        if known.is_transfer_syntax and not ours.retired and ".7." not in uid:
            assert (ours.implicit_vr, ours.big_endian, ours.deflated) == (
                known.is_implicit_VR,
                not known.is_little_endian,
                # PS3.5 A.7 and A.11 say of these two what pydicom says of the plain one alone.
                known.is_deflated or uid in ("1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"),
            )


def test_transfer_syntaxes_to_tell_apart() -> None:
    encapsulated = lookup("1.2.840.10008.1.2.4.202")
    assert encapsulated is not None
    assert encapsulated.encapsulated
    assert not encapsulated.lossy
    ge = lookup("1.2.840.113619.5.2")
    assert ge is not None
    assert (ge.implicit_vr, ge.big_endian, ge.big_endian_pixels) == (True, False, True)
    assert lookup("1.2.3") is None
