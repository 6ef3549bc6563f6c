"""Person names (PS3.5 §6.2.1): up to three groups of up to five components."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS_MAX = 5
_BLANKS = re.compile(r"\s+")

# Letters that Unicode does not take apart, as people type them where their keyboard lacks them.
_PLAIN_LETTERS = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        "þ": "th",
        "æ": "ae",
        "œ": "oe",
        "ŧ": "t",
    }
)


@dataclass(frozen=True, slots=True)
class PersonName:
    """The groups as written, without the trailing blanks and delimiters that carry no meaning."""

    alphabetic: str = ""
    ideographic: str = ""
    phonetic: str = ""

    @classmethod
    def parse(cls, text: str) -> PersonName:
        """Any text is a name; a fourth group and what follows it is kept within the third."""
        groups = [_without_trailing(group) for group in text.split("=", 2)]
        return cls(*groups)

    @property
    def components(self) -> tuple[str, str, str, str, str]:
        """Family name, given name, middle name, prefix, suffix of the first group that has any."""
        group = self.alphabetic or self.ideographic or self.phonetic
        parts = [part.strip() for part in group.split("^", _COMPONENTS_MAX - 1)]
        family, given, middle, prefix, suffix = parts + [""] * (_COMPONENTS_MAX - len(parts))
        return family, given, middle, prefix, suffix

    @property
    def family_name(self) -> str:
        return self.components[0]

    @property
    def given_name(self) -> str:
        return self.components[1]

    @property
    def groups(self) -> tuple[str, str, str]:
        return self.alphabetic, self.ideographic, self.phonetic

    @property
    def search_keys(self) -> tuple[str, str, str]:
        """One key for each group, as `search_key` joins them."""
        return _group_key(self.alphabetic), _group_key(self.ideographic), _group_key(self.phonetic)

    def __str__(self) -> str:
        return "=".join(self.groups).rstrip("=")


def search_key(text: str) -> str:
    """The form under which names are compared: lower case, no accents, single blanks, no empty tail.

    Groups stay apart by ``=``, components by ``^``. The wildcards ``*`` and ``?`` pass unchanged, so that
    a pattern and the stored names take the same road.
    """
    if "=" not in text:
        return _group_key(text)
    return "=".join(map(_group_key, text.split("=", 2))).rstrip("=")


def _without_trailing(group: str) -> str:
    return group.rstrip(" \0").rstrip("^ ")


def _group_key(group: str) -> str:
    folded = group.lower() if group.isascii() else _fold(group)
    if " " in folded or "\0" in folded or not folded.isprintable():
        parts = (_BLANKS.sub(" ", part.replace("\0", "")).strip() for part in folded.split("^"))
        folded = "^".join(parts)
    return folded.rstrip("^")


def _fold(text: str) -> str:
    """Case and accents removed.

    Marks go by combining class: Hebrew and Arabic points (10 to 36) and everything above or below a letter
    (200 and more). Voicing marks of kana (8), Indic signs and Thai vowels are letters to their readers:
    they stay.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in decomposed if not _is_accent(unicodedata.combining(c)))
    # Recomposed: a Hangul syllable is one character again, as the wildcard ``?`` counts it.
    folded = unicodedata.normalize("NFKC", plain.casefold().translate(_PLAIN_LETTERS))
    # Full-width and small equals signs fold to one that would delimit groups.
    return folded if "=" in text else folded.replace("=", "")


def _is_accent(combining_class: int) -> bool:
    return 10 <= combining_class <= 36 or combining_class >= 200
