"""Files out of metadata and ranges (PS3.10 §7, PS3.5 A.4), and XML read back (PS3.19 A.1)."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.composing import Piece, PixelParts, compose_file
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.json_dataset import elements_from_json
from isocenter.dicom.native_model import native_xml
from isocenter.dicom.native_model_reader import read_native_xml
from isocenter.dicom.tags import PIXEL_DATA
from isocenter.kit.errors import InvalidInput, TooLarge

EXPLICIT, HTJ2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.201"
PIXELS = Element(PIXEL_DATA, "OW", BulkRange(0, 0))


def file_of(pieces: list[Piece], source: bytes) -> pydicom.FileDataset:
    content = b"".join(
        piece if isinstance(piece, bytes) else source[piece.offset : piece.offset + piece.length]
        for piece in pieces
    )
    return pydicom.dcmread(io.BytesIO(content))


def test_ranges_in_and_out_of_sequences() -> None:
    source = bytes(range(100))
    inner = [Element(0x00420011, "OB", BulkRange(10, 5)), Element(0x00080060, "CS", b"CT")]
    elements = [
        Element(0x00281201, "OW", BulkRange(0, 10)),
        Element(0x00081115, "SQ", [[Element(0x00081199, "SQ", [inner, []])], []]),
        Element(0x00080018, "UI", b"1.2.3"),
        Element(0x00204000, "LT", BulkRange(50, 3)),
    ]
    found = file_of(compose_file(elements, EXPLICIT), source)
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == "1.2.3"
    assert found.RedPaletteColorLookupTableData == source[:10]
    item = found.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert (item.EncapsulatedDocument, item.Modality) == (source[10:15] + b"\0", "CT")
    assert found.ImageComments == source[50:53].decode()
    assert len(found.ReferencedSeriesSequence[1]) == 0


def test_frames_too_far_apart_for_a_basic_table() -> None:
    """Offsets of more than 32 bits (PS3.5 A.4): nothing of it is in memory."""
    half = 1 << 31
    pieces = compose_file(
        [PIXELS], HTJ2K, PixelParts([BulkRange(half * n, half - 1) for n in range(4)], True)
    )
    header = b"".join(piece for piece in pieces[:1] if isinstance(piece, bytes))
    offsets = struct.pack("<4Q", *(number * (half + 8) for number in range(4)))
    assert b"\xe0\x7f\x01\x00OV\0\0\x20\0\0\0" + offsets in header
    assert b"\xe0\x7f\x02\x00OV\0\0\x20\0\0\0" + struct.pack("<4Q", *[half] * 4) in header
    assert b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0" in header, (
        "the basic table is empty"
    )
    assert [piece for piece in pieces if isinstance(piece, BulkRange)] == [
        BulkRange(half * number, half - 1) for number in range(4)
    ]


def test_what_no_element_can_hold() -> None:
    huge = BulkRange(0, 1 << 32)
    with pytest.raises(TooLarge):
        compose_file([Element(0x00420011, "OB", huge)], EXPLICIT)
    with pytest.raises(TooLarge):
        compose_file([PIXELS], HTJ2K, PixelParts([huge], True))
    with pytest.raises(TooLarge):
        compose_file([Element(0x00081115, "SQ", [[Element(0x00420011, "OB", huge)]])], EXPLICIT)


TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\^=\ufffe\uffff"), max_size=12
)
STRINGS = st.lists(TEXT.map(str.strip) | st.none(), max_size=3)
NAMES = st.lists(
    st.none() | st.dictionaries(st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]), TEXT, max_size=3),
    max_size=2,
)
PLAIN = st.fixed_dictionaries(
    {},
    optional={
        "00080008": st.fixed_dictionaries({"vr": st.just("CS"), "Value": STRINGS}),
        "00100010": st.fixed_dictionaries({"vr": st.just("PN"), "Value": NAMES}),
        "00204000": st.fixed_dictionaries({"vr": st.just("LT"), "Value": st.lists(TEXT, max_size=1)}),
        "00280010": st.just({"vr": "US", "Value": [1, 65535]}),
        "00089459": st.just({"vr": "FL", "Value": [0.5, -1e30]}),
        "00209165": st.just({"vr": "AT", "Value": ["7FE00010"]}),
        "00660033": st.just({"vr": "OB", "InlineBinary": "AQIDBA=="}),
        "00090010": st.just({"vr": "LO", "Value": ["ACME"]}),
        "00091001": st.just({"vr": "UN", "InlineBinary": "AAEC"}),
    },
)
DATA_SETS = st.recursive(
    PLAIN,
    lambda inner: st.builds(
        lambda plain, items: {**plain, "00081115": {"vr": "SQ", "Value": items}},
        PLAIN,
        st.lists(inner, max_size=2),
    ),
    max_leaves=6,
)


@given(DATA_SETS)
def test_xml_says_the_same_as_json(data_set: dict[str, Any]) -> None:
    read = read_native_xml(native_xml(data_set))
    assert elements_from_json(without_name_ends(read)) == elements_from_json(without_name_ends(data_set))


def without_name_ends(data_set: dict[str, Any]) -> dict[str, Any]:
    """A private attribute without its creator is nobody's; empty groups of names say nothing."""
    kept = {}
    for tag, attribute in data_set.items():
        if tag == "00091001" and "00090010" not in data_set:
            kept[tag] = attribute
        elif attribute["vr"] == "SQ":
            kept[tag] = {
                "vr": "SQ",
                "Value": [without_name_ends(item or {}) for item in attribute.get("Value", ())],
            }
        else:
            kept[tag] = attribute
    return kept


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for document in (content, b"<NativeDicomModel>" + content + b"</NativeDicomModel>"):
        with contextlib.suppress(InvalidInput):
            read_native_xml(document)


def test_private_attributes_get_the_block_of_their_creator() -> None:
    def attribute(tag: str, creator: str, value: str) -> str:
        head = f'<DicomAttribute tag="{tag}" vr="LO" privateCreator="{creator}">'
        return head + f'<Value number="1">{value}</Value></DicomAttribute>'

    reserved = '<DicomAttribute tag="00090010" vr="LO"><Value number="1">OTHER</Value></DicomAttribute>'
    inner = (
        attribute("00090001", "ACME", "a")
        + attribute("00090002", "ACME", "b")
        + attribute("00090001", "OTHER", "c")
    )
    found = read_native_xml(f"<NativeDicomModel>{inner}{reserved}</NativeDicomModel>".encode())
    assert {tag: one["Value"] for tag, one in found.items()} == {
        "00090010": ["OTHER"],
        "00090011": ["ACME"],
        "00091001": ["c"],
        "00091101": ["a"],
        "00091102": ["b"],
    }
