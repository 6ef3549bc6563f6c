"""``isocenter audit``: read the trail, prove that nobody changed it, take it elsewhere."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, organization_named, with_database
from isocenter.cli.witness import operator, witnessed
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import Action, EventOutcome
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.audit.entries import Entry
    from isocenter.features.audit.reading import Filter
    from isocenter.features.audit.verifying import Verdict
    from isocenter.platform.db import Database

app = typer.Typer(
    help="Read the audit trail, prove that it is whole, export it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Organization = Annotated[str, typer.Option("--org", help="Short name of the organisation.")]
DEFAULT_SLUG = "default"
_EXPORTED_AT_ONCE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Format(StrEnum):
    CSV = "csv"
    JSON = "json"
    FHIR = "fhir"
    DICOM_XML = "dicom-xml"


@app.command()
@with_settings
def verify(
    loaded: LoadedSettings,
    org: Annotated[str, typer.Option("--org", help="Only this organisation's; without it: all.")] = "",
    expect: Annotated[
        str, typer.Option("--expect", metavar="SEQ:HASH", help="What 'audit head' printed earlier.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Say whether each chain is whole, or which entry was changed, removed, inserted or cut off.

    Exit code 1 when one is broken. With --json: [{"organization", "intact", "entries", "head", "broken":
    {"damage", "sequence", "detail"} or null}], stable.
    """
    from isocenter.features.audit.reading import organizations
    from isocenter.features.audit.verifying import parse_head
    from isocenter.features.audit.verifying import verify as verify_chain

    expected = parse_head(expect) if expect else None
    if expected is not None and not org:
        org = DEFAULT_SLUG

    async def run(database: Database) -> dict[str, Verdict]:
        verdicts = {}
        for organization_id, slug in await organizations(database):
            if org in {"", slug}:
                verdicts[slug] = await witnessed(
                    database,
                    operator(organization_id),
                    Action.READ,
                    "audit",
                    details={"how": "verify"},
                    doing=partial(verify_chain, database, organization_id, expected=expected),
                )
        return verdicts

    verdicts = with_database(loaded, run)
    if not verdicts:
        raise InvalidInput(f"There is no organisation {org!r}.", remedy="Give its short name.")
    if as_json:
        typer.echo(orjson.dumps([_as_json(slug, one) for slug, one in verdicts.items()]))
    else:
        for slug, verdict in verdicts.items():
            if verdict.broken is None:
                typer.echo(f"✓ {slug}: {verdict.entries} entries, all in order; the last is {verdict.head}")
            else:
                typer.echo(
                    f"✗ {slug}: {verdict.broken.damage} at entry {verdict.broken.sequence}. "
                    f"{verdict.broken.detail} {verdict.entries} entries before it are in order."
                )
    if not all(verdict.intact for verdict in verdicts.values()):
        raise typer.Exit(1)


@app.command()
@with_settings
def head(loaded: LoadedSettings, org: Organization = DEFAULT_SLUG) -> None:
    """Print number and hash of the newest entry: note them where nobody of this machine can change them."""
    from isocenter.features.audit.reading import newest_entry

    async def run(database: Database) -> str:
        newest = await newest_entry(database, await organization_named(database, org))
        return str(newest) if newest else ""

    found = with_database(loaded, run)
    typer.echo(found or "Nothing was recorded yet.", err=not found)


