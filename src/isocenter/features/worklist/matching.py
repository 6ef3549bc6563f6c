"""Matching a data set against keys (PS3.4 C.2.2.2), inside sequences too (C.2.2.2.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isocenter.dicom.datetimes import Range, canonical_date, canonical_time, parse_range
from isocenter.dicom.dictionary import keyword_of, tag_of, vr_of
from isocenter.dicom.matching import DateTimeRange, MatchingKey, SingleValue, UidList, Universal, classify
from isocenter.features.worklist.datasets import items, text
from isocenter.kit.errors import InvalidInput

_PATH_MAX = 8
_KEYS_MAX = 200
_LAST = "\U0010ffff"

# Dates whose range and whose time's range are one (PS3.4 K.2.2.1.1 for the scheduled start).
_TIME_OF_DATE = {0x00400002: 0x00400003, 0x00400004: 0x00400005}
_TIMES = frozenset(_TIME_OF_DATE.values())


@dataclass(slots=True)
class Keys:
    """``values`` by tag, ``within`` the keys of each sequence's items; ``texts`` as they were asked."""

    values: dict[int, MatchingKey] = field(default_factory=dict)
    within: dict[int, Keys] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.within)

    def single(self, tag: int) -> str:
        """The one value that is asked for, where an index may look for it; empty otherwise."""
        match self.values.get(tag):
            case SingleValue(text=one):
                return one
            case UidList(uids=(one,)):
                return one
            case _:
                return ""

    def bounds(self, tag: int) -> tuple[str, str]:
        """Of a date or time: what an index may look between; everything where nothing is asked."""
        match self.values.get(tag):
            case DateTimeRange(range=asked):
                return asked.lower or "", asked.upper + _LAST if asked.upper else _LAST
            case _:
                return "", _LAST


def keys_of_parameters(pairs: Sequence[tuple[str, str]]) -> Keys:
    """From ``(attribute path, value)`` (PS3.18 §8.3.4.1): keywords or tags, with dots into sequences.

    Raises InvalidInput, naming the parameter, never its value.
    """
    keys = Keys()
    if len(pairs) > _KEYS_MAX:
        raise InvalidInput(f"More than {_KEYS_MAX} matching keys.", code="too-many-parameters")
    merged: dict[str, str] = {}
    for name, value in pairs:
        merged[name] = f"{merged[name]}\\{value}" if merged.get(name) and value else value
    for name, value in merged.items():
        path = [tag_of(part) for part in name.split(".")]
        if len(path) > _PATH_MAX or any(vr_of(tag) != "SQ" for tag in path[:-1]):
            raise InvalidInput(
                f"{name[:64]!r} leads through no sequence.",
                code="unknown-attribute",
                remedy="Write for example ScheduledWorkitemCodeSequence.CodeValue.",
            )
        place = keys
        for tag in path[:-1]:
            place = place.within.setdefault(tag, Keys())
        vr = vr_of(path[-1])
        _add(place, path[-1], vr, value.replace(",", "\\") if vr == "UI" else value)
    return keys


def keys_of_data_set(data_set: Mapping[str, Any], *, depth: int = 0) -> Keys:
    """From an identifier (PS3.4 C.4.1.1.3.1). Raises InvalidInput."""
    keys = Keys()
    for name, attribute in data_set.items():
        tag, vr = int(name, 16), attribute["vr"]
        if vr == "SQ":
            inner = items(data_set, tag)
            if inner and depth < _PATH_MAX and (found := keys_of_data_set(inner[0], depth=depth + 1)):
                keys.within[tag] = found
        elif attribute.get("Value"):
            _add(keys, tag, vr, text(data_set, tag))
    return keys


def _add(keys: Keys, tag: int, vr: str, value: str) -> None:
    try:
        key = _time_key(value) if tag in _TIMES and "-" in value else classify(vr, value)
    except InvalidInput as error:
        name = keyword_of(tag) or f"{tag:08X}"
        raise InvalidInput(f"{name}: {error.detail}.", code=error.code, remedy=error.remedy) from None
    if not isinstance(key, Universal):
        keys.values[tag] = key


def _time_key(value: str) -> MatchingKey:
    """A range of times that may end earlier than it begins, since its ends belong to two dates."""
    first, _, last = (part.strip(" \0") for part in value.partition("-"))
    lower = parse_range(first, "TM").lower if first else None
    upper = parse_range(last, "TM").upper if last else None
    return DateTimeRange("TM", Range(lower, upper)) if first or last else classify("TM", value)


def matches(data_set: Mapping[str, Any], keys: Keys) -> bool:
    """Whether every key matches; a sequence's keys all by one of its items."""
    combined = _combined(data_set, keys)
    if combined is False:
        return False
    skipped = set() if combined is None else {*_TIME_OF_DATE, *_TIME_OF_DATE.values()}
    for tag, key in keys.values.items():
        if tag not in skipped and not _matches_value(data_set, tag, key):
            return False
    return all(
        any(matches(item, inner) for item in items(data_set, tag)) for tag, inner in keys.within.items()
    )


def _matches_value(data_set: Mapping[str, Any], tag: int, key: MatchingKey) -> bool:
    found = text(data_set, tag)
    if isinstance(key, DateTimeRange) and not found:
        return False
    return any(key.matches(one) for one in found.split("\\"))


def _combined(data_set: Mapping[str, Any], keys: Keys) -> bool | None:
    """Whether a range of dates and a range of times, taken as one, hold; None where the keys ask for none."""
    for date_tag, time_tag in _TIME_OF_DATE.items():
        match keys.values.get(date_tag), keys.values.get(time_tag):
            case DateTimeRange(range=date), DateTimeRange(range=time) if date.lower != date.upper:
                moment = _canonical(data_set, date_tag, time_tag)
                lower = (date.lower or "") + ((time.lower or "") if date.lower else "")
                upper = (date.upper or "") + ((time.upper or _LAST) if date.upper else _LAST)
                return moment is not None and lower <= moment <= upper
    return None


def _canonical(data_set: Mapping[str, Any], date_tag: int, time_tag: int) -> str | None:
    day = canonical_date(text(data_set, date_tag))
    return None if day is None else day + (canonical_time(text(data_set, time_tag)) or "")
