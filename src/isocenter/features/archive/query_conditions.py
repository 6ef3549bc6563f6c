"""One matching key (PS3.4 C.2.2.2) as a SQL condition on a column of the index.

Values become parameters, never text: what varies in a condition is its shape. A prefix is given as a range
too (``>= 'doe' AND < 'doe\\U0010FFFF'``), which an index answers on both databases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import orjson

from isocenter.dicom.datetimes import Range, parse_range
from isocenter.dicom.matching import (
    DateTimeRange,
    MatchingKey,
    SingleValue,
    UidList,
    Universal,
    ValueList,
    Wildcard,
    classify,
)
from isocenter.dicom.person_name import search_key
from isocenter.features.archive.attributes import Attribute, Folding
from isocenter.kit.errors import InvalidInput

LAST_CHARACTER = "\U0010ffff"
_COMPARED_AS_TEXT = frozenset({Folding.NONE, Folding.TEXT})
_ALTERNATIVES_MAX = 200  # SQLite takes expressions up to 1000 deep
_PATTERN_CHARS_MAX = 1024
_INTEGER_MAX = 2**63 - 1
# What `fragment_condition` can look for in the stored JSON text.
_PLAIN_TEXT_VRS = frozenset({"AE", "AS", "CS", "LO", "LT", "SH", "ST", "UI"})
_INTEGER_VRS = frozenset({"IS", "SL", "SS", "UL", "US"})


class Parameters:
    """Values on their way into a statement: ``params.add(value)`` is the text that stands for it."""

    __slots__ = ("values",)

    def __init__(self, **values: Any) -> None:
        self.values: dict[str, Any] = values

    def add(self, value: Any) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return ":" + name


def matching_key(attribute: Attribute, text: str) -> MatchingKey:
    """The key that ``text`` asks for, folded as the attribute's column is. Raises InvalidInput."""
    if "\0" in text.rstrip(" \0"):
        raise InvalidInput("a matching value holds a null character", code="invalid-value")
    key = classify(attribute.vr, fold_text(text) if attribute.folding is Folding.TEXT else text)
    for one in key.keys if isinstance(key, ValueList) else (key,):
        if isinstance(one, Wildcard) and len(one.pattern) > _PATTERN_CHARS_MAX:
            raise InvalidInput(
                f"a pattern has more than {_PATTERN_CHARS_MAX} characters", code="pattern-too-long"
            )
    if isinstance(key, ValueList) and len(key.keys) > _ALTERNATIVES_MAX:
        raise InvalidInput(
            f"more than {_ALTERNATIVES_MAX} values for one attribute",
            code="too-many-values",
            remedy="Ask in portions.",
        )
    return key


def time_bounds(text: str) -> DateTimeRange:
    """A range of times whose two ends belong to different dates. Raises InvalidInput."""
    first, _, last = (part.strip() for part in text.partition("-"))
    lower = parse_range(first, "TM").lower if first else None
    upper = parse_range(last, "TM").upper if last else None
    return DateTimeRange("TM", Range(lower, upper))


def fold_text(text: str) -> str:
    """Case and accents removed, as names have them removed."""
    return search_key(text)


def condition(  # noqa: PLR0911 - one line for each kind of key
    column: str, folding: Folding, key: MatchingKey, params: Parameters
) -> str:
    """SQL that is true for rows whose ``column`` matches ``key``; empty where every row does."""
    match key:
        case Universal():
            return ""
        case ValueList(keys) if folding in _COMPARED_AS_TEXT and _all_single(keys):
            return f"{column} IN {params.add([key.text for key in keys])}"
        case ValueList(keys):
            return "(" + " OR ".join(condition(column, folding, one, params) for one in keys) + ")"
        case UidList(uids) if len(uids) > 1:
            return f"{column} IN {params.add(list(uids))}"
        case UidList(uids):
            return f"{column} = {params.add(uids[0])}"
        case DateTimeRange(range=bounds):
            return _between(column, bounds, params)
        case Wildcard():
            return (_name_like if folding is Folding.NAME else _like)(column, key, params)
        case SingleValue():
            return _equals(column, folding, key.text, params)


def identity_condition(asked: Mapping[str, MatchingKey], params: Parameters, *, leads: bool) -> str:
    """Patient ID and issuer, by column: the patient's own, or those of one who was merged into it (ADR 0021).

    Where it ``leads``, patients are looked up by it; else it is looked at for each.
    """
    texts = {
        alias: " AND ".join(
            condition(f"{alias}.{column}", Folding.NONE, key, params) for column, key in asked.items()
        )
        for alias in (("o",) if leads else ("p", "o"))
    }
    of_organization = f"FROM patient o WHERE o.organization_id = :organization_id AND {texts['o']}"
    if leads:
        return f"p.id IN (SELECT coalesce(o.survivor_pk, o.id) {of_organization})"
    return f"({texts['p']} OR EXISTS (SELECT 1 {of_organization} AND o.survivor_pk = p.id))"


def empty_condition(column: str, folding: Folding) -> str:
    """Empty value matching (PS3.4 C.2.2.2.7): the attribute is missing or has no value."""
    return f"{column} IS NULL" if folding is Folding.NUMBER else f"{column} = ''"


