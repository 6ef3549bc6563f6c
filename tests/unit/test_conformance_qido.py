"""docs/conformance/qido-rs.md says of every attribute, parameter and path what the program does with it."""

from __future__ import annotations

import re
from pathlib import Path

from isocenter.dicom.dictionary import keyword_of
from isocenter.doors.dicomweb import search_request
from isocenter.doors.dicomweb.search_defaults import LEVELS, returned
from isocenter.features.archive.attributes import AT_LEVEL, Attribute
from isocenter.features.archive.query_order import can_order_by

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "conformance" / "qido-rs.md").read_text(encoding="utf-8")


def how_matched(attribute: Attribute) -> str:
    if attribute.tag == 0x00080201:
        return "tells the zone of the keys"
    if attribute.vr == "SQ":
        return "its items"
    if attribute.vr == "PN":
        return "name"
    if attribute.column is not None:
        return "column"
    return "line" if attribute.vr in {"AS", "CS", "DA", "IS", "LO", "LT", "SH", "UI", "US"} else "no"


def line_of(attribute: Attribute) -> str:
    tag, level = f"{attribute.tag:08X}", attribute.level
    always = "yes" if attribute.tag in returned((level,), False, frozenset(), frozenset()) else ""
    sorts = "yes" if can_order_by(attribute.tag, level) else ""
    name = f"{keyword_of(attribute.tag)} ({tag[:4]},{tag[4:]})"
    return f"| {level} | {name} | {attribute.vr} | {always} | {how_matched(attribute)} | {sorts} |"


def lines() -> list[str]:
    return [line_of(attribute) for level in LEVELS for attribute in AT_LEVEL[level]]


def test_every_attribute_is_in_its_place() -> None:
    table = PAGE.split("\n## Attributes\n")[1].split("\n## ")[0]
    told = [line for line in table.splitlines() if re.match(r"\| (patient|study|series|instance) ", line)]
    assert told == lines()


def test_every_parameter_is_told_of() -> None:
    source = Path(search_request.__file__).read_text(encoding="utf-8")
    body = source.split("match name:")[1].split("case _:")[0]
    names = re.findall(r'"(\w+)"', "".join(re.findall(r"case (.*):", body)))
    assert len(names) >= 11
    assert [name for name in names if f"`{name}" not in PAGE] == []


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"(tests/\w+/\w+\.py)(?:::(\w+))?", PAGE))
    assert len(named) > 15
    for file, function in named:
        text = (REPOSITORY / file).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text, (file, function)
