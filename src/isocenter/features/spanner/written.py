"""Limits and quirks as the JSON that a row keeps; what it does not say is as by default."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import orjson

from isocenter.dicom.levels import Level
from isocenter.features.spanner.entries import Limits, Quirks


def limits_text(limits: Limits) -> str:
    return _text(asdict(limits))


def read_limits(text: str) -> Limits:
    return Limits(**_known(Limits, orjson.loads(text)))


def quirks_text(quirks: Quirks) -> str:
    values = asdict(quirks)
    values["needs"] = {str(level): list(keywords) for level, keywords in quirks.needs.items()}
    values["unreturned"] = sorted(quirks.unreturned)
    return _text(values)


def read_quirks(text: str) -> Quirks:
    values = _known(Quirks, orjson.loads(text))
    needs = values.pop("needs", {})
    unreturned = values.pop("unreturned", ())
    return Quirks(
        **values,
        needs={Level(level): tuple(keywords) for level, keywords in needs.items()},
        unreturned=frozenset(unreturned),
    )


def _text(values: dict[str, Any]) -> str:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


def _known(kind: type[Limits] | type[Quirks], values: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
