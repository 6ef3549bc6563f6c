"""``isocenter import``: a folder tree into the archive, with a progress bar and an honest summary."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from isocenter.cli.account_commands import InOrganization
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import named, organization_named
from isocenter.kit.sizes import format_bytes
from isocenter.platform.settings import LoadedSettings, Settings

if TYPE_CHECKING:
    from isocenter.app.archive import Archive
    from isocenter.features.archive.importing import ImportReport

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_SHOWN = 20
_OUTCOMES = {
    "duplicate": "duplicate: the very same object is here already",
    "replaced": "replaced an older object of the same SOP Instance UID",
    "kept-both": "kept beside an older object of the same SOP Instance UID",
    "kept-first": "dropped: another object of the same SOP Instance UID is here (conflict_policy keep-first)",
    "rejected": "rejected: another object of the same SOP Instance UID is here (conflict_policy reject)",
}
_REASONS = {
    "missing": "missing attributes",
    "invalid-uid": "ill-formed UIDs",
    "file-meta-mismatch": "file meta information that contradicts the data set",
    "truncated": "files that end early",
    "not-dicom": "not DICOM, although the name says so",
    "unknown-sop-class": "SOP classes that the standard does not list",
}


class _Pace(ProgressColumn):
    """Files a second: an archive of small files is limited by their number, not by their size."""

    def render(self, task: Task) -> Text:
        pace = task.finished_speed or task.speed
        return Text(f"{pace:,.0f} files/s" if pace else "", style="progress.data.speed")


@app.command(name="import")
@partial(with_settings, shown=("Places", "What is accepted", "Limits"))
def import_folder(
    loaded: LoadedSettings,
    folder: Annotated[Path, typer.Argument(help="Folder tree or file to import", exists=True)],
    org: InOrganization = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Import every DICOM file under FOLDER. Running it again skips what is already there.

    Exit code 1 when a file could not be read, or an object was rejected or went to quarantine.
    With --json: {"files", "bytes", "outcomes": {kind: n}, "quarantined_because": {code: n}, "refused":
    [[path, outcome, codes]], "not_dicom", "dicomdirs", "unreadable": [[path, why]]}, stable.
    """
    import uvloop

    report = uvloop.run(_import(loaded.settings, folder, org, quiet=as_json))
    if as_json:
        typer.echo(orjson.dumps(_as_json(report), option=orjson.OPT_INDENT_2))
    else:
        typer.echo(_summary(report, org))
    if not _all_taken(report):
        raise typer.Exit(1)


async def _import(settings: Settings, folder: Path, org: str, *, quiet: bool) -> ImportReport:
    from isocenter.app.archive import open_archive
    from isocenter.features.archive.importing import FolderImport, stopped_by

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Pace(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    async with open_archive(settings) as archive:
        organization_id = await organization_named(archive.database, org)
        with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
            task = bar.add_task("Importing", total=None)

            def show(report: ImportReport) -> None:
                total = report.found if report.walked else None
                bar.update(task, completed=report.done, total=total)

            try:
                report = await FolderImport(archive.ingest, organization_id).run(folder, progress=show)
                _record(archive, organization_id, folder, report, "")
                return report
            except ExceptionGroup as group:
                _record(archive, organization_id, folder, None, type(stopped_by(group) or group).__name__)
                reason = stopped_by(group)
                if reason is None:
                    raise
                raise reason from group


def _record(
    archive: Archive, organization_id: int, folder: Path, report: ImportReport | None, reason: str
) -> None:
    """One event for the folder: it is one thing that somebody did."""
    from isocenter.cli.witness import operator
    from isocenter.platform.security import Action, EventOutcome, event_of

    told: dict[str, str | int | float | bool | None] = {"reason": reason} if reason else {}
    if report is not None:
        told |= {"files": report.done, "unreadable": report.failed}
        told |= {kind.value: count for kind, count in report.outcomes.items()}
    archive.trail.record(
        event_of(
            operator(organization_id),
            Action.STORE,
            outcome=EventOutcome.FAILED if reason else EventOutcome.SUCCESS,
            resource_kind="folder",
            resource_id=str(folder),
            details=told,
        )
    )


def _all_taken(report: ImportReport) -> bool:
    return not report.failed and all(kind.accepted for kind in report.outcomes)


def _summary(report: ImportReport, org: str = "") -> str:
    if not report.done and not report.failed:
        return "\nNo files there."
    files = "1 file" if report.done == 1 else f"{report.done:,} files"
    lines = [f"\n{files} looked at, {format_bytes(report.done_bytes)} of DICOM:"]
    for kind, count in report.outcomes.most_common():
        lines.append(f"  {count:>8}  {_OUTCOMES.get(kind.value, kind.value)}")
        if kind.value == "rejected":
            lines += _listed([path for path, refused, _ in report.refused if refused is kind], count)
        if kind.value == "quarantined":
            lines += [
                f"            … because: {_REASONS.get(code, code)} ({reason_count})"
                for code, reason_count in report.reasons.most_common()
            ]
    if report.directories:
        lines.append(f"  {report.directories:>8}  DICOMDIR, not needed")
    if report.not_dicom:
        lines.append(f"  {report.not_dicom:>8}  not DICOM, left alone")
    if report.failed:
        lines.append(f"  {report.failed:>8}  could not be read:")
        lines += _listed([f"{path}: {why}" for path, why in report.failures], report.failed)
    if report.reasons:
        lines.append(f"\nLook at the quarantine with: isocenter quarantine list{named(org)}")
    return "\n".join(lines)


def _listed(names: list[str], count: int) -> list[str]:
    lines = [f"            {name}" for name in names[:_SHOWN]]
    return (
        [*lines, f"            … and {count - _SHOWN} more (--json lists them)"] if count > _SHOWN else lines
    )


def _as_json(report: ImportReport) -> dict[str, object]:
    return {
        "files": report.done,
        "bytes": report.done_bytes,
        "outcomes": {kind.value: count for kind, count in report.outcomes.items()},
        "quarantined_because": dict(report.reasons),
        "refused": report.refused,
        "not_dicom": report.not_dicom,
        "dicomdirs": report.directories,
        "unreadable": report.failures,
    }
