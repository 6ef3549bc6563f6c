"""Whole data sets as DICOM JSON: against pydicom, there and back, and objects that break the model."""

from __future__ import annotations

import base64
import logging
import warnings
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE, UNICODE, decoder_for
from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.dictionary import is_private
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.json_dataset import (
    NESTING_MAX,
    BulkPath,
    dataset_json,
    element_from_json,
    elements_from_json,
)
from isocenter.dicom.opening import open_data_set
from isocenter.dicom.scan_limits import DEFAULT_LIMITS, ScanError
from isocenter.dicom.value_representations import padded
from isocenter.kit.errors import InvalidInput
from services.dicom_files import pydicom_files, shared_files

CHARSET_FILES = sorted((Path(pydicom.data.__file__).parent / "charset_files").glob("*.dcm"))
FILES = [*pydicom_files(), *shared_files(), *CHARSET_FILES]

# Cut short on purpose; pydicom shows what there is, our reader refuses.
INCOMPLETE = {
    "no_meta",  # begins with a stray byte
    "MR_truncated",
    "rtplan_truncated",
    "emri_small_jpeg_2k_lossless_too_short",
}
# An IS of "1A", which pydicom refuses to show.
PYDICOM_REFUSES = {"badVR"}
PIXELS = {"7FE00008", "7FE00009", "7FE00010"}


def read(path: Path) -> tuple[list[Element], bool]:
    """The elements, and whether the file is big endian."""
    data = path.read_bytes()
    opening = open_data_set(data, None, DEFAULT_LIMITS)
    if opening.deflated:
        data = data[opening.header_size :]
        return read_dataset(data, opening.transfer_syntax_uid), False
    return (
        read_dataset(data[opening.header_size :], opening.transfer_syntax_uid),
        opening.encoding.big_endian,
    )


def differences(ours: dict[str, Any], theirs: dict[str, Any], big_endian: bool) -> list[str]:
    """Tags that differ for no reason listed here."""
    found = []
    for tag in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(tag), theirs.get(tag)
        if one is not None and other is not None and one["vr"] == other["vr"] == "SQ":
            items = zip(one.get("Value", []), other.get("Value", []), strict=True)
            found += [d for item in items for d in differences(*item, big_endian)]
        elif not _justified(tag, one, other, big_endian):
            found.append(tag)
    return found


def _justified(tag: str, ours: Any, theirs: Any, big_endian: bool) -> bool:
    if ours is None:
        return tag.endswith("0000")  # F.2.2: group lengths shall not be included
    if theirs is None or tag in PIXELS:
        return tag in PIXELS  # left where they are: a BulkRange without an address
    if ours["vr"] == "UN" and is_private(int(tag, 16)):
        return True  # pydicom looks into a dictionary of private tags
    if big_endian and ours["vr"] == "OW":
        return True  # F.2.7: little endian; pydicom leaves the order of the file
    return _as_we_write(theirs) == ours


