"""Structured reports as text for people: HTML without scripts, styles or links, or plain text (PS3.18 Table
8.7.4-1).

The content tree is written as it is (PS3.3 C.17.3), every word of it escaped: an object's texts are
strangers' words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.person_name import PersonName
from isocenter.dicom.scan_limits import ScanError
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.errors import NoContentTree
from isocenter.imaging.rendering.request import HTML

_CONTENT_SEQUENCE = 0x0040A730
_VALUE_TYPE = 0x0040A040
_CONCEPT_NAME = 0x0040A043
_ITEMS_MAX = 20_000
_TEXT_CHARACTERS_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """``depth`` from 0; ``name`` is what the item is about, ``value`` what it says of it."""

    depth: int
    name: str
    value: str
    heading: bool = False


def render_document(data_set: bytes, transfer_syntax_uid: str, media_type: str) -> bytes:
    """UTF-8. ``data_set``: the whole of it. Raises NoContentTree."""
    try:
        report = Attributes.of_elements(read_dataset(data_set, transfer_syntax_uid))
    except ScanError as error:
        raise NoContentTree from error
    lines = [*_content(report, 0)]
    if not lines:
        raise NoContentTree
    title = _concept(report, _CONCEPT_NAME) or "Report"
    head = [*_head(report)]
    written = _as_html(title, head, lines) if media_type == HTML else _as_text(title, head, lines)
    return written.encode()


def _head(report: Attributes) -> Iterator[Line]:
    """Whose report it is, of when, and how far it is settled (PS3.3 C.17.2)."""
    for name, value in (
        ("Patient", _name(report.text(0x00100010))),
        ("Patient ID", report.text(0x00100020)),
        ("Birth date", _date(report.word(0x00100030))),
        ("Study", report.text(0x00081030)),
        ("Study date", _date(report.word(0x00080020))),
        ("Accession number", report.text(0x00080050)),
        ("Content date", _date(report.word(0x00080023))),
        ("Completion", report.word(0x0040A491).capitalize()),
        ("Verification", report.word(0x0040A493).capitalize()),
        *((("Verified by"), _name(one.text(0x0040A075))) for one in report.items(0x0040A073)),
    ):
        if value:
            yield Line(0, name, value)


def _content(report: Attributes, depth: int) -> Iterator[Line]:
    waiting = [(item, depth) for item in reversed(report.items(_CONTENT_SEQUENCE))]
    for _ in range(_ITEMS_MAX):
        if not waiting:
            return
        item, level = waiting.pop()
        container = item.word(_VALUE_TYPE) == "CONTAINER"
        yield Line(level, _concept(item, _CONCEPT_NAME), "" if container else _value(item), container)
        waiting += [(below, level + 1) for below in reversed(item.items(_CONTENT_SEQUENCE))]
    yield Line(0, "", "The report is longer than what is shown here.")


def _value(item: Attributes) -> str:  # noqa: PLR0911 - one line per value type of PS3.3 Table C.17.3-7
    match item.word(_VALUE_TYPE):
        case "TEXT":
            return item.text(0x0040A160)[:_TEXT_CHARACTERS_MAX]
        case "CODE":
            return _concept(item, 0x0040A168)
        case "NUM":
            return _measured(item)
        case "PNAME":
            return _name(item.text(0x0040A123))
        case "DATE":
            return _date(item.word(0x0040A121))
        case "TIME":
            return _time(item.word(0x0040A122))
        case "DATETIME":
            stamp = item.word(0x0040A120)
            return f"{_date(stamp[:8])} {_time(stamp[8:])}".strip()
        case "UIDREF":
            return item.word(0x0040A124)
        case "IMAGE" | "COMPOSITE" | "WAVEFORM":
            return ", ".join(one.word(0x00081155) for one in item.items(0x00081199))
        case "SCOORD" | "SCOORD3D":
            numbers = ", ".join(f"{number:.6g}" for number in item.numbers(0x00700022)[:64])
            return f"{item.word(0x00700023).lower()} {numbers}".strip()
        case "TCOORD":
            return item.word(0x0040A130).lower()
        case _:
            return ""


def _measured(item: Attributes) -> str:
    value = item.item(0x0040A300)
    if value is None:
        return _concept(item, 0x0040A301)  # why there is none
    unit = value.item(0x004008EA)
    code = unit.text(0x00080100) if unit is not None else ""
    shown = code if code and not code.startswith("{") else _concept(value, 0x004008EA)
    # 1 is UCUM's "no unit".
    return f"{value.text(0x0040A30A)} {shown if shown != '1' else ''}".strip()


def _concept(item: Attributes, sequence: int) -> str:
    code = item.item(sequence)
    if code is None:
        return ""
    return code.text(0x00080104) or code.text(0x00080100) or code.text(0x00080119) or code.text(0x00080120)


def _name(text: str) -> str:
    name = PersonName.parse(text)
    groups = (" ".join(part for part in group.split("^") if part) for group in name.groups if group)
    return " / ".join(groups)


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdecimal() else text


def _time(text: str) -> str:
    return f"{text[:2]}:{text[2:4]}" if len(text) >= 4 and text[:4].isdecimal() else text


def _as_text(title: str, head: list[Line], lines: list[Line]) -> str:
    written = [title, "", *(f"{line.name}: {line.value}" for line in head), ""]
    for line in lines:
        indent = "  " * line.depth
        name = f"{line.name}: " if line.name and line.value else line.name
        first, *others = (line.value.splitlines() or [""]) if line.value else [""]
        written += [f"{indent}{name}{first}", *(f"{indent}  {other}" for other in others)]
    return "\n".join(_without_controls(line) for line in written) + "\n"


def _without_controls(line: str) -> str:
    return "".join(c for c in line if c.isprintable() or c == "\t")


def _as_html(title: str, head: list[Line], lines: list[Line]) -> str:
    written = [
        '<!DOCTYPE html>\n<html><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title></head><body>",
        f"<h1>{escape(title)}</h1>",
        "<table>",
        *(f"<tr><th>{escape(line.name)}</th><td>{escape(line.value)}</td></tr>" for line in head),
        "</table>",
    ]
    depth = -1
    for line in lines:
        while depth > line.depth:
            written.append("</li></ul>")
            depth -= 1
        if depth == line.depth:
            written.append("</li>")
        while depth < line.depth:
            written.append("<ul>")
            depth += 1
        written.append(f"<li>{_line_as_html(line)}")
    written += ["</li></ul>"] * (depth + 1)
    return "\n".join(written) + "\n</body></html>\n"


def _line_as_html(line: Line) -> str:
    value = "<br>".join(escape(part) for part in line.value.splitlines())
    if line.heading:
        return f"<strong>{escape(line.name) or 'Section'}</strong>"
    return f"<em>{escape(line.name)}</em>: {value}" if line.name else value
