"""``isocenter span``: one question to all archives of a configuration; a table fills while they answer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from isocenter.cli.deeds import Deed, do_in_spanning
from isocenter.cli.flags import with_settings
from isocenter.cli.texts import counted, plain, value_text
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import Action, Subject
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.spanning import Spanning
    from isocenter.dicom.levels import Level
    from isocenter.features.spanner.asking import Asking, Result
    from isocenter.features.spanner.configurations import Configurations
    from isocenter.features.spanner.fan_out import Outcome
    from isocenter.features.spanner.question import Question

EXIT_INCOMPLETE = 3

_COLUMNS = {
    "patient": ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID"),
    "study": (
        "StudyDate",
        "PatientID",
        "PatientName",
        "ModalitiesInStudy",
        "StudyDescription",
        "NumberOfStudyRelatedInstances",
        "StudyInstanceUID",
    ),
    "series": (
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "SeriesInstanceUID",
    ),
    "instance": ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
_ROWS_WHILE_LIVE = 15

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@with_settings
def span(
    loaded: LoadedSettings,
    keys: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE...", help="What to match: 'PatientName=DOE*' StudyDate=20260101-"),
    ],
    *,
    spanner: Annotated[
        str,
        typer.Option("--spanner", help="Name or number of the configuration; not needed for the only one."),
    ] = "",
    level: Annotated[str, typer.Option("--level", help="patient, study, series or instance.")] = "study",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Answers at most.")] = 200,
    org: Annotated[
        str, typer.Option("--org", help="The organisation's short name; without it: the default one.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer with all that is known of it.")
    ] = False,
) -> None:
    """Ask all archives of a configuration one question.

    Exit code 0: all of them answered; 3: some did not, and what is shown may lack something; 1: failed.
    """
    question = _question(level, keys, limit)

    async def run(spanning: Spanning, subject: Subject) -> Result:
        from isocenter.features.spanner.query_log import Asker

        number = await config_named(spanning.configurations, subject.organization_id, spanner)
        asker = Asker(subject.kind, subject.id, subject.name)
        asking = await spanning.spanner.begin(subject.organization_id, number, question, asker=asker)
        with asking.interest():
            await _watch(asking, live=not as_json and Console().is_terminal)
            return await asking.settled()

    deed = Deed(Action.SEARCH, "spanner-query", spanner, {"level": level, "keys": " ".join(keys)})
    result = do_in_spanning(loaded, org, deed, run)
    if as_json:
        _print_json(result)
    else:
        _print(result, level)
    if not result.is_complete:
        raise typer.Exit(EXIT_INCOMPLETE)


async def config_named(configurations: Configurations, organization_id: int, name: str) -> int:
    """Its number. Raises InvalidInput where none or several could be meant."""
    found = await configurations.all(organization_id)
    if not name and len(found) == 1:
        return found[0].id
    for one in found:
        if name in {one.name, str(one.id)}:
            return one.id
    if not found:
        raise InvalidInput("There is no spanner configuration.", remedy="isocenter spanner add NAME")
    raise InvalidInput(
        f"There is no configuration {plain(name)}." if name else "There are several configurations.",
        remedy="Give --spanner with one of: " + ", ".join(one.name for one in found),
    )


def _question(level: str, keys: list[str], limit: int) -> Question:
    from isocenter.dicom.dictionary import tag_of
    from isocenter.dicom.levels import Level
    from isocenter.features.spanner.question import Question

    if level not in _COLUMNS:
        raise InvalidInput(
            f"{plain(level)} is no level.", remedy="Give --level patient, study, series or instance."
        )
    matches: dict[int, str] = {}
    for key in keys:
        name, equals, value = key.partition("=")
        if not equals:
            raise InvalidInput(
                f"{plain(key)} has no value.", remedy="Write KEY=VALUE, such as PatientID=123."
            )
        matches[tag_of(name.strip())] = value
    return Question(Level(level), matches, frozenset(map(tag_of, _COLUMNS[level])), limit=limit)


async def _watch(asking: Asking, *, live: bool) -> None:
    """On a terminal sources fill in and results grow; elsewhere it only waits."""
    if not live:
        return
    with Live(_picture(asking), console=Console(), transient=True, auto_refresh=False) as picture:
        async for _ in asking.watch():
            picture.update(_picture(asking), refresh=True)


def _picture(asking: Asking) -> Group:
    from isocenter.features.spanner.asking import Came

    result = asking.so_far()
    ended = {one.source.id: one for one in result.outcomes}
    sources = Table(box=box.SIMPLE, show_header=False)
    rows: Counter[int] = Counter()
    for event in asking.events:
        if isinstance(event, Came):
            rows[event.source.id] += len(event.rows)
    for step in asking.plan.steps:
        outcome = ended.get(step.source.id)
        said = _said(outcome) if outcome else f"… {counted(rows[step.source.id], 'row')}"
        sources.add_row(Text(step.source.name), Text(said))
    return Group(sources, _table(result, asking.question.level, _ROWS_WHILE_LIVE))


def _said(one: Outcome) -> str:
    from isocenter.features.spanner.failures import Ended

    took = f"{one.took_s * 1000:.0f} ms"
    if one.ended is Ended.ANSWERED:
        more = ", has more" if one.more else ""
        return f"answered in {took}: {counted(one.rows, 'row')}{more}"
    return f"{one.ended} after {took}: {one.detail}" if one.attempts else f"{one.ended}: {one.detail}"


def _table(result: Result, level: str | Level, rows_max: int) -> Table:
    from isocenter.dicom.dictionary import tag_of

    names = {one.source.id: one.source.name for one in result.outcomes}
    table = Table(box=box.SIMPLE, header_style="")
    for keyword in (*_COLUMNS[str(level)], "found in"):
        table.add_column(keyword, overflow="fold")
    for answer in result.answers[:rows_max]:
        cells = [_cell(answer.row.get(tag_of(keyword), "")) for keyword in _COLUMNS[str(level)]]
        found_in = ", ".join(names.get(source_id, "…") for source_id in answer.found_in)
        table.add_row(*map(Text, [*cells, plain(found_in)]))
    return table


def _cell(attribute: str) -> str:
    return value_text(orjson.loads(attribute)) if attribute else ""


def _print(result: Result, level: str) -> None:
    from isocenter.dicom.dictionary import keyword_of

    console = Console()
    if result.answers:
        console.print(_table(result, level, len(result.answers)))
    names = {one.source.id: one.source.name for one in result.outcomes}
    typer.echo(f"{counted(len(result.answers), 'answer')}{', there are more' if result.more else ''}")
    for outcome in result.outcomes:
        typer.echo(f"  {plain(outcome.source.name)}: {_said(outcome)}")
        if outcome.remedy and outcome.is_missing:
            typer.echo(f"    {outcome.remedy}")
    for answer in result.answers:
        for one in answer.contradictions:
            values = "; ".join(f"{names[source]}: {_cell(value)}" for source, value in one.values.items())
            typer.echo(
                f"  {answer.identity[-1]}: they contradict each other in {keyword_of(one.tag)}: {values}"
            )
        if answer.shared_name:
            typer.echo(f"  {answer.identity[-1]}: another patient has a study of this UID, too")


def _print_json(result: Result) -> None:
    from isocenter.doors.spanning.answers import envelope
    from isocenter.features.spanner.service import Spanned

    body: dict[str, Any] = envelope(Spanned(result))
    typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2))
