"""``isocenter changes``: the change feed, for scripts and for people who wonder what arrived."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from isocenter.cli.account_commands import InOrganization
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, named, organization_named, with_database
from isocenter.cli.witness import operator, witnessed
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.archive.changes import Change
    from isocenter.platform.db import Database

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@with_settings
def changes(
    loaded: LoadedSettings,
    after: Annotated[
        int, typer.Option("--after", min=0, help="Only changes after the one with this number.")
    ] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 1000,
    org: InOrganization = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show what happened to objects, in order. Ask on with --after and the last number shown.

    With --json one line each: {"number", "at_us", "kind", "study_instance_uid", …, "detail"}, stable.
    """
    from isocenter.features.archive.changes import read_changes

    async def run(database: Database) -> list[Change]:
        organization_id = await organization_named(database, org)
        return await witnessed(
            database,
            operator(organization_id),
            Action.READ,
            "changes",
            details={"after": after, "limit": limit},
            doing=lambda: read_changes(database, organization_id, after=after, limit=limit),
        )

    found = with_database(loaded, run)
    if as_json:
        for change in found:
            typer.echo(orjson.dumps(asdict(change)))
        return
    for change in found:
        uid = change.sop_instance_uid or change.series_instance_uid or change.study_instance_uid
        typer.echo(f"{change.number:>8}  {moment(change.at_us)}  {change.kind:16}  {uid}".rstrip())
    if not found:
        typer.echo("Nothing happened yet." if after == 0 else f"Nothing happened after number {after}.")
    elif len(found) == limit:
        typer.echo(f"There may be more: isocenter changes --after {found[-1].number}{named(org)}")
