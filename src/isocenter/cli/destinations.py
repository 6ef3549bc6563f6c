"""``isocenter ae destination``: where AE titles are reached, for what is sent and reported to them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, organization_named, with_database
from isocenter.cli.witness import operator, witnessed
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.ae_titles.destinations import Destination, Destinations
    from isocenter.features.availability.notices import Notice
    from isocenter.platform.db import Database

app = typer.Typer(
    help="Say where AE titles are reached: destinations of C-MOVE, receivers of reports.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Organization = Annotated[
    str, typer.Option("--org", help="The organisation's short name; without it: the default one.")
]
Title = Annotated[str, typer.Argument(help="AE title: 1 to 16 characters.")]


@app.command()
@with_settings
def add(
    loaded: LoadedSettings,
    title: Title,
    address: Annotated[str, typer.Argument(help="Name or address of its host.")],
    port: Annotated[int, typer.Argument(help="Its DICOM port.", min=1, max=65535)],
    *,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS with it.")] = False,
    tls_name: Annotated[
        str, typer.Option("--tls-name", help="Name in its certificate, where that is not the address.")
    ] = "",
    transfer_syntax: Annotated[
        list[str] | None,
        typer.Option("--transfer-syntax", help="UID that it likes best; give several in order."),
    ] = None,
    associations: Annotated[
        int, typer.Option("--associations", min=1, help="How many are opened to it at once.")
    ] = 4,
    availability_after: Annotated[
        int | None,
        typer.Option(
            "--availability-after",
            min=1,
            help="Tell it of studies that nothing came to for so many seconds.",
        ),
    ] = None,
    description: Annotated[str, typer.Option("--description", help="What it is, for people.")] = "",
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Let objects be sent to an AE title at this address; again for one that is there: change all of it."""
    from isocenter.features.ae_titles.destinations import Destination

    wanted = Destination(
        title,
        address,
        port,
        tls=tls or tls_name != "",
        tls_name=tls_name,
        transfer_syntaxes=tuple(transfer_syntax or ()),
        associations_max=associations,
        availability_after_s=availability_after,
        description=description,
    )
    put = with_database(loaded, lambda database: put_destination(database, org, wanted))
    if as_json:
        typer.echo(orjson.dumps(asdict(put), option=orjson.OPT_INDENT_2))
    else:
        typer.echo("\n".join(["Objects may be sent to:", *told([put])]))


@app.command()
@with_settings
def remove(loaded: LoadedSettings, title: Title, org: Organization = "", as_json: Json = False) -> None:
    """Send nothing to an AE title any longer."""

    async def run(database: Database) -> None:
        organization_id = await organization_named(database, org)
        await witnessed(
            database,
            operator(organization_id),
            Action.DELETE,
            "ae-title",
            title,
            details={"what": "destination"},
            doing=lambda: destinations(database).remove(organization_id, title),
        )

    with_database(loaded, run)
    typer.echo(orjson.dumps({"removed": 1}) if as_json else f"{title} is no destination any longer.")


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, org: Organization = "", as_json: Json = False) -> None:
    """Show where objects and reports may be sent. With --json a list, stable."""

    async def run(database: Database) -> list[Destination]:
        return await destinations(database).all(await organization_named(database, org))

    found = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        typer.echo("\n".join(told(found) or ["There is none. Add one with: isocenter ae destination add"]))


@app.command()
@with_settings
def notices(
    loaded: LoadedSettings,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")] = 50,
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Show the studies that destinations were told of, and those that wait. With --json a list, stable."""

    async def run(database: Database) -> list[Notice]:
        from isocenter.features.availability.notices import Notices
        from isocenter.kit.clock import SystemClock

        organization_id = await organization_named(database, org)
        return await Notices(database, SystemClock()).find(organization_id, limit=limit)

    found = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    lines = [
        f"{moment(one.changed_at_us)}  {one.state:8}  {one.ae_title:16}  {one.study_instance_uid}  "
        f"{one.last_error}".rstrip()
        for one in found
    ]
    typer.echo("\n".join(lines or ["There is none."]))


def destinations(database: Database) -> Destinations:
    from isocenter.features.ae_titles.destinations import Destinations
    from isocenter.kit.clock import SystemClock

    return Destinations(database, SystemClock())


async def put_destination(database: Database, org: str, wanted: Destination) -> Destination:
    organization_id = await organization_named(database, org)
    return await witnessed(
        database,
        operator(organization_id),
        Action.CHANGE,
        "ae-title",
        wanted.title,
        details={"address": wanted.address, "port": wanted.port, "tls": wanted.tls},
        doing=lambda: destinations(database).put(organization_id, wanted),
    )


def told(found: list[Destination]) -> list[str]:
    lines = []
    for one in found:
        more = [
            "TLS" if one.tls else "",
            f"as {one.tls_name}" if one.tls_name else "",
            f"at most {one.associations_max} associations",
            f"told of studies after {one.availability_after_s} s" if one.availability_after_s else "",
            f"prefers {', '.join(one.transfer_syntaxes)}" if one.transfer_syntaxes else "",
            one.description,
        ]
        place = f"{one.address}:{one.port}"
        lines.append(f"{one.title:16}  {place:24}  {'; '.join(part for part in more if part)}".rstrip())
    return lines
