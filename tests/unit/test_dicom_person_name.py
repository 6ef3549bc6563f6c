"""Person names: groups, components, and the key under which they are compared."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isocenter.dicom.person_name import PersonName, search_key


def test_groups_and_components() -> None:
    name = PersonName.parse("Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert name.groups == ("Yamada^Tarou", "山田^太郎", "やまだ^たろう")
    assert (name.family_name, name.given_name) == ("Yamada", "Tarou")
    assert PersonName.parse("=山田^太郎").components == ("山田", "太郎", "", "", "")
    assert PersonName.parse("Adams^John Robert Quincy^^Rev.^B.A. M.Div.").components == (
        "Adams",
        "John Robert Quincy",
        "",
        "Rev.",
        "B.A. M.Div.",
    )


def test_more_delimiters_than_the_standard_has_are_kept() -> None:
    assert PersonName.parse("a=b=c=d").phonetic == "c=d"
    assert PersonName.parse("1^2^3^4^5^6").components == ("1", "2", "3", "4", "5^6")


@pytest.mark.parametrize(
    ("text", "written"),
    [("DOE^JOHN^^^ ", "DOE^JOHN"), ("DOE^JOHN==", "DOE^JOHN"), ("=山田^ =", "=山田"), (" ^^ ", ""), ("", "")],
)
def test_trailing_delimiters_and_blanks_mean_nothing(text: str, written: str) -> None:
    assert str(PersonName.parse(text)) == written


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("DOE^JOHN", "doe^john"),
        ("Müller^JÖRG^^^ ", "muller^jorg"),
        ("Mu\u0308ller", "muller"),
        ("Łódź  B^ X ", "lodz b^x"),
        ("Straße", "strasse"),
        ("Ærø^Þór", "aero^thor"),
        ("İnan^I\N{LATIN SMALL LETTER S WITH CEDILLA}\N{LATIN SMALL LETTER DOTLESS I}k", "inan^isik"),
        ("Nguyễn^Văn", "nguyen^van"),
        ("Σίσυφος", "σισυφοσ"),
        ("Ёлкин^Йозеф", "елкин^иозеф"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada^tarou=山田^太郎=やまだ^たろう"),
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("홍^길동", "홍^길동"),
        ("กิตติ", "กิตติ"),
        ("שָׁלוֹם", "שלום"),
        ("A^==", "a"),
        ("=B^", "=b"),
        ("D?E*^", "d?e*"),
        ("a\u00a0b", "a b"),
    ],
)
def test_search_key(text: str, key: str) -> None:
    assert search_key(text) == key


def test_voicing_marks_tell_japanese_names_apart() -> None:
    assert search_key("かき") != search_key("かぎ")


@given(st.text(max_size=40))
@example("a\N{FULLWIDTH EQUALS SIGN}b")
def test_a_key_is_its_own_key(text: str) -> None:
    key = search_key(text)
    assert search_key(key) == key


@given(st.text(st.characters(codec="ascii"), max_size=40))
def test_case_never_counts(text: str) -> None:
    assert search_key(text.upper()) == search_key(text.lower())


@given(st.text(max_size=40))
def test_parsing_what_was_written_changes_nothing(text: str) -> None:
    name = PersonName.parse(text)
    assert PersonName.parse(str(name)) == name
    assert "=".join(name.search_keys).rstrip("=") == search_key(text)
