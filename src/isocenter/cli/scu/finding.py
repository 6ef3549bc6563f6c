"""``isocenter scu find``: what does that system have?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import orjson
import typer

from isocenter.cli.scu.peers import plain, with_peer
from isocenter.dicom.dictionary import keyword_of, tag_of
from isocenter.dimse.scu.finding import UNIQUE_KEYS, Level, Question
from isocenter.dimse.scu.peers import Peer
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import LoadedSettings

_COLUMNS = {
    Level.PATIENT: ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    Level.STUDY: (
        "StudyDate",
        "PatientID",
        "PatientName",
        "ModalitiesInStudy",
        "StudyDescription",
        "NumberOfStudyRelatedInstances",
        "StudyInstanceUID",
    ),
    Level.SERIES: (
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "SeriesInstanceUID",
    ),
    Level.IMAGE: ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
_CELL_CHARACTERS_MAX = 64

Keys = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE|KEY]...",
        help="What to match, such as 'PatientName=DOE*' or StudyDate=20260101-; KEY alone: show it.",
    ),
]


@with_peer
def find(
    loaded: LoadedSettings,
    peer: Peer,
    *,
    keys: Keys = None,
    level: Annotated[str, typer.Option("--level", help="patient, study, series or image.")] = "study",
    patient_root: Annotated[
        bool, typer.Option("--patient-root", help="Ask the patient root model at lower levels too.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Stop after so many matches; 0: never.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one DICOM JSON object a line.")] = False,
) -> None:
    """Search a system (C-FIND) and show what it found as a table.

    With --json each match is a line of DICOM JSON (PS3.18 F), stable.
    """
    import uvloop

    asked = _level(level)
    columns, matching = _keys(asked, keys or [])
    question = Question(asked, matching, patient_root=patient_root)

    async def run() -> list[list[str]]:
        rows: list[list[str]] = []
        async for match in _matches(peer, question, limit):
            if as_json:
                typer.echo(match)
            else:
                found = orjson.loads(match)
                rows.append([_cell(found.get(f"{tag:08X}", {})) for tag in columns])
        return rows

    rows = uvloop.run(run())
    if not as_json:
        typer.echo(_table([keyword_of(tag) or f"{tag:08X}" for tag in columns], rows))


async def _matches(peer: Peer, question: Question, limit: int) -> AsyncIterator[bytes]:
    from isocenter.dicom.json_dataset import dataset_json
    from isocenter.dimse.scu import finding
    from isocenter.dimse.scu.peers import Remotes

    count = 0
    async with Remotes() as remotes, aclosing(finding.find(remotes, peer, question)) as matches:
        async for match in matches:
            yield dataset_json(match)
            count += 1
            if count == limit:
                return


def _level(text: str) -> Level:
    name = text.upper()
    if name == "INSTANCE":
        return Level.IMAGE
    if name not in Level.__members__:
        raise InvalidInput(f"{text!r} is no level.", remedy="Give --level patient, study, series or image.")
    return Level[name]


def _keys(level: Level, arguments: Sequence[str]) -> tuple[list[int], dict[int, str]]:
    """The columns shown and what is asked; keys without a value, where there are any, choose the columns."""
    matching: dict[int, str] = {}
    wanted: list[int] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        tag = tag_of(name.strip())
        matching[tag] = value
        if not equals:
            wanted.append(tag)
    columns = dict.fromkeys(tag for tag in matching if tag not in wanted)
    shown = dict.fromkeys(wanted or [tag_of(name) for name in _COLUMNS[level]]) | columns
    shown[UNIQUE_KEYS[level]] = None
    return list(shown), dict.fromkeys(shown, "") | matching


def _cell(attribute: dict[str, Any]) -> str:
    values = attribute.get("Value", [])
    text = plain("\\".join(_value(value) for value in values))
    return text if len(text) <= _CELL_CHARACTERS_MAX else text[: _CELL_CHARACTERS_MAX - 1] + "…"


def _value(value: object) -> str:
    if isinstance(value, dict):
        if {"Alphabetic", "Ideographic", "Phonetic"} & value.keys():
            return str(next((name for name in value.values() if name), ""))
        return "…"
    return "" if value is None else str(value)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "No match."
    widths = [max(len(row[number]) for row in [heads, *rows]) for number in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [heads, *rows]
    ]
    plural = "match" if len(rows) == 1 else "matches"
    return "\n".join([*lines, f"{len(rows)} {plural}."])
