"""Conditions on what has rows of its own: attributes within sequences, persons' names, how they sound.

Two forms of the same. Where it leads the search, ``s.id IN (SELECT …)`` starts from the index of values;
where something more selective leads, ``EXISTS (…)`` looks into the rows of what that has found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isocenter.dicom.levels import Level
from isocenter.dicom.matching import MatchingKey, Universal, ValueList, Wildcard
from isocenter.dicom.name_sounds import components_of, sounds
from isocenter.dicom.person_name import search_key
from isocenter.features.archive.attributes import Attribute, Folding
from isocenter.features.archive.indexed_values import SOUND, WORD
from isocenter.features.archive.query_conditions import LAST_CHARACTER, Parameters, condition
from isocenter.features.archive.query_model import ALIAS, Path

_OWN = "{v}.organization_id = :organization_id AND {v}.path = {path}"
_FUZZY_WORDS_MAX = 12


@dataclass(frozen=True, slots=True)
class ItemKey:
    """A key within a sequence."""

    path: Path
    attribute: Attribute
    key: MatchingKey


def path_text(path: Path) -> str:
    return ".".join(f"{tag:08X}" for tag in path)


def value_condition(attribute: Attribute, key: MatchingKey, params: Parameters, *, leads: bool) -> str:
    """On the whole values of an attribute that has rows of its own; empty where every entity matches."""
    wanted = condition("v.value", attribute.folding, key, params)
    return wanted and _holds(attribute.level, f"{attribute.tag:08X}", wanted, params, leads=leads)


def all_values_condition(attribute: Attribute, keys: ValueList, params: Parameters, *, leads: bool) -> str:
    """Multiple value matching (PS3.4 C.2.2.2.8): each of the values is there."""
    texts = [
        value_condition(attribute, key, params, leads=leads and number == 0)
        for number, key in enumerate(keys.keys)
    ]
    return " AND ".join(texts)


def empty_value_condition(level: Level, path: str, params: Parameters) -> str:
    """No value anywhere (PS3.4 C.2.2.2.7)."""
    return f"NOT {_exists(level, path, '', params)}"


def item_conditions(level: Level, keys: Sequence[ItemKey], params: Parameters, *, leads: bool) -> str:
    """All keys of one sequence, met by one of its items (PS3.4 C.2.2.2.6); empty: every entity matches."""
    pk = f"{level.value}_pk"
    where: list[str] = []
    asked: list[ItemKey] = []
    for key in keys:
        v = f"v{len(asked)}"
        wanted = condition(f"{v}.value", key.attribute.folding, key.key, params)
        if not wanted:
            continue
        where.append(_OWN.format(v=v, path=params.add(path_text(key.path))) + f" AND {wanted}")
        if asked:
            where.append(f"{v}.{pk} = v0.{pk} AND {v}.item = v0.item")
            where += [
                f"{v}.inner_item = v{number}.inner_item"
                for number, other in enumerate(asked)
                if len(key.path) > 2 and other.path[:-1] == key.path[:-1]
            ][:1]
        asked.append(key)
    if not asked:
        return ""
    # SQLite keeps the order of a CROSS JOIN: from the first key, which an index finds, to its neighbours.
    tables = " CROSS JOIN ".join(f"{level.value}_value v{number}" for number in range(len(asked)))
    return _subselect(level, tables, "v0", where, leads=leads)


def fuzzy_condition(attribute: Attribute, names: Sequence[str], params: Parameters, *, leads: bool) -> str:
    """Any one of ``names`` matches by its words; empty where every entity matches."""
    alternatives = [_fuzzy_name(attribute, name, params, leads=leads and len(names) == 1) for name in names]
    if not all(alternatives):
        return ""
    return alternatives[0] if len(alternatives) == 1 else "(" + " OR ".join(alternatives) + ")"


def first_word_condition(attribute: Attribute, name: str, params: Parameters) -> str:
    """Names that have the word which the key begins with; empty where it begins with a wild card."""
    group = next(filter(None, search_key(name).split("=")), "")
    words = next(components_of(group.split("^")[0]), None)
    if words is None:
        return ""
    literal = re.split(r"[*?]", words[0], maxsplit=1)[0]
    if not literal:
        return ""
    if literal == words[0] and not re.search(r"[*?]", group.split("^")[0]):
        wanted = f"v.value = {params.add(WORD + literal)}"
    else:
        wanted = _begins_with(WORD + literal, params)
    return _holds(attribute.level, f"{attribute.tag:08X}~", wanted, params, leads=True)


def _begins_with(text: str, params: Parameters) -> str:
    return f"v.value >= {params.add(text)} AND v.value < {params.add(text + LAST_CHARACTER)}"


def _fuzzy_name(attribute: Attribute, name: str, params: Parameters, *, leads: bool) -> str:
    """Every component is there: by each of its words, or by all of them written as one."""
    components = sorted(components_of(name), key=lambda words: (len(words) > 1, -len(words[0])))
    texts: list[str] = []
    for words in components[:_FUZZY_WORDS_MAX]:
        lead = leads and not texts and len(words) == 1
        parts = [_word(attribute, word, params, leads=lead) for word in words[:_FUZZY_WORDS_MAX]]
        text = " AND ".join(filter(None, parts))
        if text and len(words) > 1:
            text = f"(({text}) OR {_word(attribute, ''.join(words), params, leads=False)})"
        if text:
            texts.append(text)
    return " AND ".join(texts)


def _word(attribute: Attribute, word: str, params: Parameters, *, leads: bool) -> str:
    if not word.strip("*"):
        return ""
    path = f"{attribute.tag:08X}~"
    if "*" in word or "?" in word:
        wanted = condition("v.value", Folding.NONE, Wildcard("LO", WORD + word), params)
    elif len(word) == 1 and word.isascii():  # an initial
        wanted = _begins_with(WORD + word, params)
    else:
        wanted = f"v.value IN {params.add([WORD + word, *(SOUND + code for code in sounds(word))])}"
    return _holds(attribute.level, path, wanted, params, leads=leads)


def _holds(level: Level, path: str, wanted: str, params: Parameters, *, leads: bool) -> str:
    if not leads:
        return _exists(level, path, wanted, params)
    where = [_OWN.format(v="v", path=params.add(path)), wanted]
    return _subselect(level, f"{level.value}_value v", "v", where, leads=True)


def _exists(level: Level, path: str, wanted: str, params: Parameters) -> str:
    where = [_OWN.format(v="v", path=params.add(path)), *([wanted] if wanted else [])]
    return _subselect(level, f"{level.value}_value v", "v", where, leads=False)


def _subselect(level: Level, tables: str, v: str, where: Sequence[str], *, leads: bool) -> str:
    pk = f"{v}.{level.value}_pk"
    if leads:
        return f"{names_rows(level)}{pk} FROM {tables} WHERE {' AND '.join(where)})"
    where = [f"{pk} = {ALIAS[level]}.id", *where]
    return f"EXISTS (SELECT 1 FROM {tables} WHERE {' AND '.join(where)})"  # noqa: S608 - a shape


def names_rows(level: Level) -> str:
    """What a condition begins with that leads a search by the rows of its level."""
    return f"{ALIAS[level]}.id IN (SELECT "


def by_sequence(paths: Mapping[Path, ItemKey]) -> dict[int, list[ItemKey]]:
    """The keys of each outermost sequence, those that an index finds best first."""
    found: dict[int, list[ItemKey]] = {}
    for path, key in paths.items():
        found.setdefault(path[0], []).append(key)
    for keys in found.values():
        keys.sort(key=lambda one: isinstance(one.key, Universal | Wildcard))
    return found