def fragment_condition(column: str, attribute: Attribute, key: MatchingKey, params: Parameters) -> str | None:
    """A match on an attribute that has no column, by its line in the stored fragments.

    None where that would find too much: only a whole first value or its beginning can be told apart
    from the rest of the line.
    """
    ends: tuple[str, ...]
    match key:
        case Universal():
            return ""
        case SingleValue(text=text) if attribute.vr in _PLAIN_TEXT_VRS:
            ends = (f'"{_in_json(text)}"',)
        case DateTimeRange(range=Range(lower=str(day), upper=upper)) if attribute.vr == "DA" and day == upper:
            ends = (f'"{day}"',)
        case Wildcard(parts=(start, "*")) if start not in "*?" and attribute.vr in _PLAIN_TEXT_VRS:
            ends = (f'"{_in_json(start)}',)
        case SingleValue(text=text) if attribute.vr in _INTEGER_VRS and text.lstrip("-").isdigit():
            ends = (f"{text}]", f"{text},")
        case _:
            return None
    line = f'"{attribute.tag:08X}":{{"vr":"{attribute.vr}","Value":['
    like = [rf"{column} LIKE {params.add(f'%{_escaped(line + end)}%')} ESCAPE '\'" for end in ends]
    return like[0] if len(like) == 1 else f"({' OR '.join(like)})"


def _in_json(text: str) -> str:
    return orjson.dumps(text).decode()[1:-1]


def _all_single(keys: tuple[object, ...]) -> TypeGuard[tuple[SingleValue, ...]]:
    return all(isinstance(key, SingleValue) for key in keys)


def _equals(column: str, folding: Folding, text: str, params: Parameters) -> str:
    if folding is Folding.NAME:
        return _name_equals(column, text, params)
    return f"{column} = {params.add(_integer(text) if folding is Folding.NUMBER else text)}"


def _between(column: str, bounds: Range, params: Parameters) -> str:
    if bounds.lower is not None and bounds.lower == bounds.upper:
        return f"{column} = {params.add(bounds.lower)}"
    # Without a lower bound an empty column would be within.
    conditions = [f"{column} >= {params.add(bounds.lower)}" if bounds.lower else f"{column} > ''"]
    if bounds.upper is not None:
        conditions.append(f"{column} <= {params.add(bounds.upper)}")
    return " AND ".join(conditions)


def _like(column: str, key: Wildcard, params: Parameters) -> str:
    return " AND ".join([*_prefix(column, key, params), *_pattern(column, key, [key.sql_like], params)])


def _prefix(column: str, key: Wildcard, params: Parameters) -> list[str]:
    if not key.prefix:
        return []
    lower, upper = params.add(key.prefix), params.add(key.prefix + LAST_CHARACTER)
    return [f"{column} >= {lower}", f"{column} < {upper}"]


def _pattern(column: str, key: Wildcard, patterns: list[str], params: Parameters) -> list[str]:
    if key.prefix and key.parts == (key.prefix, "*"):
        return []  # the range says it all
    return ["(" + " OR ".join(rf"{column} LIKE {params.add(one)} ESCAPE '\'" for one in patterns) + ")"]


def _name_equals(column: str, text: str, params: Parameters) -> str:
    """Any one group equals the key. A key in Latin letters is looked up in the first group, by index."""
    if "=" in text:
        return _name_groups(column, [_escaped(group) for group in text.split("=")], params)
    whole, more, end = params.add(text), params.add(text + "="), params.add(text + ">")
    # In ASCII '>' follows '='. The range around both alternatives is what an index can begin at.
    first = f"{column} >= {whole} AND {column} < {end} AND ({column} = {whole} OR {column} >= {more})"
    if text.isascii():
        return first
    return "(" + " OR ".join([f"({first})", *_later_groups(column, _escaped(text), params)]) + ")"


def _name_like(column: str, key: Wildcard, params: Parameters) -> str:
    pattern = key.sql_like
    if "=" in key.pattern:
        return _name_groups(column, pattern.split("="), params)
    first = [*_prefix(column, key, params), *_pattern(column, key, [pattern, pattern + "=%"], params)]
    in_first_group = " AND ".join(first)
    if key.pattern.isascii():
        return in_first_group
    return "(" + " OR ".join([in_first_group, *_later_groups(column, pattern, params)]) + ")"


def _later_groups(column: str, pattern: str, params: Parameters) -> list[str]:
    return [rf"{column} LIKE {params.add(f'%={pattern}{tail}')} ESCAPE '\'" for tail in ("", "=%")]


def _name_groups(column: str, patterns: list[str], params: Parameters) -> str:
    """Group by group; one that the key leaves empty matches anything."""
    whole = "=".join(pattern or "%" for pattern in patterns)
    alternatives = (rf"{column} LIKE {params.add(one)} ESCAPE '\'" for one in (whole, whole + "=%"))
    return "(" + " OR ".join(alternatives) + ")"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _integer(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = _INTEGER_MAX + 1
    if abs(number) > _INTEGER_MAX:
        raise InvalidInput("a matching value is not an integer", code="invalid-value")
    return number
