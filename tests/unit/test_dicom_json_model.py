"""One attribute as JSON text: the exact text, and always JSON whatever the bytes."""

from __future__ import annotations

import json
import math
import struct

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE, decoder_for
from isocenter.dicom.json_model import (
    KNOWN_VRS,
    bulk_data_uri,
    fragment,
    inline_binary,
    number_fragment,
    sequence_fragment,
    text_fragment,
)


@pytest.mark.parametrize(
    ("vr", "value", "content"),
    [
        ("PN", b"DOE^JOHN", '"Value":[{"Alphabetic":"DOE^JOHN"}]'),
        (
            "PN",
            b"A^B \\ \\C=D=E",
            '"Value":[{"Alphabetic":"A^B"},null,{"Alphabetic":"C","Ideographic":"D","Phonetic":"E"}]',
        ),
        ("PN", b"==X", '"Value":[{"Phonetic":"X"}]'),
        ("PN", b"= ", '"Value":[null]'),
        ("PN", b'O"NEIL', '"Value":[{"Alphabetic":"O\\"NEIL"}]'),
        ("PN", b"M\xc3\xbcller", '"Value":[{"Alphabetic":"Müller"}]'),
        ("PN", b"  ", ""),
        ("LO", b"ABC ", '"Value":["ABC"]'),
        ("LO", b"A\\\\B ", '"Value":["A",null,"B"]'),
        ("LO", b'a"b', '"Value":["a\\"b"]'),
        ("SH", b"", ""),
        ("CS", b"ORIGINAL\\PRIMARY\\AXIAL", '"Value":["ORIGINAL","PRIMARY","AXIAL"]'),
        ("UI", b"1.2.840\0", '"Value":["1.2.840"]'),
        ("LT", b" line one\r\nC:\\temp ", '"Value":[" line one\\r\\nC:\\\\temp"]'),
        ("UR", b"http://x/a\\b", '"Value":["http://x/a\\\\b"]'),
        ("DA", b"20240131", '"Value":["20240131"]'),
        ("IS", b"12 ", '"Value":[12]'),
        ("IS", b" -7\\+8\\007\\\\-0", '"Value":[-7,8,7,null,0]'),
        ("IS", b"1.0\\2E2\\1.5\\abc", '"Value":[1,200,"1.5","abc"]'),
        ("IS", b"9007199254740993", '"Value":["9007199254740993"]'),
        ("DS", b"0.5\\-1.50 ", '"Value":[0.5,-1.50]'),
        ("DS", b"1.\\.5\\+2\\007\\-.5E-3", '"Value":[1,0.5,2,7,-0.5e-3]'),
        ("DS", b"NaN\\inf\\1e999\\1,5\\.\\-", '"Value":["NaN","inf","1e999","1,5",".","-"]'),
        ("DS", b"1_0\\0x1F", '"Value":["1_0","0x1F"]'),
        ("DS", b"9" * 400, f'"Value":["{"9" * 400}"]'),
        ("AT", b"\x10\x00\x20\x00\xe0\x7f\x10\x00", '"Value":["00100020","7FE00010"]'),
        ("AT", b"\x10\x00\x20\x00\xe0", '"Value":["00100020"]'),
        ("US", b"\x00\x02", '"Value":[512]'),
        ("SS", b"\xff\xff\x01\x00", '"Value":[-1,1]'),
        ("US", b"\x01\x00\x02", '"Value":[1]'),
        ("US", b"\x01", ""),
        ("FD", struct.pack("<3d", 0.1, math.nan, -math.inf), '"Value":[0.1,"NaN","-Infinity"]'),
        ("FL", struct.pack("<f", 0.5), '"Value":[0.5]'),
        ("UV", struct.pack("<2Q", 1, 2**64 - 1), '"Value":[1,"18446744073709551615"]'),
        ("OB", b"abc", '"InlineBinary":"YWJj"'),
        ("UN", b"", ""),
        ("SQ", b"", ""),
    ],
)
def test_fragments(vr: str, value: bytes, content: str) -> None:
    attribute = f'"vr":"{vr}"' + (f",{content}" if content else "")
    assert fragment(0x00100010, vr, value, DEFAULT_REPERTOIRE) == f'"00100010":{{{attribute}}}'