@app.command("list")
@with_settings
def list_(
    loaded: LoadedSettings,
    *,
    action: Annotated[Action | None, typer.Option("--action", help="What was done.")] = None,
    outcome: Annotated[EventOutcome | None, typer.Option("--outcome", help="How it ended.")] = None,
    subject: Annotated[str, typer.Option("--subject", help="Who: id or name.")] = "",
    resource: Annotated[str, typer.Option("--resource", help="To what: a UID, an AE title …")] = "",
    begin: Annotated[str, typer.Option("--from", help="From then on: 2026-01-31[T12:00Z].")] = "",
    end: Annotated[str, typer.Option("--to", help="Before this moment.")] = "",
    text: Annotated[str, typer.Option("--text", help="A part of a name, an id or a detail.")] = "",
    before: Annotated[int | None, typer.Option("--before", min=1, help="Entries before this number.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 50,
    org: Organization = DEFAULT_SLUG,
    as_json: Json = False,
) -> None:
    """Show entries, newest first. Ask on with --before and the last number shown.

    With --json one object a line: {"sequence", "at_us", "action", …, "details": {…}, "hash"}, stable.
    """
    from isocenter.features.audit.reading import Filter, find_entries

    wanted = Filter(
        action, outcome, subject, "", resource, _us("--from", begin), _us("--to", end), text, before=before
    )

    async def run(database: Database) -> list[Entry]:
        organization_id = await organization_named(database, org)
        return await witnessed(
            database,
            operator(organization_id),
            Action.READ,
            "audit",
            details={"how": "list", "limit": limit},
            doing=partial(find_entries, database, organization_id, wanted, limit=limit),
        )

    for entry in with_database(loaded, run):
        typer.echo(_json_line(entry) if as_json else _line(entry))


@app.command()
@with_settings
def export(
    loaded: LoadedSettings,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.CSV,
    begin: Annotated[str, typer.Option("--from", help="From this moment on.")] = "",
    end: Annotated[str, typer.Option("--to", help="Before this moment.")] = "",
    org: Organization = DEFAULT_SLUG,
) -> None:
    """Write all entries to standard output, oldest first: CSV, or one JSON object, FHIR AuditEvent or DICOM
    audit message a line."""
    from isocenter.features.audit.reading import Filter

    wanted = Filter(from_us=_us("--from", begin), to_us=_us("--to", end))

    async def run(database: Database) -> None:
        organization_id = await organization_named(database, org)
        told = {"how": "export", "format": form.value, "from": begin, "to": end}

        async def write() -> None:
            async for piece in _exported(database, organization_id, wanted, form):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()

        await witnessed(
            database, operator(organization_id), Action.EXPORT, "audit", details=told, doing=write
        )

    with_database(loaded, run)


async def _exported(
    database: Database, organization_id: int, wanted: Filter, form: Format
) -> AsyncIterator[bytes]:
    """Bounded memory, however long the trail is."""
    from isocenter.features.audit.reading import all_entries
    from isocenter.features.audit.spreadsheet import csv_lines

    if form is Format.CSV:
        yield csv_lines([]).encode()
    some: list[Entry] = []
    async for entry in all_entries(database, organization_id, wanted):
        some.append(entry)
        if len(some) == _EXPORTED_AT_ONCE:
            yield _rendered(some, form)
            some = []
    yield _rendered(some, form)


def _rendered(entries: list[Entry], form: Format) -> bytes:
    from isocenter.features.audit.dicom_messages import dicom_message
    from isocenter.features.audit.fhir import audit_event
    from isocenter.features.audit.spreadsheet import csv_lines

    match form:
        case Format.CSV:
            return csv_lines(entries, heading=False).encode()
        case Format.JSON:
            return b"".join(_json_line(entry) + b"\n" for entry in entries)
        case Format.FHIR:
            return b"".join(orjson.dumps(audit_event(entry, "Isocenter")) + b"\n" for entry in entries)
        case Format.DICOM_XML:
            return b"".join(dicom_message(entry, "Isocenter") + b"\n" for entry in entries)


def _as_json(slug: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "organization": slug,
        "intact": verdict.intact,
        "entries": verdict.entries,
        "head": str(verdict.head),
        "broken": None if verdict.broken is None else asdict(verdict.broken),
    }


def _json_line(entry: Entry) -> bytes:
    return orjson.dumps(asdict(entry) | {"details": orjson.loads(entry.details)})


def _line(entry: Entry) -> str:
    who = entry.subject_name or entry.subject_id
    told = (
        f"{entry.sequence:>8}  {moment(entry.at_us)}  {entry.outcome:8} {entry.action:17} "
        f"{who} ({entry.subject_kind}) {entry.address}  "
        f"{entry.resource_kind} {entry.resource_id} {entry.details}"
    )
    # What strangers sent must not steer the terminal.
    return "".join(character if character.isprintable() else "?" for character in told).rstrip()


def _us(flag: str, text: str) -> int | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"{flag} {text[:40]!r} is not a date or time.", remedy="Write 2026-01-31 or 2026-01-31T12:00Z."
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return (at - _EPOCH) // timedelta(microseconds=1)
