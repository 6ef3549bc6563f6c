"""``isocenter scu get`` and ``move``: objects of another archive, into ours or to whom we name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from isocenter.cli.opened import organization_named, with_archive
from isocenter.cli.scu.peers import plain, with_peer
from isocenter.dimse.scu import retrieving
from isocenter.dimse.scu.finding import UNIQUE_KEYS, Level
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.dimse.scu.retrieving import Wanted
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.archive import Archive
    from isocenter.doors.scp.receiving import Fetched

_SHOWN = 20

Uids = list[str] | None
Study = Annotated[Uids, typer.Option("--study", help="Study Instance UID.")]
Series = Annotated[Uids, typer.Option("--series", help="Series Instance UID.")]
Instance = Annotated[Uids, typer.Option("--instance", help="SOP Instance UID.")]
Patient = Annotated[str, typer.Option("--patient", help="Patient ID.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@with_peer
def get(
    loaded: LoadedSettings,
    peer: Peer,
    *,
    study: Study = None,
    series: Series = None,
    instance: Instance = None,
    patient: Patient = "",
    sop_class: Annotated[
        Uids, typer.Option("--sop-class", help="SOP Class UIDs to ask for; without it: the common ones.")
    ] = None,
    org: Annotated[str, typer.Option("--org", help="The organisation that gets them.")] = "",
    as_json: Json = False,
) -> None:
    """Fetch objects of another archive into this one (C-GET), over one association.

    Exit code 1 unless all arrived. With --json: {"status", "completed", "failed", "warning", "outcomes": {…},
    "failures": [[UID, why]]}, stable.
    """
    wanted = _wanted(study, series, instance, patient)

    async def run(archive: Archive) -> tuple[retrieving.Progress, Fetched]:
        from isocenter.doors.scp.receiving import Fetched

        organization_id = await organization_named(archive.database, org)
        fetched = Fetched(archive.ingest, organization_id, peer.called_ae_title)
        classes = sop_class or retrieving.COMMON_SOP_CLASSES
        async with Remotes() as remotes:
            progress = retrieving.get(remotes, peer, wanted, fetched.receive, sop_classes=classes)
            last = await _shown(progress, as_json)
        _record(archive, organization_id, peer, fetched)
        return last, fetched

    last, fetched = with_archive(loaded, run)
    outcomes = {kind.value: count for kind, count in fetched.outcomes.items()}
    failures = fetched.failures + [(uid, "not sent") for uid in last.failed_uids]
    if as_json:
        typer.echo(orjson.dumps(_as_json(last) | {"outcomes": outcomes, "failures": failures}))
    else:
        lines = [f"\n{peer} said: {plain(last.in_words())}"]
        lines += [f"  {count:>8}  {kind}" for kind, count in outcomes.items()]
        lines += [f"  {uid}: {plain(why)}" for uid, why in failures[:_SHOWN]]
        typer.echo("\n".join(lines))
    if not last.complete:
        raise typer.Exit(1)


@with_peer
def move(
    loaded: LoadedSettings,
    peer: Peer,
    *,
    study: Study = None,
    series: Series = None,
    instance: Instance = None,
    patient: Patient = "",
    to: Annotated[
        str, typer.Option("--to", help="AE title that gets them, as the other knows it; without it: ours.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Have another archive send objects to an AE title (C-MOVE); to our own, our running server takes them.

    Exit code 1 unless all arrived. With --json: {"status", "completed", "failed", "warning", "failures"},
    stable.
    """
    import uvloop

    wanted = _wanted(study, series, instance, patient)

    async def run() -> retrieving.Progress:
        async with Remotes() as remotes:
            destination = to or loaded.settings.ae_title
            return await _shown(retrieving.move(remotes, peer, wanted, destination), as_json)

    last = uvloop.run(run())
    if as_json:
        typer.echo(orjson.dumps(_as_json(last) | {"failures": last.failed_uids}))
    else:
        lines = [f"\n{peer} said: {plain(last.in_words())}"]
        lines.append(f"  {last.completed + last.warning:>8}  sent, {last.failed} failed")
        lines += [f"  {uid}" for uid in last.failed_uids[:_SHOWN]]
        typer.echo("\n".join(lines))
    if not last.complete:
        raise typer.Exit(1)


def _wanted(study: Uids, series: Uids, instance: Uids, patient: str) -> Wanted:
    given = {
        Level.PATIENT: patient,
        Level.STUDY: "\\".join(study or ()),
        Level.SERIES: "\\".join(series or ()),
        Level.IMAGE: "\\".join(instance or ()),
    }
    levels = [level for level, value in given.items() if value]
    if not levels:
        raise InvalidInput("Nothing to retrieve.", remedy="Give --study, --series, --instance or --patient.")
    keys = {UNIQUE_KEYS[level]: value for level, value in given.items() if value}
    return Wanted(levels[-1], keys, patient_root=bool(patient))


async def _shown(progress: AsyncIterator[retrieving.Progress], quiet: bool) -> retrieving.Progress:
    """The last of it; the others move a bar."""
    columns = (
        TextColumn("Retrieving"),
        BarColumn(),
        TextColumn("{task.completed:.0f}"),
        TimeRemainingColumn(),
    )
    last: retrieving.Progress | None = None
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("", total=None)
        async for last in progress:
            done = last.completed + last.failed + last.warning
            total = None if last.remaining is None else done + last.remaining
            bar.update(task, completed=done, total=total)
    assert last is not None, "a request has an answer"
    return last


def _as_json(last: retrieving.Progress) -> dict[str, Any]:
    return {
        "status": f"{last.status:04X}",
        "completed": last.completed,
        "failed": last.failed,
        "warning": last.warning,
    }


def _record(archive: Archive, organization_id: int, peer: Peer, fetched: Fetched) -> None:
    from isocenter.cli.witness import operator
    from isocenter.platform.security import Action, event_of

    for study, counts in fetched.studies.items():
        archive.trail.record(
            event_of(
                operator(organization_id),
                Action.STORE,
                resource_kind="study",
                resource_id=study,
                details={"from": peer.called_ae_title, "host": peer.host, **counts},
            )
        )