def _as_we_write(theirs: dict[str, Any]) -> dict[str, Any]:
    values = theirs.get("Value")
    if values is None:
        return theirs
    if theirs["vr"] == "PN":  # pydicom writes empty groups, F.2.2 wants the non-empty ones
        names = [{group: text.rstrip() for group, text in name.items() if text.rstrip()} for name in values]
        return {"vr": "PN", "Value": [name or None for name in names]}
    # F.2.5: null for an empty value. PS3.5 §6.2: blanks before a backslash are padding too.
    trimmed = [value.rstrip(" ") if isinstance(value, str) else value for value in values]
    return {"vr": theirs["vr"], "Value": [None if value == "" else value for value in trimmed]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_real_files_give_what_pydicom_gives(path: Path) -> None:
    if path.stem in INCOMPLETE:
        with pytest.raises(ScanError):
            read(path)
        return
    elements, big_endian = read(path)
    text = dataset_json(elements)
    assert b"\n" not in text
    ours = orjson.loads(text)
    assert list(ours) == sorted(ours)
    if path.stem in PYDICOM_REFUSES:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many of these files are broken on purpose
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        theirs = orjson.loads(pydicom.dcmread(path, force=True).to_json(dump_handler=orjson.dumps))
    assert differences(ours, theirs, big_endian) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_json_read_back_gives_the_same_json(path: Path) -> None:
    if path.stem in INCOMPLETE:
        return
    elements = [e for e in read(path)[0] if not isinstance(e.value, BulkRange)]
    once = orjson.loads(dataset_json(elements))
    again = elements_from_json(once)
    assert [e.tag for e in again] == sorted(e.tag for e in again)
    twice = orjson.loads(dataset_json(again))
    without_declarations = [_without(dictionary, "00080005") for dictionary in (once, twice)]
    assert without_declarations[0] == without_declarations[1]


def _without(data_set: dict[str, Any], tag: str) -> dict[str, Any]:
    return {
        key: {**attribute, "Value": [_without(item, tag) for item in attribute["Value"]]}
        if attribute["vr"] == "SQ" and "Value" in attribute
        else _with_even_length(attribute)
        for key, attribute in data_set.items()
        if key != tag
    }


def _with_even_length(attribute: dict[str, Any]) -> dict[str, Any]:
    """Two of the files have values of odd length, which come back padded (PS3.5 §7.1.1)."""
    if "InlineBinary" not in attribute:
        return attribute
    value = base64.b64decode(attribute["InlineBinary"])
    return {**attribute, "InlineBinary": value + b"\0" * (len(value) % 2)}


def test_the_whole_text_of_a_small_data_set() -> None:
    item = [Element(0x00080005, "CS", b"ISO_IR 144"), Element(0x00080104, "LO", b"\xbb\xee")]
    elements = [
        Element(0x00400275, "SQ", [item, []]),
        Element(0x00100010, "PN", b"M\xfcller"),
        Element(0x00100000, "UL", b"\4\0\0\0"),
        Element(0x00080005, "CS", b"ISO_IR 100"),
        Element(0x00020010, "UI", b"1.2\0"),
        Element(0x7FE00010, "OW", BulkRange(8, 4)),
    ]
    assert dataset_json(elements).decode() == (
        '{"00080005":{"vr":"CS","Value":["ISO_IR 100"]},'
        '"00100010":{"vr":"PN","Value":[{"Alphabetic":"Müller"}]},'
        '"00400275":{"vr":"SQ","Value":[{"00080005":{"vr":"CS","Value":["ISO_IR 144"]},'
        '"00080104":{"vr":"LO","Value":["Лю"]}},{}]},'
        '"7FE00010":{"vr":"OW"}}'
    )
    assert dataset_json([]) == b"{}"


def test_items_inherit_the_character_set() -> None:
    elements = [
        Element(0x00080005, "CS", b"ISO_IR 144"),
        Element(0x00400275, "SQ", [[Element(0x00080104, "LO", b"\xbb\xee")]]),
    ]
    assert "Лю" in dataset_json(elements).decode()
    assert "Лю" in dataset_json(elements[1:], decoder_for(b"ISO_IR 144")).decode()


def test_bulk_data_gets_its_address_from_the_caller() -> None:
    asked: list[tuple[BulkPath, BulkRange | bytes]] = []

    def address(path: BulkPath, value: BulkRange | bytes) -> str:
        asked.append((path, value))
        return f"bulk/{len(asked)}"

    icon = Element(0x7FE00010, "OB", b"12345678")
    elements = [
        Element(0x00100020, "LO", b"12345678"),
        Element(0x00880200, "SQ", [[], [icon]]),
        Element(0x00281201, "OW", b"1234"),
        Element(0x7FE00010, "OW", BulkRange(8, 4)),
    ]
    written = orjson.loads(dataset_json(elements, bulk_uri=address, inline_limit_bytes=4))
    assert written["00880200"]["Value"][1]["7FE00010"] == {"vr": "OB", "BulkDataURI": "bulk/1"}
    assert written["7FE00010"] == {"vr": "OW", "BulkDataURI": "bulk/2"}
    assert written["00281201"] == {"vr": "OW", "InlineBinary": "MTIzNA=="}
    assert written["00100020"]["Value"] == ["12345678"]
    assert asked == [((0x00880200, 1, 0x7FE00010), b"12345678"), ((0x7FE00010,), BulkRange(8, 4))]


def test_un_becomes_what_the_dictionary_knows() -> None:
    implicit_item = b"\xfe\xff\x00\xe0\x0a\0\0\0\x08\0\x00\x01\x02\0\0\0T1"
    elements = [
        Element(0x00080100, "UN", b"T1"),
        Element(0x00082218, "UN", implicit_item),
        Element(0x00083010, "UN", b"1.2\0"),
        Element(0x00089215, "UN", b"no sequence"),
        Element(0x00091001, "UN", b"\1\2"),
        Element(0x00280106, "UN", b"\1\2"),
    ]
    written = orjson.loads(dataset_json(elements))
    assert written["00080100"] == {"vr": "SH", "Value": ["T1"]}
    assert written["00082218"] == {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["T1"]}}]}
    assert written["00083010"] == {"vr": "UI", "Value": ["1.2"]}
    assert written["00089215"]["vr"] == "UN"
    assert written["00091001"]["vr"] == "UN"
    assert written["00280106"]["vr"] == "UN"  # US or SS: the bytes do not say


