"""``isocenter quarantine``: what validation refused; look at it, correct and accept it, or let it go."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from isocenter.cli.account_commands import InOrganization
from isocenter.cli.deeds import Deed, do_in_archive
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, named
from isocenter.cli.texts import plain, value_text
from isocenter.kit.errors import InvalidInput
from isocenter.kit.sizes import format_bytes
from isocenter.platform.security import Action, Subject
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.archive import Archive
    from isocenter.features.archive.entry import Outcome
    from isocenter.features.archive.quarantine import Quarantined, State

app = typer.Typer(
    help="Look at refused objects; correct and accept, export or discard them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EntryId = Annotated[str, typer.Argument(help="The entry's id, as the list shows it.")]
_KIND = "quarantine"
_STATES = ("waiting", "accepted", "discarded")


@app.command("list")
@with_settings
def list_(
    loaded: LoadedSettings,
    *,
    state: Annotated[str, typer.Option("--state", help="waiting, accepted or discarded.")] = "waiting",
    after: Annotated[
        str, typer.Option("--after", metavar="ID", help="Only entries after the one with this id.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 100,
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """List the objects in quarantine, oldest first, each with its first problem."""
    chosen = _state(state)

    async def run(archive: Archive, subject: Subject) -> tuple[list[Quarantined], int]:
        quarantine, ours = archive.quarantine, subject.organization_id
        entries = await quarantine.list(ours, state=chosen, after=after, limit=limit)
        return entries, await quarantine.count(ours)

    told = {"state": chosen, "limit": limit}
    entries, waiting = do_in_archive(loaded, org, Deed(Action.READ, _KIND, "", told), run)
    if as_json:
        typer.echo(orjson.dumps({"waiting": waiting, "entries": entries}, option=orjson.OPT_INDENT_2))
        return
    for entry in entries:
        typer.echo(_line(entry))
    if not entries:
        typer.echo(f"No entry is {chosen}.")
    elif len(entries) == limit:
        typer.echo(f"There may be more: --after {entries[-1].id}")
    typer.echo(f"{waiting} waiting. Look at one with: isocenter quarantine show ID{named(org)}")


@app.command()
@with_settings
def show(loaded: LoadedSettings, entry_id: EntryId, org: InOrganization = "", as_json: Json = False) -> None:
    """Show one entry: its problems, what can be done about each, and what could be read of it."""

    async def run(archive: Archive, subject: Subject) -> Quarantined:
        return await archive.quarantine.get(subject.organization_id, entry_id)

    entry = do_in_archive(loaded, org, Deed(Action.READ, _KIND, entry_id), run)
    if as_json:
        typer.echo(orjson.dumps(entry, option=orjson.OPT_INDENT_2))
    else:
        typer.echo("\n".join(_told(entry, named(org))))


@app.command()
@with_settings
def accept(
    loaded: LoadedSettings,
    entry_id: EntryId,
    corrections: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEYWORD=VALUE", help="Set this attribute first; may be repeated."),
    ] = None,
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """File the object after all, corrected where --set says so: --set Modality=CT --set PatientID=4711."""
    wanted = _corrections(corrections or [])

    async def run(archive: Archive, subject: Subject) -> Outcome:
        return await archive.quarantine.accept(subject.organization_id, entry_id, wanted)

    told = {"settled": "accepted", **wanted}
    outcome = do_in_archive(loaded, org, Deed(Action.CHANGE, _KIND, entry_id, told), run)
    if as_json:
        typer.echo(orjson.dumps(asdict(outcome), option=orjson.OPT_INDENT_2))
    else:
        typer.echo(f"Entry {entry_id} was filed ({outcome.kind}): instance {outcome.sop_instance_uid}.")


@app.command()
@with_settings
def discard(
    loaded: LoadedSettings,
    entry_id: EntryId,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever asks later.")] = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Let go of the object; the sweep removes its bytes after the grace period."""

    async def run(archive: Archive, subject: Subject) -> None:
        await archive.quarantine.discard(subject.organization_id, entry_id, reason)

    told = {"settled": "discarded", "why": reason}
    do_in_archive(loaded, org, Deed(Action.CHANGE, _KIND, entry_id, told), run)
    if as_json:
        typer.echo(orjson.dumps({"id": entry_id, "state": "discarded"}))
    else:
        typer.echo(f"Entry {entry_id} was discarded.")


