"""Character sets: against pydicom's files, against themselves, and against declarations that lie."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isocenter.dicom.character_sets import ALL, named
from isocenter.dicom.charsets import (
    CHARSET_DEPENDENT,
    DEFAULT_REPERTOIRE,
    UNICODE,
    TextDecoder,
    best_charset,
    decoder_for,
    encoder_for,
)

CHARSET_FILES = sorted((Path(pydicom.data.__file__).parent / "charset_files").glob("*.dcm"))

# Names from PS3.5 Annexes H (Japanese), I (Korean), J and K (Chinese); a word for each single-byte set.
STANDARD_EXAMPLES = [
    (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        b"ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        b"\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab= ",
        "Zhang^XiaoDong=张^小东=",
    ),
    (b"GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东"),
    (b"GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东"),
    (b"ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
    (b"ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    (b"ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa"),
    (b"ISO_IR 109", b"\xa1\xfd", "Ħŭ"),
    (b"ISO_IR 110", b"\xc7\xbf", "Įŋ"),
    (b"ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    (b"ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea", "قباني"),
    (b"ISO_IR 138", b"\xf9\xf8\xe5\xef", "שרון"),
    (b"ISO_IR 144", b"\xbb\xee\xda\xe1\xd5\xdc", "Люксем"),
    (b"ISO_IR 148", b"\xd0\xfe", "Ğş"),
    (b"ISO_IR 166", b"\xb9\xd2", "นา"),
    (b"ISO_IR 203", b"\xa4\xbd", "€œ"),
]


@pytest.mark.parametrize(("declared", "value", "text"), STANDARD_EXAMPLES)
def test_examples_of_the_standard_decode(declared: bytes, value: bytes, text: str) -> None:
    assert decoder_for(declared).decode(value, "PN") == text


@pytest.mark.parametrize(("declared", "value", "text"), STANDARD_EXAMPLES)
def test_examples_of_the_standard_encode_to_the_same_bytes(declared: bytes, value: bytes, text: str) -> None:
    padded = value + b" " * (len(value) % 2)
    encoded = decoder_for(declared).encode(text, "PN")
    assert encoded in (padded, padded.rstrip())


def values_of(
    data_set: pydicom.Dataset, inherited: TextDecoder
) -> Iterator[tuple[TextDecoder, str, bytes, object]]:
    """Decoder, VR, raw value and pydicom's reading of every text element, items included."""
    raw_elements = {tag: data_set.get_item(tag) for tag in data_set.keys()}  # noqa: SIM118 - keeps them raw
    decoder = inherited
    if (declared := raw_elements.get(pydicom.tag.Tag(0x00080005))) is not None:
        terms = data_set.SpecificCharacterSet
        raw = declared.value if isinstance(declared.value, bytes) else None
        decoder = decoder_for(raw or (terms if isinstance(terms, str) else "\\".join(terms)).encode())
    for tag, raw_element in raw_elements.items():
        element = data_set[tag]
        if element.VR == "SQ":
            for item in element.value:
                yield from values_of(item, decoder)
        elif raw_element.VR in CHARSET_DEPENDENT and isinstance(raw_element.value, bytes):
            yield decoder, raw_element.VR, raw_element.value, element.value


@pytest.mark.parametrize("path", CHARSET_FILES, ids=lambda path: path.stem)
def test_pydicoms_files_decode_as_pydicom_decodes_them(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # pydicom warns of odd declarations, which is what these files are for
        data_set = pydicom.dcmread(path, force=True)
        compared = 0
        for decoder, vr, raw, value in values_of(data_set, DEFAULT_REPERTOIRE):
            several = isinstance(value, pydicom.multival.MultiValue)
            theirs = (
                [str(one).rstrip() for one in value] if several else [str(value).rstrip()] if value else []
            )
            ours = decoder.decode_multi(raw, vr)
            # pydicom drops the delimiter of an empty last group; it is kept here and means nothing.
            assert [text.rstrip("=") for text in ours] == [text.rstrip("=") for text in theirs]
            compared += 1
    assert compared


def test_every_set_is_found_by_its_terms() -> None:
    for character_set in ALL:
        assert named(character_set.term) is character_set
        if character_set.extension_term:
            assert named(character_set.extension_term) is character_set


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ISO IR 100", "ISO_IR 100"),
        ("ISO-IR 192", "ISO_IR 192"),
        ("iso_ir 192 ", "ISO_IR 192"),
        ("utf8", "ISO_IR 192"),
        ("UTF-8", "ISO_IR 192"),
        ("ISO_IR_101", "ISO_IR 101"),
        ("ISO 2022 IR 100", "ISO_IR 100"),
        ("ISO2022 IR 100", "ISO_IR 100"),
        ("ISO 8859-1", "ISO_IR 100"),
        ("latin-1", "ISO_IR 100"),
        ("ISO-8859-15", "ISO_IR 203"),
        ("windows-1251", "WINDOWS-1251"),
        ("IR 144", "ISO_IR 144"),
        ("ISO 2022 GBK", "GBK"),
        ("ISO 2022 58", "\\ISO 2022 IR 58"),
        ("ISO_IR 87", "\\ISO 2022 IR 87"),
        ("\\ISO_IR 192", "ISO_IR 192"),
        ("ISO_IR 192\\ISO 2022 IR 87", "ISO_IR 192"),
        ("ISO_IR 100\\GBK", "ISO_IR 100"),
        ("\\", ""),
    ],
)
def test_misspelt_and_misused_declarations_are_understood(written: str, meant: str) -> None:
    assert decoder_for(written.encode()).term == meant


