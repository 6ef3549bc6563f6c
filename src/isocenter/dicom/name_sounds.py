"""How names sound, for fuzzy semantic matching of person names (PS3.4 C.2.2.2.1.1).

A name is a set of words. Two words are alike where their codes meet:

- Latin letters by Metaphone, of the word as it is and of a spelling that languages of Europe, India and
  Arabia have in common (``Schmidt`` and ``Smith``, ``Maier`` and ``Meyer``, ``Kowalski`` and ``Kovalsky``);
- kana by their reading: hiragana and katakana, full and half width, small letters and long vowels alike;
- Hangul by its letters after the law of initial sounds (``류`` and ``유``);
- Han characters by themselves, with the old forms of names taken for the new ones.

Which group of the name a word stands in, and in which order, does not matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from jellyfish import metaphone

from isocenter.dicom.person_name import search_key

_COMPONENTS_COMPARED = 3  # family, given and middle name; nobody is another for want of a title
_WORDS_MAX = 24
_WORD_CHARACTERS_MAX = 64

_APART = re.compile(r"[\s\-\u2010\u2011,./\u00b7\u30fb]+")  # hyphens, middle dots
_WITHIN = re.compile(r"['\u2019\u02bc`\"()\[\]]")  # apostrophes
_LATIN = re.compile(r"[a-z]+", re.ASCII)

# From the spelling of one language to what is left when all of them are listened to. In this order.
_SPELLINGS = tuple(
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in (
        (r"^(?:mc|mac)(?=[a-z]{3})", "mak"),
        (r"tsch|tch|cz", "ch"),
        (r"sch|sz", "sh"),
        (r"th", "t"),
        (r"([bdgk])h", r"\1"),
        (r"dt", "t"),
        (r"tz", "z"),
        (r"^s(?=[lmnw])", "sh"),
        (r"(?<=.)y|y(?![aeiou])", "i"),
        (r"w", "v"),
        (r"ae|oe", "e"),
        (r"ue|ou", "u"),
    )
)

# Forms of Han characters that names keep and everything else has given up.
_OLD_FORMS = str.maketrans(
    "髙﨑嵜澤齋齊斉邊邉廣濱濵嶋嶌國櫻龍惠眞榮實圓藏冨峯曻學淸靜德瀨塚渡邨檜壽彌條應黑來",
    "高崎崎沢斎斎斎辺辺広浜浜島島国桜竜恵真栄実円蔵富峰昇学清静徳瀬塚渡村桧寿弥条応黒来",
)
_KANA = str.maketrans("ぁぃぅぇぉっゃゅょゎゐゑをぢづ", "あいうえおつやゆよわいえおじず", "ー゛゜")
_LONG_O = re.compile("(?<=[おこごそぞとどのほぼぽもよろ])う")
_HIRAGANA_FROM_KATAKANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}

_NIEUN, _RIEUL, _IEUNG = 2, 5, 11  # initial consonants of a syllable, by number
_BEFORE_I = frozenset({2, 3, 6, 7, 12, 17, 20})  # ㅑ ㅒ ㅕ ㅖ ㅛ ㅠ ㅣ
_SYLLABLES = range(0xAC00, 0xD7A4)


def words_of(name: str) -> list[str]:
    """The words of a name (PS3.5 §6.2.1), folded, each once; of all three groups, without prefix and suffix.

    A component of several words is one of them too: van den Berg is also Vandenberg.
    """
    words: dict[str, None] = {}
    for component in components_of(name):
        words |= dict.fromkeys(component)
        if len(component) > 1:
            words["".join(component)[:_WORD_CHARACTERS_MAX]] = None
    return list(words)[:_WORDS_MAX]


def components_of(name: str) -> Iterator[list[str]]:
    """The words of each component that has any. The wild cards ``*`` and ``?`` stay in them."""
    for group in search_key(name).split("="):
        for component in group.split("^")[:_COMPONENTS_COMPARED]:
            words = [word[:_WORD_CHARACTERS_MAX] for word in _APART.split(_WITHIN.sub("", component)) if word]
            if words:
                yield words


@lru_cache(maxsize=4096)
def sounds(word: str) -> tuple[str, ...]:
    """The codes of one folded word. Codes of different scripts never meet."""
    if _LATIN.fullmatch(word):
        common = word
        for pattern, replacement in _SPELLINGS:
            common = pattern.sub(replacement, common)
        return tuple(dict.fromkeys(metaphone(one) or one.upper() for one in (word, common)))
    return (_reading(word),)


def _reading(word: str) -> str:
    text = word.translate(_OLD_FORMS).translate(_HIRAGANA_FROM_KATAKANA).translate(_KANA)
    text = _LONG_O.sub("", text)
    if any(ord(character) in _SYLLABLES for character in text):
        text = "".join(
            _letters(character, first=position == 0) if ord(character) in _SYLLABLES else character
            for position, character in enumerate(text)
        )
    return text or word


def _letters(syllable: str, *, first: bool) -> str:
    """Its letters; ㄹ and ㄴ at the beginning of a name as the south of Korea speaks them (두음 법칙)."""
    number = ord(syllable) - 0xAC00
    initial, vowel = number // 588, number % 588 // 28
    if first and initial in (_NIEUN, _RIEUL):
        initial = _IEUNG if vowel in _BEFORE_I else _NIEUN
    return unicodedata.normalize("NFD", chr(0xAC00 + initial * 588 + number % 588))
