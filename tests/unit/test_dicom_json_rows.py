"""Both roads of a query's answer to its attributes lead to the same place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom import json_rows
from isocenter.dicom.charsets import decoder_for
from isocenter.dicom.dataset import write_dataset
from isocenter.dicom.dictionary import tag_of, vr_of
from isocenter.dicom.element import Element
from isocenter.dicom.json_rows import attributes_of
from isocenter.dicom.scan_limits import ScanError

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
LATIN_1 = "ISO_IR 100"


def data_set(syntax: str = EXPLICIT, declared: str = LATIN_1, **values: str) -> bytes:
    encoder = decoder_for(declared.encode())
    elements = [
        Element(tag_of(keyword), vr_of(tag_of(keyword)), encoder.encode(text, vr_of(tag_of(keyword))))
        for keyword, text in {"SpecificCharacterSet": declared, **values}.items()
    ]
    return write_dataset(elements, syntax)


def value(attributes: dict[int, str], keyword: str) -> object:
    return json.loads(attributes[tag_of(keyword)]).get("Value")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_text_numbers_and_nothing(syntax: str) -> None:
    data = data_set(
        syntax,
        PatientName="MÜLLER^J",
        PatientID="",
        NumberOfStudyRelatedInstances="12",
        ModalitiesInStudy="CT\\SR",
    )
    for _ in range(2):  # from what was learned, too
        found = attributes_of(data, syntax)
        assert value(found, "PatientName") == [{"Alphabetic": "MÜLLER^J"}]
        assert found[tag_of("PatientID")] == '{"vr":"LO"}'
        assert value(found, "NumberOfStudyRelatedInstances") == [12]
        assert value(found, "ModalitiesInStudy") == ["CT", "SR"]
        assert tag_of("SpecificCharacterSet") not in found


def test_what_is_kept_is_kept_by_character_set() -> None:
    latin, cyrillic = data_set(PatientName="Ü"), data_set(declared="ISO_IR 144", PatientName="м")
    assert latin[-2:] == cyrillic[-2:] or latin[-2:-1] == b"\xdc"
    assert value(attributes_of(latin, EXPLICIT), "PatientName") == [{"Alphabetic": "Ü"}]
    assert value(attributes_of(latin.replace(b"ISO_IR 100", b"ISO_IR 144"), EXPLICIT), "PatientName") == [
        {"Alphabetic": "м"}
    ]


def test_a_source_that_is_wrong_about_its_character_set() -> None:
    data = data_set(PatientName="Ü")
    wrong = data.replace(b"ISO_IR 100", b"ISO_IR 192")
    assert value(attributes_of(wrong, EXPLICIT, decoder_for(b"ISO_IR 100")), "PatientName") == [
        {"Alphabetic": "Ü"}
    ]


def test_sequences_take_the_long_road() -> None:
    inner = [Element(tag_of("CodeValue"), "SH", b"A1")]
    tag = tag_of("ProcedureCodeSequence")
    found = attributes_of(write_dataset([Element(tag, "SQ", [inner])], EXPLICIT), EXPLICIT)
    assert json.loads(found[tag])["Value"] == [{"00080100": {"vr": "SH", "Value": ["A1"]}}]
    assert attributes_of(write_dataset([Element(tag, "SQ", [])], EXPLICIT), EXPLICIT) == {tag: '{"vr":"SQ"}'}


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x10\x00\x20\x00LO\x08\x00P1", b"\x08\x00"])
def test_what_is_no_data_set_is_refused(data: bytes) -> None:
    with pytest.raises(ScanError):
        attributes_of(data, EXPLICIT)


_PIECES = st.lists(
    st.sampled_from(
        [
            b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
            b"\x08\x00\x20\x00DA\x08\x0020260101",
            b"\x08\x00\x61\x00CS\x02\x00CT",
            b"\x08\x00\x32\x10SQ\x00\x00\x00\x00\x00\x00",
            b"\x10\x00\x10\x00PN\x04\x00D\xdcE ",
            b"\x10\x00\x20\x00LO\x02\x00P1",
            b"\x20\x00\x06\x12IS\x02\x0012",
            b"\x28\x00\x10\x00US\x02\x00\x00\x02",
            b"\x09\x00\x10\x00UN\x00\x00\x02\x00\x00\x00ab",
            b"\x08\x00\x90\x11UR\x00\x00\x04\x00\x00\x00a:b ",
            b"\x08\x00\x00\x00UL\x04\x00\x01\x00\x00\x00",
        ]
    ),
    max_size=8,
).map(b"".join)


@given(
    st.one_of(_PIECES, _PIECES.flatmap(lambda data: st.integers(0, len(data)).map(lambda cut: data[:cut])))
)
def test_whatever_comes_both_roads_say_the_same(data: bytes) -> None:
    short = json_rows._flat(data, None)
    try:
        long = json_rows._any(data, EXPLICIT, None)
    except ScanError:
        assert short is None
    else:
        assert short in (None, long)


def test_most_answers_take_the_short_road() -> None:
    assert json_rows._flat(data_set(PatientName="DOE", StudyDate="20260101"), None) is not None
