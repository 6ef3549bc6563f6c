"""``isocenter org``: organisations and what each has decided for itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from isocenter.cli.account_commands import Json, command_group, told_as_json, with_accounts
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, organization_named, with_database
from isocenter.cli.witness import operator, witnessed
from isocenter.kit.errors import InvalidInput
from isocenter.kit.sizes import format_bytes
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.accounts.entries import Organization
    from isocenter.features.accounts.opening import Accounts
    from isocenter.features.accounts.organizations import Decided
    from isocenter.features.archive.holdings import Held
    from isocenter.features.archive.retention import DueStudy
    from isocenter.platform.db import Database
    from isocenter.platform.security import Subject

app = command_group("Make organisations and say what each has decided for itself.")
Slug = Annotated[str, typer.Argument(help="Short name of the organisation.")]
_UNSET = {
    "quota_bytes": "(none)",
    "retention_days": "(none: kept for ever)",
    "deletion_grace_days": "(none: 30, then what was deleted is purged)",
}


@app.command()
@with_settings
def create(
    loaded: LoadedSettings,
    slug: Slug,
    name: Annotated[str, typer.Option("--name", help="Its name for people.")] = "",
    as_json: Json = False,
) -> None:
    """Make an organisation. Its first administrator: isocenter admin create --org."""

    async def run(accounts: Accounts, subject: Subject) -> Organization:
        return await accounts.organizations.create(subject, slug, name)

    made = with_accounts(loaded, "", run)
    if as_json:
        told_as_json(made)
    else:
        typer.echo(f"{made.slug} was made. Its first administrator:")
        typer.echo(f"isocenter admin create LOGIN --no-operator --org {made.slug}")


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, as_json: Json = False) -> None:
    """Show all organisations."""

    async def run(accounts: Accounts, subject: Subject) -> list[Organization]:
        return await accounts.organizations.list(subject)

    found = with_accounts(loaded, "", run)
    if as_json:
        told_as_json({"organizations": found})
        return
    for one in found:
        typer.echo(f"{one.id:>4}  {one.slug:24}  {moment(one.created_at_us)}  {one.name}".rstrip())


@app.command()
@with_settings
def show(loaded: LoadedSettings, slug: Slug, as_json: Json = False) -> None:
    """Show an organisation, its settings, and how much it keeps."""

    async def run(accounts: Accounts, _: Subject) -> Decided:
        return await accounts.organizations.by_slug(slug)

    _tell(loaded, with_accounts(loaded, "", run), as_json=as_json)


@app.command("set")
@with_settings
def set_(
    loaded: LoadedSettings,
    slug: Slug,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]…", help="Without a value: as the server.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Its new name.")] = None,
    as_json: Json = False,
) -> None:
    """Change settings: isocenter org set st-marys conflict_policy=replace quota_bytes=200GB.

    A running server goes by them within five seconds.
    """
    changes = dict(_setting(pair) for pair in settings or [])

    async def run(accounts: Accounts, subject: Subject) -> Decided:
        organization, _ = await accounts.organizations.by_slug(slug)
        return await accounts.organizations.change(subject, organization.id, name=name, settings=changes)

    _tell(loaded, with_accounts(loaded, "", run), as_json=as_json)


@app.command()
@with_settings
def retention(
    loaded: LoadedSettings,
    slug: Slug,
    days: Annotated[
        int | None,
        typer.Option("--days", min=1, max=36_500, help="As if retention_days were that, before setting it."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 1000,
    as_json: Json = False,
) -> None:
    """List the studies that retention_days is going to remove. This removes nothing.

    With --json one object a line: {"study_instance_uid", "study_date", "instances", "newest_at_us"}, stable.
    """

    async def run(database: Database) -> list[DueStudy] | None:
        from isocenter.features.archive.retention import Retention
        from isocenter.kit.clock import SystemClock
        from isocenter.platform.security import NoRecorder

        organization_id = await organization_named(database, slug)
        retention = Retention(database, SystemClock(), NoRecorder())
        return await witnessed(
            database,
            operator(organization_id),
            Action.READ,
            "organization",
            slug,
            details={"how": "retention", "days": days},
            doing=lambda: retention.due(organization_id, days=days, limit=limit),
        )

    due = with_database(loaded, run)
    if as_json:
        for study in due or []:
            told = asdict(study)
            del told["pk"]
            typer.echo(orjson.dumps(told))
    elif due is None:
        typer.echo(f"{slug} keeps its studies for ever (retention_days is not set).")
    else:
        typer.echo("\n".join(_due(due, limit)))


def _due(due: list[DueStudy], limit: int) -> list[str]:
    if not due:
        return ["No study is due."]
    lines = [f"{'last object received':22}{'study date':12}{'instances':>9}  study"]
    lines += [
        f"{moment(one.newest_at_us):22}{one.study_date:12}{one.instances:>9}  {one.study_instance_uid}"
        for one in due
    ]
    if len(due) == limit:
        lines.append("There may be more: --limit shows them.")
    return lines


def _setting(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise InvalidInput(f"{pair!r} has no value.", remedy="Write conflict_policy=replace.")
    if not value:
        return name, None
    try:
        return name, orjson.loads(value)  # true, 5
    except orjson.JSONDecodeError:
        return name, value


def _tell(loaded: LoadedSettings, decided: Decided, *, as_json: bool) -> None:
    organization, settings = decided
    held = with_database(loaded, lambda database: _held(database, organization.id))
    if as_json:
        told_as_json(
            asdict(organization)
            | {
                "settings": settings.model_dump(mode="json"),
                "usage": {
                    "objects": held.objects,
                    "bytes": held.bytes,
                    "percent_of_quota": held.percent_of_quota,
                },
                "due_studies": held.due_studies,
            }
        )
        return
    typer.echo(f"{organization.slug}: {organization.name}")
    for name, value in settings.model_dump(mode="json").items():
        typer.echo(f"  {name:28} {_UNSET.get(name, '(as the server)') if value is None else value}")
    typer.echo(_kept(held))
    if held.due_studies is not None:
        are = "study is" if held.due_studies == 1 else "studies are"
        typer.echo(
            f"{held.due_studies} {are} due to be removed. See them: isocenter org retention {held.slug}"
        )


async def _held(database: Database, organization_id: int) -> Held:
    from isocenter.features.archive.holdings import Holdings
    from isocenter.kit.clock import SystemClock

    return await Holdings(database, SystemClock()).of(organization_id)


def _kept(held: Held) -> str:
    kept = f"It keeps {held.objects:,} objects, {format_bytes(held.bytes)}"
    if held.quota_bytes is None:
        return f"{kept}."
    return f"{kept}: {held.percent_of_quota:.1f} % of its quota of {format_bytes(held.quota_bytes)}."