def test_nesting_is_bounded_both_ways() -> None:
    innermost: list[Element] = []
    for _ in range(NESTING_MAX + 2):
        innermost = [Element(0x00400275, "SQ", [innermost])]
    with pytest.raises(InvalidInput, match="nested"):
        dataset_json(innermost)
    data_set: dict[str, Any] = {}
    for _ in range(NESTING_MAX + 2):
        data_set = {"00400275": {"vr": "SQ", "Value": [data_set]}}
    with pytest.raises(InvalidInput, match="nested"):
        elements_from_json(data_set)


def test_text_comes_back_in_the_encoding_asked_for() -> None:
    data_set = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller", "Phonetic": "x"}, None]},
        "00400275": {"vr": "SQ", "Value": [{"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}}, None]},
    }
    assert elements_from_json(data_set) == [
        Element(0x00080005, "CS", b"ISO_IR 192"),
        Element(0x00100010, "PN", "Müller==x\\ ".encode()),
        Element(0x00400275, "SQ", [[], []]),
    ]
    latin = elements_from_json(data_set, encoder=decoder_for(b"ISO_IR 100"))
    assert latin[:2] == [
        Element(0x00080005, "CS", b"ISO_IR 100"),
        Element(0x00100010, "PN", "Müller==x\\".encode("latin_1")),
    ]


def test_ascii_leaves_the_declaration_alone() -> None:
    data_set = {"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}, "00100020": {"vr": "LO", "Value": ["A"]}}
    assert elements_from_json(data_set) == [
        Element(0x00080005, "CS", b"ISO_IR 100"),
        Element(0x00100020, "LO", b"A "),
    ]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ({"vr": "UI", "Value": ["1.2"]}, b"1.2\0"),
        ({"vr": "CS", "Value": ["A", None, "B"]}, b"A\\\\B"),
        ({"vr": "DS", "Value": [0.1, 1, "2.50", None]}, b"0.1\\1\\2.50\\"),
        ({"vr": "DS", "Value": [0.30000000000000004, -1.2345678901234567e-100]}, b"0.3\\-1.23456789e-100"),
        ({"vr": "IS", "Value": [12, "7", 3.0]}, b"12\\7\\3"),
        ({"vr": "US", "Value": [1, 65535]}, b"\1\0\xff\xff"),
        ({"vr": "FD", "Value": ["Infinity"]}, b"\0\0\0\0\0\0\xf0\x7f"),
        ({"vr": "UV", "Value": ["18446744073709551615"]}, b"\xff" * 8),
        ({"vr": "AT", "Value": ["7FE00010"]}, b"\xe0\x7f\x10\0"),
        ({"vr": "OB", "InlineBinary": "YWJj"}, b"abc\0"),
        ({"vr": "OB", "InlineBinary": ["YWJj"]}, b"abc\0"),
        ({"vr": "PN", "Value": ["DOE^JOHN"]}, b"DOE^JOHN"),
        ({"vr": "LT"}, b""),
        ({"vr": "LT", "Value": []}, b""),
        ({"vr": "LT", "Value": None}, b""),
    ],
)
def test_values_of_attributes(attribute: dict[str, object], value: bytes) -> None:
    element = element_from_json(0x00091001, attribute)
    assert element.value == padded(value, str(attribute["vr"]))


@pytest.mark.parametrize(
    ("data_set", "pointer"),
    [
        ([], "the top"),
        ({"PatientName": {"vr": "PN"}}, "the top"),
        ({"0010 010": {"vr": "PN"}}, "the top"),
        ({"00100010": "DOE"}, "/00100010"),
        ({"00100010": {}}, "/00100010/vr"),
        ({"00100010": {"vr": "XX"}}, "/00100010/vr"),
        ({"00100010": {"vr": ["PN"]}}, "/00100010/vr"),
        ({"00100010": {"vr": "PN", "Value": "DOE"}}, "/00100010/Value"),
        ({"00100010": {"vr": "PN", "Value": [1]}}, "/00100010/Value"),
        ({"00100010": {"vr": "PN", "Value": [{"Alphabetic": 1}]}}, "/00100010/Value"),
        ({"00100010": {"vr": "LO", "Value": [["DOE"]]}}, "/00100010/Value"),
        ({"00100010": {"vr": "IS", "Value": [1.5]}}, "/00100010/Value"),
        ({"00100010": {"vr": "IS", "Value": [True]}}, "/00100010/Value"),
        ({"00100010": {"vr": "US", "Value": [70000]}}, "/00100010/Value"),
        ({"00100010": {"vr": "US", "Value": [None]}}, "/00100010/Value"),
        ({"00100010": {"vr": "FL", "Value": [1e300]}}, "/00100010/Value"),
        ({"00100010": {"vr": "FL", "Value": ["DOE"]}}, "/00100010/Value"),
        ({"00100010": {"vr": "AT", "Value": ["DOE"]}}, "/00100010/Value"),
        ({"00100010": {"vr": "OB", "Value": [1]}}, "/00100010/Value"),
        ({"00100010": {"vr": "OB", "InlineBinary": "D?E"}}, "/00100010/InlineBinary"),
        ({"00100010": {"vr": "OB", "InlineBinary": "YWJj", "BulkDataURI": "x"}}, "/00100010"),
        ({"00100010": {"vr": "OB", "BulkDataURI": 1}}, "/00100010/BulkDataURI"),
        ({"00100010": {"vr": "OB", "BulkDataURI": "x"}}, "/00100010/BulkDataURI"),
        (
            {"00400275": {"vr": "SQ", "Value": [{}, {"00100010": {"vr": "??"}}]}},
            "/00400275/Value/1/00100010/vr",
        ),
        ({"00400275": {"vr": "SQ", "Value": [1]}}, "/00400275/Value/0"),
        ({"7FE00010": {"vr": "OB"}, "7fe00010": {"vr": "OB"}}, "/7FE00010"),
    ],
)
def test_what_breaks_the_model_is_named_by_a_pointer(data_set: object, pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        elements_from_json(data_set)
    assert refused.value.detail.endswith(f"(at {pointer})")
    assert "DOE" not in refused.value.detail


def test_bulk_data_is_fetched_by_the_callers_hand() -> None:
    data_set = {"00880200": {"vr": "SQ", "Value": [{"7FE00010": {"vr": "OB", "BulkDataURI": "x/y"}}]}}
    elements = elements_from_json(data_set, resolve_bulk=lambda path, uri: f"{path}{uri}".encode())
    assert elements[0].value == [[Element(0x7FE00010, "OB", b"(8913408, 0, 2145386512)x/y")]]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["00100010", "vr", "Value", "Alphabetic", "InlineBinary", "x"]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(st.sampled_from(["PN", "LO", "DS", "IS", "US", "FD", "AT", "OB", "SQ", "UV", "XX"]), JSON_VALUES)
def test_any_json_is_read_or_refused(vr: str, value: object) -> None:
    try:
        elements = elements_from_json({"00100010": {"vr": vr, "Value": value}})
    except InvalidInput:
        return
    orjson.loads(dataset_json(elements, UNICODE))


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\\\0", exclude_categories=["Cs"]), max_size=10), max_size=4
    )
)
def test_text_survives_the_way_through_json_and_bytes(values: list[str]) -> None:
    attribute = {"vr": "UC", "Value": [value.rstrip(" ") or None for value in values]}
    (element,) = [e for e in elements_from_json({"00100010": attribute}) if e.tag == 0x00100010]
    assert isinstance(element.value, bytes)
    read_back = UNICODE.decode_multi(element.value, "UC")
    assert read_back == [value or "" for value in attribute["Value"]] or not any(attribute["Value"])


def test_nothing_of_the_default_repertoire_needs_a_declaration() -> None:
    assert orjson.loads(dataset_json([Element(0x00100020, "LO", b"A ")], DEFAULT_REPERTOIRE)) == {
        "00100020": {"vr": "LO", "Value": ["A"]}
    }
