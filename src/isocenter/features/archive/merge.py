"""How a level's attributes grow as more objects of it arrive (MISSION A1). Pure.

What is missing is filled in, what is there stays: an emptier or contradicting object never overwrites.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from isocenter.features.archive.entry import LevelData
from isocenter.features.archive.indexed_values import Value

_EMPTY_FRAGMENT_CHARACTERS = len('"00100010":{"vr":"PN"}')

PATIENT_NAME = 0x00100010
_DEMOGRAPHICS = {PATIENT_NAME: "name_key", 0x00100030: "birth_date", 0x00100040: "sex"}
"""What a person has to look at when two objects of one patient differ in it, and the column to compare."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """The same patient with two names, birth dates or sexes: fragments of the kept and the other value."""

    tag: int
    kept: str
    other: str


@dataclass(frozen=True, slots=True)
class Merged:
    """``values``: rows to match on of what was filled in."""

    columns: dict[str, Any]
    fragments: str
    changed: bool
    values: dict[int, list[Value]]


def fragments_by_tag(text: str) -> dict[int, str]:
    """The index's lines, by tag."""
    return {int(line[1:9], 16): line for line in text.split("\n")} if text else {}


def is_empty(fragment: str) -> bool:
    return len(fragment) <= _EMPTY_FRAGMENT_CHARACTERS


def merge(known_columns: Mapping[str, Any], known_fragments: str, new: LevelData) -> Merged:
    """The known attributes, completed with those of ``new`` that were missing or empty."""
    by_tag = fragments_by_tag(known_fragments)
    filled = {
        tag: fragment
        for tag, fragment in new.fragments.items()
        if tag not in by_tag or (is_empty(by_tag[tag]) and not is_empty(fragment))
    }
    columns = {
        name: new.columns[name] if value in ("", None) and name in new.columns else value
        for name, value in known_columns.items()
    }
    changed = bool(filled) or columns != dict(known_columns)
    text = "\n".join(sorted((by_tag | filled).values())) if filled else known_fragments
    return Merged(columns, text, changed, {tag: new.values[tag] for tag in filled if tag in new.values})


def contradictions(
    known_columns: Mapping[str, Any], known_fragments: str, new: LevelData
) -> Iterable[Contradiction]:
    """Where both tell a patient's demographics and they differ beyond case, accents and padding."""
    by_tag = fragments_by_tag(known_fragments)
    for tag, column in _DEMOGRAPHICS.items():
        known, told = known_columns[column], new.columns[column]
        if known and told and known != told:
            yield Contradiction(tag, by_tag.get(tag, ""), new.fragments[tag])
