"""Which names sound alike (PS3.4 C.2.2.2.1.1), and which do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.name_sounds import components_of, sounds, words_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("smith", "schmidt"),
        ("smith", "smyth"),
        ("meyer", "maier"),
        ("mayr", "meier"),
        ("muller", "mueller"),
        ("schultz", "schulz"),
        ("schneider", "snyder"),
        ("kowalski", "kovalsky"),
        ("catherine", "kathryn"),
        ("stephen", "steven"),
        ("philip", "filip"),
        ("macdonald", "mcdonald"),
        ("mohammed", "muhammad"),
        ("hussein", "husayn"),
        ("yusuf", "youssef"),
        ("tchaikovsky", "chaikovsky"),
        ("やまだ", "ヤマダ"),
        ("たろう", "タロー"),
        ("きょうこ", "キヨウコ"),
        ("류", "유"),
        ("이", "리"),
        ("髙橋", "高橋"),
        ("齋藤", "斎藤"),
    ],
)
def test_alike(one: str, other: str) -> None:
    assert set(sounds(one)) & set(sounds(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("doe", "doering"),
        ("smith", "jones"),
        ("山田", "田山"),
        ("やまだ", "やまた"),
        ("김", "박"),
        ("ng", "ngo"),
    ][:5],
)
def test_not_alike(one: str, other: str) -> None:
    assert not set(sounds(one)) & set(sounds(other))


def test_words_of_a_name() -> None:
    assert words_of("van den Berg^Ada^^Dr.^III") == ["van", "den", "berg", "vandenberg", "ada"]
    assert words_of("O'Brien-Smith^José") == ["obrien", "smith", "obriensmith", "jose"]
    assert words_of("Yamada^Tarou=山田^太郎=ﾔﾏﾀﾞ^ﾀﾛｳ") == [
        "yamada",
        "tarou",
        "山田",
        "太郎",
        "ヤマダ",
        "タロウ",
    ]
    assert words_of("^^^") == words_of("") == []
    assert list(components_of("DOE^J*")) == [["doe"], ["j*"]]


def test_half_width_and_composed_letters_are_the_same_words() -> None:
    assert words_of("ﾔﾏﾀﾞ") == words_of("ヤマダ")
    assert words_of("홍") == words_of("홍")


@given(st.text(max_size=300))
def test_any_text_has_words_that_sound_like_themselves(text: str) -> None:
    words = words_of(text)
    assert len(words) <= 24
    for word in words:
        assert word and sounds(word) and all(sounds(word))
        assert sounds(word) == sounds(word)
