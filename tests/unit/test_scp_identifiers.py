"""C-FIND identifiers: what is asked, what is refused, and answers as data sets."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.levels import Level
from isocenter.dicom.scan_limits import ScanError
from isocenter.dimse.net.errors import DimseFailure
from isocenter.doors.scp.finding import AnswerEncoder
from isocenter.doors.scp.identifiers import Asked, Model, parse_identifier
from isocenter.features.archive.query import Match
from isocenter.kit.errors import IsocenterError
from services.scp import EXPLICIT, IMPLICIT, identifier

DEFLATED, BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"


def parse(data: bytes, syntax: str = EXPLICIT, *, patient_root: bool = False) -> Asked:
    model = Model.PATIENT_ROOT if patient_root else Model.STUDY_ROOT
    return parse_identifier(data, syntax, model=model, negotiated=frozenset())


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG])
def test_a_study_query_in_every_encoding(syntax: str) -> None:
    asked = parse(identifier("STUDY", syntax=syntax, t00100020=b"P1", t00100010=b"DOE*"), syntax)
    assert asked.query.level is Level.STUDY
    assert dict(asked.query.matches) == {0x00100020: "P1", 0x00100010: "DOE*"}
    assert asked.keys == ((0x00100010, "PN"), (0x00100020, "LO"), (0x0020000D, "UI"))
    assert asked.all_supported


@pytest.mark.parametrize(
    ("level", "patient_root"),
    [("PATIENT", False), ("", True), ("IMAGES", True), ("study", True), ("STUDY\\SERIES", False)],
)
def test_levels_that_the_model_has_not(level: str, patient_root: bool) -> None:
    with pytest.raises(DimseFailure) as caught:
        parse(identifier(level, t00100020=b"P1"), patient_root=patient_root)
    assert caught.value.status == 0xA900
    assert caught.value.offending_elements == (0x00080052,)
    assert len(caught.value.comment) <= 64


@pytest.mark.parametrize(
    ("level", "key", "supported"),
    [
        ("STUDY", "t00080061", True),  # Modalities in Study
        ("STUDY", "t00201208", True),
        ("STUDY", "t00080060", False),  # Modality is the series' own
        ("SERIES", "t00080060", True),
        ("SERIES", "t00100010", True),
        ("IMAGE", "t00280010", True),
        ("STUDY", "t00111001", False),
        ("STUDY", "t00321060", False),  # Requested Procedure Description
    ],
)
def test_which_keys_are_known_at_which_level(level: str, key: str, supported: bool) -> None:
    asked = parse(identifier(level, **{key: b""}))
    assert asked.all_supported is supported
    assert int(key[1:], 16) in dict(asked.keys)


def test_values_that_are_not_matched_on_are_said_so() -> None:
    assert not parse(identifier("IMAGE", t00280010=b"\0\2")).all_supported
    item = [Element(0x00400007, "LO", b"HEAD")]
    with_item = write_dataset(
        [Element(0x00080052, "CS", b"SERIES"), Element(0x00400275, "SQ", [item])], EXPLICIT
    )
    asked = parse(with_item)
    assert asked.all_supported
    assert asked.query.item_matches == {(0x00400275, 0x00400007): "HEAD"}
    two_items = write_dataset(
        [Element(0x00080052, "CS", b"SERIES"), Element(0x00400275, "SQ", [item, item])], EXPLICIT
    )
    assert not parse(two_items).all_supported
    code = Element(0x00321064, "SQ", [[Element(0x00080100, "SH", b"T-1 ")]])
    nested = write_dataset(
        [Element(0x00080052, "CS", b"SERIES"), Element(0x00400275, "SQ", [[code]])], IMPLICIT
    )
    assert parse(nested, IMPLICIT).query.item_matches == {(0x00400275, 0x00321064, 0x00080100): "T-1"}
    empty_item = write_dataset(
        [Element(0x00080052, "CS", b"SERIES"), Element(0x00400275, "SQ", [[Element(0x00400007, "LO", b"")]])],
        EXPLICIT,
    )
    assert parse(empty_item).all_supported


def test_matching_text_is_read_in_the_requesters_character_set() -> None:
    asked = parse(identifier("STUDY", charset=b"ISO_IR 100", t00100010="MÜLLER*".encode("latin-1")))
    assert asked.query.matches[0x00100010] == "MÜLLER*"
    assert asked.character_sets == b"ISO_IR 100"


@given(st.binary(max_size=300), st.sampled_from([EXPLICIT, IMPLICIT, DEFLATED, BIG]))
def test_any_bytes_are_a_query_or_a_typed_refusal(data: bytes, syntax: str) -> None:
    try:
        asked = parse(data, syntax, patient_root=True)
    except IsocenterError:
        return
    assert asked.level in {"PATIENT", "STUDY", "SERIES", "IMAGE"}


def bomb() -> bytes:
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return compressor.compress(bytes(64 << 20)) + compressor.flush()


@pytest.mark.parametrize(
    ("data", "syntax"),
    [
        (b"".join(struct.pack("<HHI", 8, number, 0) for number in range(0x1001, 0xF000)), IMPLICIT),
        (struct.pack("<HHIHHI", 0x40, 0x275, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * 100_000, IMPLICIT),
        (bomb(), DEFLATED),
    ],
    ids=["too many keys", "nested sequences", "deflate bomb"],
)
def test_hostile_identifiers_cost_little(data: bytes, syntax: str) -> None:
    with pytest.raises(ScanError):
        parse(data, syntax)


# --- answers


def answer(asked: Asked, *lines: str, syntax: str = EXPLICIT) -> dict[int, object]:
    encoded = AnswerEncoder(asked, syntax, "ISOCENTER").encode(Match("1.2", "", "", list(lines)))
    elements = read_dataset(encoded, syntax)
    assert [one.tag for one in elements] == sorted(one.tag for one in elements)
    return {one.tag: one.value for one in elements}


NAME = '"00100010":{"vr":"PN","Value":[{"Alphabetic":"DOE^JOHN"}]}'
UID = '"0020000D":{"vr":"UI","Value":["1.2.3"]}'


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG])
def test_every_key_comes_back_and_who_has_the_objects(syntax: str) -> None:
    asked = parse(
        identifier("STUDY", syntax=syntax, t00100010=b"", t00111001=b"", t00400275=b"", t00201208=b""), syntax
    )
    assert answer(asked, NAME, UID, '"00201208":{"vr":"IS","Value":[12]}', syntax=syntax) == {
        0x00080052: b"STUDY ",
        0x00080054: b"ISOCENTER ",
        0x00100010: b"DOE^JOHN",
        0x0020000D: b"1.2.3\0",
        0x00111001: b"",
        0x00201208: b"12",
        0x00400275: [],
    }


@pytest.mark.parametrize(
    ("charset", "name", "expected_charset", "expected"),
    [
        (None, "Yamada", None, b"Yamada"),
        (None, "Müller", b"ISO_IR 192", "Müller ".encode()),
        (b"ISO_IR 100", "Müller", b"ISO_IR 100", "Müller".encode("latin-1")),
        (b"ISO_IR 100", "Yamada", b"ISO_IR 100", b"Yamada"),
        (b"ISO_IR 100", "Иванов", b"ISO_IR 192", "Иванов".encode()),
        (b"ISO_IR 144", "Иванов", b"ISO_IR 144", "Иванов".encode("iso8859-5")),
        (b"ISO_IR 192", "山田", b"ISO_IR 192", "山田".encode()),
        (b"GB18030 ", "王", b"GB18030 ", "王".encode("gb18030")),
    ],
)
def test_the_requesters_character_set_where_it_holds_the_text(
    charset: bytes | None, name: str, expected_charset: bytes | None, expected: bytes
) -> None:
    asked = parse(identifier("STUDY", charset=charset, t00100010=b""))
    line = f'"00100010":{{"vr":"PN","Value":[{{"Alphabetic":"{name}"}}]}}'
    found = answer(asked, line, UID)
    assert found.get(0x00080005) == expected_charset
    assert found[0x00100010] == expected


def test_sequences_and_several_values() -> None:
    asked = parse(identifier("SERIES", t00400275=b"", t00080061=b""))
    found = answer(
        asked,
        UID,
        '"00080061":{"vr":"CS","Value":["CT","SR"]}',
        '"00400275":{"vr":"SQ","Value":[{"00400007":{"vr":"LO","Value":["HEAD"]}}]}',
    )
    assert found[0x00080061] == b"CT\\SR "
    [[step]] = found[0x00400275]  # type: ignore[misc]
    assert (step.tag, step.value) == (0x00400007, b"HEAD")