@pytest.mark.parametrize(
    "hostile",
    [
        b"unicode_escape",
        b"idna",
        b"base64",
        b"rot13",
        b"ISO_IR 999",
        b"\xff\xfe\x00",
        b"\\" * 100_000,
        b"punycode",
    ],
)
def test_unknown_declarations_count_as_absent(hostile: bytes) -> None:
    decoder = decoder_for(hostile)
    assert decoder.term == ""
    assert decoder.decode(b"\\u0041 M\xc3\xbcller", "LT") == "\\u0041 Müller"


@pytest.mark.parametrize(
    ("declared", "value", "text"),
    [
        # pydicom reads the first two as Latin-1 and as U+FFFD; UTF-8 by chance is all but impossible.
        (None, "Müller^Jörg".encode(), "Müller^Jörg"),
        (b"ISO_IR 192", "Müller^Jörg".encode("latin_1"), "Müller^Jörg"),
        (None, "Müller^Jörg".encode("latin_1"), "Müller^Jörg"),
        # 80 to 9F are no characters of ISO 8859: here it is UTF-8, there Windows-1252.
        (b"ISO_IR 100", "Ärzte".encode(), "Ärzte"),
        (b"ISO_IR 100", b"\x93x\x94", "“x”"),
        # A value cut at its maximum length in the middle of a character.
        (b"ISO_IR 192", "山田".encode()[:-1], "山\N{REPLACEMENT CHARACTER}"),
        # Double-byte text without any escape sequence.
        (b"\\ISO 2022 IR 149", "홍길동".encode("euc_kr"), "홍길동"),
        (b"\\ISO 2022 IR 87", "山田".encode("shift_jis"), "山田"),
        # The escape sequence only once, although ^ and = reset (PS3.5 §6.1.2.5.3).
        (b"\\ISO 2022 IR 149", b"\x1b$)C\xc8\xab^\xb1\xe6\xb5\xbf", "홍^길동"),
        # Kanji without the way back before a delimiter.
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED^\x1b$BB@O:=", "山田^太郎="),
        # A line end resets, whether or not the writer switched back before it.
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED\r\nABCD", "山田\r\nABCD"),
        # An extension that was not declared.
        (b"ISO_IR 100", b"\x1b$B;3ED\x1b(B", "山田"),
        # An escape sequence that nobody knows stays visible.
        (b"ISO_IR 100", b"a\x1b%Gb", "a\x1b%Gb"),
    ],
)
def test_bytes_that_contradict_their_declaration_stay_readable(
    declared: bytes | None, value: bytes, text: str
) -> None:
    assert decoder_for(declared).decode(value, "PN") == text


@pytest.mark.parametrize(
    ("declared", "text"),
    [("GB18030", "誠\\中"), ("GBK", "誠\\中"), ("ISO_IR 13", "表\\ソ"), ("GB18030", "a\\㐀")],
)
def test_a_trail_byte_that_looks_like_a_backslash_does_not_split(declared: str, text: str) -> None:
    codec = {"ISO_IR 13": "shift_jis"}.get(declared, declared)
    value = text.encode(codec)
    assert declared == "GB18030" or value.count(b"\\") > 1
    assert decoder_for(declared.encode()).decode_multi(value, "LO") == text.split("\\")


