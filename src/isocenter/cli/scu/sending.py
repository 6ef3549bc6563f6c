"""``isocenter scu send``: files, or objects of the archive, to another system."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from isocenter.cli.account_commands import InOrganization
from isocenter.cli.opened import organization_named, with_archive
from isocenter.cli.scu.peers import plain, with_peer
from isocenter.cli.scu.sources import Batch, Unsendable, archive_batches, file_batches
from isocenter.cli.witness import operator
from isocenter.dimse.scu.peers import Peer
from isocenter.dimse.scu.sending import SendOutcome, Sent
from isocenter.kit.errors import InvalidInput
from isocenter.kit.sizes import format_bytes
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.archive import Archive

_SHOWN = 20

Files = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILES_OR_FOLDERS]...", help="What to send.", exists=True)
]
Uids = list[str] | None


@dataclass(slots=True)
class SendReport:
    """``left_alone`` counts files in folders that are not DICOM objects."""

    peer: Peer
    done: int = 0
    arrived_bytes: int = 0
    rewritten: int = 0
    left_alone: int = 0
    outcomes: Counter[SendOutcome] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def take(self, name: str, outcome: SendOutcome, says: str) -> None:
        self.done += 1
        self.outcomes[outcome] += 1
        if not outcome.arrived and len(self.failures) < _SHOWN:
            self.failures.append((name, says))

    @property
    def arrived(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome.arrived)

    @property
    def complete(self) -> bool:
        return all(outcome.arrived for outcome in self.outcomes)


@with_peer
def send(
    loaded: LoadedSettings,
    peer: Peer,
    *,
    files: Files = None,
    study: Annotated[Uids, typer.Option("--study", help="Study Instance UID, of the archive.")] = None,
    series: Annotated[Uids, typer.Option("--series", help="Series Instance UID, of the archive.")] = None,
    org: InOrganization = "",
    associations: Annotated[int, typer.Option("--associations", min=1, max=64, help="How many at once.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Send files and folders, or studies and series of the archive (C-STORE), each in its own encoding.

    Exit code 1 unless all arrived. With --json a line for each object, {"name", "outcome":
    stored|stored-with-warning|refused|not-accepted|failed, "says", and where it is one "sop_class_uid",
    "sop_instance_uid", "transfer_syntax_uid", "status", "attempts", "rewritten_to"}, and at the end
    {"summary": {…}}, stable.
    """
    import uvloop

    if not files and not study and not series:
        raise InvalidInput("Nothing to send.", remedy="Name files or folders, or give --study or --series.")
    sending = _Sending(peer, associations, as_json)
    if files:
        uvloop.run(sending.run(file_batches(files)))
    if study or series:
        with_archive(loaded, lambda archive: _send_kept(archive, sending, org, study or (), series or ()))
    report = sending.report
    typer.echo(orjson.dumps({"summary": _as_json(report)}) if as_json else _summary(report))
    if not report.complete:
        raise typer.Exit(1)


async def _send_kept(
    archive: Archive, sending: _Sending, org: str, studies: Sequence[str], series: Sequence[str]
) -> None:
    """Objects that leave the archive are told to the trail, an event for each study or series."""
    from isocenter.platform.security import Action, EventOutcome, event_of

    organization_id = await organization_named(archive.database, org)

    def tell(batch: Batch, arrived: int) -> None:
        complete = arrived == len(batch.objects)
        archive.trail.record(
            event_of(
                operator(organization_id),
                Action.EXPORT,
                outcome=EventOutcome.SUCCESS if complete else EventOutcome.FAILED,
                resource_kind="series" if batch.series else "study",
                resource_id=batch.series or batch.study,
                details={
                    "study": batch.study,
                    "to": str(sending.report.peer),
                    "instances": len(batch.objects),
                    "arrived": arrived,
                },
            )
        )

    await sending.run(archive_batches(archive, organization_id, studies, series), tell)


class _Sending:
    def __init__(self, peer: Peer, associations: int, as_json: bool) -> None:
        self.report = SendReport(peer)
        self._associations = associations
        self._as_json = as_json

    async def run(
        self, batches: AsyncIterator[Batch], done: Callable[[Batch, int], None] = lambda *_: None
    ) -> None:
        """``done`` hears of each batch, however it ended, how many of it arrived."""
        from isocenter.dimse.scu.peers import Remotes
        from isocenter.dimse.scu.sending import SendObjects

        columns = (TextColumn("Sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        total = 0
        with Progress(*columns, console=Console(stderr=True), disable=self._as_json) as bar:
            task = bar.add_task("", total=None)

            def tell(sent: Sent) -> None:
                self._note(sent)
                bar.advance(task)

            async with Remotes(associations_max=self._associations) as remotes:
                send_objects = SendObjects(remotes, self.report.peer, associations=self._associations)
                async for batch in batches:
                    total += len(batch.objects)
                    bar.update(task, total=total)
                    self.report.left_alone += batch.left_alone
                    for unsendable in batch.unsendable:
                        self._note_unsendable(unsendable)
                    arrived = self.report.arrived
                    try:
                        await send_objects.run(batch.objects, tell)
                    finally:
                        done(batch, self.report.arrived - arrived)

    def _note(self, sent: Sent) -> None:
        report, one = self.report, sent.object
        report.take(one.name, sent.outcome, plain(sent.says))
        if sent.outcome.arrived:
            report.arrived_bytes += one.size
            report.rewritten += sent.rewritten_to != ""
        if self._as_json:
            self._print(
                one.name,
                sent.outcome,
                sent.says,
                sop_class_uid=one.sop_class_uid,
                sop_instance_uid=one.sop_instance_uid,
                transfer_syntax_uid=one.transfer_syntax_uid,
                status=None if sent.status is None else f"{sent.status:04X}",
                attempts=sent.attempts,
                rewritten_to=sent.rewritten_to,
            )

    def _note_unsendable(self, one: Unsendable) -> None:
        self.report.take(one.name, SendOutcome.FAILED, one.says)
        if self._as_json:
            self._print(one.name, SendOutcome.FAILED, one.says)

    def _print(self, name: str, outcome: SendOutcome, says: str, **more: str | int | None) -> None:
        typer.echo(orjson.dumps({"name": name, "outcome": outcome.value, "says": says, **more}))


def _summary(report: SendReport) -> str:
    lines = [f"\n{report.done} objects for {report.peer}, {format_bytes(report.arrived_bytes)} arrived:"]
    lines += [f"  {count:>8}  {outcome.value}" for outcome, count in report.outcomes.most_common()]
    if report.rewritten:
        lines.append(f"  {report.rewritten:>8}  of them rewritten: it does not take their transfer syntax")
    if report.left_alone:
        lines.append(f"  {report.left_alone:>8}  files that are no DICOM objects, left alone")
    if report.failures:
        lines.append("\nDid not arrive:")
        lines += [f"  {plain(name)}: {says}" for name, says in report.failures]
    missing = sum(count for outcome, count in report.outcomes.items() if not outcome.arrived)
    if missing > len(report.failures):
        lines.append(f"  … and {missing - len(report.failures)} more (--json lists them)")
    return "\n".join(lines)


def _as_json(report: SendReport) -> dict[str, Any]:
    return {
        "objects": report.done,
        "bytes_arrived": report.arrived_bytes,
        "outcomes": {outcome.value: count for outcome, count in report.outcomes.items()},
        "rewritten": report.rewritten,
        "left_alone": report.left_alone,
    }
