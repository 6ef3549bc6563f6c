"""``isocenter quarantine``: what validation refused; look at it, correct and accept it, or let it go."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer

from isocenter.cli.account_commands import InOrganization
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, named, organization_named, with_archive
from isocenter.cli.witness import Details, operator, witnessed
from isocenter.kit.errors import InvalidInput
from isocenter.kit.sizes import format_bytes
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app import Archive
    from isocenter.features.archive.entry import Outcome
    from isocenter.features.archive.quarantine import Quarantined, State

T = TypeVar("T")

app = typer.Typer(
    help="Look at refused objects; correct and accept, export or discard them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EntryId = Annotated[str, typer.Argument(help="The entry's id, as the list shows it.")]
_SHOWN_CHARACTERS = 200
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

    async def run(archive: Archive, organization_id: int) -> tuple[list[Quarantined], int]:
        quarantine = archive.quarantine
        entries = await _witnessed(
            archive,
            organization_id,
            Action.READ,
            "",
            details={"state": chosen, "limit": limit},
            doing=lambda: quarantine.list(organization_id, state=chosen, after=after, limit=limit),
        )
        return entries, await quarantine.count(organization_id)

    entries, waiting = _with_quarantine(loaded, org, run)
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

    async def run(archive: Archive, organization_id: int) -> Quarantined:
        return await _witnessed(
            archive,
            organization_id,
            Action.READ,
            entry_id,
            details={},
            doing=lambda: archive.quarantine.get(organization_id, entry_id),
        )

    entry = _with_quarantine(loaded, org, run)
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

    async def run(archive: Archive, organization_id: int) -> Outcome:
        return await _witnessed(
            archive,
            organization_id,
            Action.CHANGE,
            entry_id,
            details={"settled": "accepted", **wanted},
            doing=lambda: archive.quarantine.accept(organization_id, entry_id, wanted),
        )

    outcome = _with_quarantine(loaded, org, run)
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

    async def run(archive: Archive, organization_id: int) -> None:
        await _witnessed(
            archive,
            organization_id,
            Action.CHANGE,
            entry_id,
            details={"settled": "discarded", "why": reason},
            doing=lambda: archive.quarantine.discard(organization_id, entry_id, reason),
        )

    _with_quarantine(loaded, org, run)
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

    async def run(archive: Archive, organization_id: int) -> int:
        pieces = await _witnessed(
            archive,
            organization_id,
            Action.EXPORT,
            entry_id,
            details={"file": str(target)},
            doing=lambda: archive.quarantine.content(organization_id, entry_id),
        )
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
        written = _with_quarantine(loaded, org, run)
    except OSError as error:
        raise InvalidInput(
            f"{target} cannot be written ({error.strerror}).", remedy="Choose another file."
        ) from error
    if str(target) != "-":
        told = {"id": entry_id, "file": str(target), "bytes": written}
        typer.echo(orjson.dumps(told) if as_json else f"{format_bytes(written)} written to {target}.")


def _with_quarantine(loaded: LoadedSettings, org: str, run: Callable[[Archive, int], Awaitable[T]]) -> T:
    """What ``run`` returns for the open archive and the organisation of that name."""

    async def opened(archive: Archive) -> T:
        return await run(archive, await organization_named(archive.database, org))

    return with_archive(loaded, opened)


async def _witnessed(
    archive: Archive,
    organization_id: int,
    action: Action,
    entry_id: str,
    *,
    details: Details,
    doing: Callable[[], Awaitable[T]],
) -> T:
    return await witnessed(
        archive.database,
        operator(organization_id),
        action,
        "quarantine",
        entry_id,
        details=details,
        doing=doing,
    )


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
    sender = f"{entry.door} {entry.peer}".strip()
    return f"{entry.id}  {moment(entry.received_at_us)}  {sender:24}  {first}{more}"


def _told(entry: Quarantined, of: str) -> list[str]:
    times = f", sent {entry.times_seen} times" if entry.times_seen > 1 else ""
    lines = [
        f"Entry {entry.id}, {entry.state}: {format_bytes(entry.size)}, received "
        f"{moment(entry.received_at_us)} by {entry.door} from {entry.peer or 'nobody named'}{times}",
        "",
        "Problems:",
    ]
    for problem in entry.problems:
        lines += [f"  ✗ {problem['detail']}", f"    → {problem['remedy']}"]
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

    values = attribute.get("Value", [])
    shown = "\\".join(value if isinstance(value, str) else orjson.dumps(value).decode() for value in values)
    if attribute.get("vr") == "PN" and values and isinstance(values[0], dict):
        shown = "\\".join("=".join(map(str, value.values())) for value in values if value)
    # A hostile object must not steer the terminal.
    plain = "".join(character if character.isprintable() else "?" for character in shown[:_SHOWN_CHARACTERS])
    return f"({tag[:4]},{tag[4:]}) {keyword_of(int(tag, 16)):30} {plain}".rstrip()