def test_kanji_with_a_backslash_byte_between_escape_sequences_does_not_split() -> None:
    # JIS X 0208 30-60 is 0x3E 0x5C.
    assert decoder_for(b"\\ISO 2022 IR 87").decode_multi(b"\x1b$B>\\\x1b(B\\B", "LO") == ["詳", "B"]


@pytest.mark.parametrize(
    ("vr", "value", "texts"),
    [
        ("CS", b" A \\B ", ["A", "B"]),
        ("LO", b"A\\\\B", ["A", "", "B"]),
        ("LT", b" a\\b  ", [" a\\b"]),
        ("UC", b" a\\ b ", [" a", " b"]),
        ("UI", b"1.2\0", ["1.2"]),
        ("SH", b"   ", []),
        ("SH", b"", []),
        ("SH", b"\\", ["", ""]),
    ],
)
def test_padding_and_multiplicity_follow_the_vr(vr: str, value: bytes, texts: list[str]) -> None:
    assert DEFAULT_REPERTOIRE.decode_multi(value, vr) == texts


def test_encoding_pads_and_replaces_what_a_set_lacks() -> None:
    latin = decoder_for(b"ISO_IR 100")
    assert latin.encode("1.2", "UI") == b"1.2\0"
    assert latin.encode("Zoë", "LO") == b"Zo\xeb "
    assert latin.encode("Zoë 山", "LO") == b"Zo\xeb ? "[:6]
    assert latin.holds("Zoë")
    assert not latin.holds("山")
    assert not decoder_for(b"ISO_IR 13").holds("山")
    assert UNICODE.encode("\ud800", "LO") == b"? "


def test_answers_use_the_requesters_set_where_it_suffices() -> None:
    assert best_charset(["DOE", "1.2"]) == ""
    assert best_charset(["DOE", "é"]) == "ISO_IR 192"
    assert encoder_for(b"ISO_IR 100", ["é"]).term == "ISO_IR 100"
    assert encoder_for(b"ISO_IR 100", ["é", "山"]).term == "ISO_IR 192"
    assert encoder_for(b"\\ISO 2022 IR 87", ["山"]).term == "\\ISO 2022 IR 87"
    assert encoder_for(None, ["DOE"]).term == ""


DECLARATIONS = [declared for declared, _, _ in STANDARD_EXAMPLES] + [
    b"ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 144",
    b"ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159",
    b"\\ISO 2022 IR 149\\ISO 2022 IR 58",
]


@given(st.sampled_from(DECLARATIONS), st.text(max_size=40), st.sampled_from(["PN", "LO", "LT"]))
@example(b"ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 144", "é^αЖ=é\r\nЖ", "PN")
@example(b"ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159", "ﾔ山é丂~ ﾔ", "LO")
def test_what_a_set_holds_survives_the_way_there_and_back(declared: bytes, text: str, vr: str) -> None:
    decoder = decoder_for(declared)
    text = "".join(c for c in text if c not in "\x1b\0" and decoder.holds(c)).strip()
    # Shift-JIS stands in for JIS X 0201, whose yen and overline share 5C and 7E with ASCII.
    text = text.replace("¥", "").replace("‾", "").strip()
    value = decoder.encode(text, vr)
    assert len(value) % 2 == 0
    assert decoder.decode(value, vr) == text.strip(" ")
    if vr != "LT":
        assert [t.strip() for t in decoder.decode_multi(value, vr)] == [
            t.strip(" ") for t in text.split("\\") if text.strip(" ")
        ]


@given(st.one_of(st.sampled_from(DECLARATIONS), st.binary(max_size=40)), st.binary(max_size=80))
@example(b"\\ISO 2022 IR 87", b"\x1b$B\x80\\\x1b$B!")
def test_any_bytes_under_any_declaration_become_text(declared: bytes, value: bytes) -> None:
    decoder = decoder_for(declared)
    for vr in ("PN", "LO", "LT", "UI"):
        decoder.decode(value, vr).encode()
        decoder.decode_multi(value, vr)


@given(
    st.sampled_from(DECLARATIONS),
    st.lists(
        st.sampled_from(
            [b"\x1b$B", b"\x1b(B", b"\x1b(J", b"\x1b)I", b"\x1b$)C", b"\x1b-F", b"^", b"\\", b"=", b"\r"]
        )
    ),
    st.binary(max_size=6),
)
def test_any_order_of_escape_sequences_becomes_text(
    declared: bytes, pieces: list[bytes], between: bytes
) -> None:
    decoder_for(declared).decode(between.join(pieces) + between, "PN").encode()