@app.command()
@with_settings
def export(
    loaded: LoadedSettings,
    entry_id: EntryId,
    target: Annotated[Path, typer.Argument(help="File to write; - for standard output.")],
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Write the object as it was received to a file, which must not exist yet."""

    async def run(archive: Archive, subject: Subject) -> int:
        pieces = await archive.quarantine.content(subject.organization_id, entry_id)
        written = 0
        # A file for its owner alone: it holds a patient's data.
        descriptor = (
            os.dup(sys.stdout.fileno())
            if str(target) == "-"
            else os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        )
        with os.fdopen(descriptor, "wb") as file:
            async for piece in pieces:
                written += file.write(piece)
        return written

    try:
        deed = Deed(Action.EXPORT, _KIND, entry_id, {"file": str(target)})
        written = do_in_archive(loaded, org, deed, run)
    except OSError as error:
        raise InvalidInput(
            f"{target} cannot be written ({error.strerror}).", remedy="Choose another file."
        ) from error
    if str(target) != "-":
        told = {"id": entry_id, "file": str(target), "bytes": written}
        typer.echo(orjson.dumps(told) if as_json else f"{format_bytes(written)} written to {target}.")


def _state(text: str) -> State:
    if text not in _STATES:
        raise InvalidInput(f"{text!r} is no state of an entry.", remedy=f"Use {', '.join(_STATES)}.")
    return text  # type: ignore[return-value]


def _corrections(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(
                f"--set {pair.partition('=')[0]!r} has no value.", remedy="Write --set Modality=CT."
            )
        found[name.strip()] = value
    return found


def _line(entry: Quarantined) -> str:
    first = entry.problems[0]["detail"] if entry.problems else ""
    more = f" (+{len(entry.problems) - 1} more)" if len(entry.problems) > 1 else ""
    sender = plain(f"{entry.door} {entry.peer}".strip())
    return f"{entry.id}  {moment(entry.received_at_us)}  {sender:24}  {plain(first)}{more}"


def _told(entry: Quarantined, of: str) -> list[str]:
    times = f", sent {entry.times_seen} times" if entry.times_seen > 1 else ""
    lines = [
        f"Entry {entry.id}, {entry.state}: {format_bytes(entry.size)}, received "
        f"{moment(entry.received_at_us)} by {entry.door} from {plain(entry.peer) or 'nobody named'}{times}",
        "",
        "Problems:",
    ]
    for problem in entry.problems:
        lines += [f"  ✗ {plain(problem['detail'], 1000)}", f"    → {plain(problem['remedy'], 1000)}"]
    if entry.known:
        lines += ["", "What could be read:"]
        lines += [f"  {_attribute(tag, attribute)}" for tag, attribute in sorted(entry.known.items())]
    if entry.settled_at_us is not None:
        lines += ["", f"Settled {moment(entry.settled_at_us)}: {entry.settled_note or entry.state}"]
    else:
        lines += [
            "",
            f"isocenter quarantine accept {entry.id} [--set Keyword=VALUE]…{of}",
            f"isocenter quarantine export {entry.id} FILE{of}",
            f"isocenter quarantine discard {entry.id} [--reason TEXT]{of}",
        ]
    return lines


def _attribute(tag: str, attribute: dict[str, Any]) -> str:
    from isocenter.dicom.dictionary import keyword_of

    return f"({tag[:4]},{tag[4:]}) {keyword_of(int(tag, 16)):30} {value_text(attribute)}".rstrip()