def test_text_is_decoded_by_the_declared_sets() -> None:
    decoder = decoder_for(b"\\ISO 2022 IR 87")
    value = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    assert fragment(0x00100010, "PN", value, decoder) == (
        '"00100010":{"vr":"PN","Value":[{"Alphabetic":"Yamada^Tarou","Ideographic":"山田^太郎"}]}'
    )


def test_an_unknown_vr_becomes_un() -> None:
    assert (
        fragment(0x00091001, "??", b"\1", DEFAULT_REPERTOIRE)
        == '"00091001":{"vr":"UN","InlineBinary":"AQ=="}'
    )
    assert fragment(0x00091001, '","', b"", DEFAULT_REPERTOIRE) == '"00091001":{"vr":"UN"}'


def test_fragments_from_values() -> None:
    assert (
        text_fragment(0x00080061, "CS", ["CT", "", "MR"]) == '"00080061":{"vr":"CS","Value":["CT",null,"MR"]}'
    )
    assert text_fragment(0x00080061, "CS", []) == '"00080061":{"vr":"CS"}'
    assert text_fragment(0x00080061, "CS", [""]) == '"00080061":{"vr":"CS"}'
    assert text_fragment(0x00100010, "PN", ["A=B"]) == (
        '"00100010":{"vr":"PN","Value":[{"Alphabetic":"A","Ideographic":"B"}]}'
    )
    assert text_fragment(0x00200013, "IS", ["007"]) == '"00200013":{"vr":"IS","Value":[7]}'
    assert number_fragment(0x00201208, "IS", [3, None]) == '"00201208":{"vr":"IS","Value":[3,null]}'
    assert number_fragment(0x00280030, "DS", [math.inf, 2**60]) == (
        '"00280030":{"vr":"DS","Value":["Infinity","1152921504606846976"]}'
    )
    assert inline_binary(0x7FE00010, "OW", b"") == '"7FE00010":{"vr":"OW"}'
    assert bulk_data_uri(0x7FE00010, "OW", 'a"b') == '"7FE00010":{"vr":"OW","BulkDataURI":"a\\"b"}'
    assert sequence_fragment(0x00081115, ["{}", "{}"]) == '"00081115":{"vr":"SQ","Value":[{},{}]}'
    assert sequence_fragment(0x00081115, []) == '"00081115":{"vr":"SQ"}'


def test_text_with_lone_surrogates_is_still_json() -> None:
    (attribute,) = orjson.loads("{" + text_fragment(0x00100020, "LO", ["a\ud800b"]) + "}").values()
    assert attribute["Value"] == ["a\N{REPLACEMENT CHARACTER}b"]


@given(
    st.sampled_from([*sorted(KNOWN_VRS), "??"]),
    st.binary(max_size=64),
    st.sampled_from([b"", b"ISO_IR 100", b"ISO_IR 192", b"GB18030", b"ISO 2022 IR 13\\ISO 2022 IR 87"]),
)
@example("DS", b"1e400", b"")
@example("LT", b"\x7f\xe2\x80\xa8\n", b"ISO_IR 192")
def test_any_value_gives_json_on_one_line(vr: str, value: bytes, declared: bytes) -> None:
    text = fragment(0x00091001, vr, value, decoder_for(declared))
    assert "\n" not in text
    assert "\r" not in text
    attribute = orjson.loads("{" + text + "}")["00091001"]
    assert attribute.keys() <= {"vr", "Value", "InlineBinary"}
    assert len(attribute) <= 2


@given(st.text("0123456789+-.eE_ ", max_size=20))
def test_numeric_strings_keep_their_value_or_stay_strings(text: str) -> None:
    for vr in ("DS", "IS"):
        attribute = orjson.loads("{" + fragment(1, vr, text.encode(), DEFAULT_REPERTOIRE) + "}")["00000001"]
        for written in attribute.get("Value", []):
            if isinstance(written, str):
                assert written == text.strip()
            elif written is not None:
                assert float(written) == float(text)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_doubles_are_exact(numbers: list[float]) -> None:
    text = fragment(1, "FD", struct.pack(f"<{len(numbers)}d", *numbers), DEFAULT_REPERTOIRE)
    assert json.loads("{" + text + "}")["00000001"].get("Value", []) == numbers
