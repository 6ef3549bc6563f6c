"""``isocenter source``: the systems that can be asked together with this archive, and how they do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from isocenter.cli.deeds import Deed, do_in_spanning
from isocenter.cli.flags import with_settings
from isocenter.cli.texts import plain
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import Action, Subject
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.spanning import Spanning
    from isocenter.features.spanner.entries import Authentication, Source
    from isocenter.features.spanner.service import Health
    from isocenter.features.spanner.sources import Sources

app = typer.Typer(
    help="Say which archives can be asked together with this one; see how they do.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Organization = Annotated[
    str, typer.Option("--org", help="The organisation's short name; without it: the default one.")
]
Named = Annotated[str, typer.Argument(help="Name or number of the source.")]


@app.command()
@with_settings
def add(
    loaded: LoadedSettings,
    name: Annotated[str, typer.Argument(help="What it is called here.")],
    *,
    kind: Annotated[str, typer.Option("--type", help="dimse, dicomweb, local (this archive) or modality.")],
    called: Annotated[str, typer.Option("--called", help="Its AE title.")] = "",
    host: Annotated[str, typer.Option("--host", help="Its name or address.")] = "",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Its DICOM port.")] = 0,
    tls: Annotated[bool, typer.Option("--tls", help="It is called by TLS.")] = False,
    url: Annotated[str, typer.Option("--url", help="Where its DICOMweb begins, before /studies.")] = "",
    user: Annotated[str, typer.Option("--user", help="User name for its password (RFC 7617).")] = "",
    header: Annotated[
        str, typer.Option("--header", help="The header that takes its token, such as X-Api-Key.")
    ] = "",
    secret_stdin: Annotated[
        bool,
        typer.Option(
            "--secret-stdin", help="Read its password or token from standard input; alone: a bearer token."
        ),
    ] = False,
    issuer: Annotated[
        str, typer.Option("--issuer", help="Who gives out its patient IDs, where it does not say so.")
    ] = "",
    description: Annotated[str, typer.Option("--description", help="What it is, for people.")] = "",
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Add an archive that can be asked."""
    from isocenter.features.spanner.entries import Source, SourceType

    if kind not in set(SourceType):
        raise InvalidInput(f"{plain(kind)} is no type.", remedy=f"Give --type {', '.join(SourceType)}.")
    wanted = Source(
        0,
        name,
        SourceType(kind),
        description=description,
        issuer=issuer,
        ae_title=called,
        host=host,
        port=port,
        tls=tls,
        url=url,
        authentication=_authentication(user, header, with_secret=secret_stdin),
        user=user or header,
        secret=sys.stdin.readline().rstrip("\n") if secret_stdin else "",
    )

    async def run(spanning: Spanning, subject: Subject) -> Source:
        return await spanning.sources.add(subject.organization_id, wanted)

    added = do_in_spanning(loaded, org, Deed(Action.CHANGE, "source", name, {"what": "added"}), run)
    if as_json:
        typer.echo(orjson.dumps(_shown(added), option=orjson.OPT_INDENT_2))
    else:
        typer.echo(_line(added))
        typer.echo(f"Try it: isocenter source check {added.id}")


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, org: Organization = "", as_json: Json = False) -> None:
    """Show the sources."""

    async def run(spanning: Spanning, subject: Subject) -> list[Source]:
        return await spanning.sources.all(subject.organization_id)

    found = do_in_spanning(loaded, org, Deed(Action.READ, "source"), run)
    if as_json:
        shown = {"sources": [_shown(one) for one in found]}
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
        return
    for one in found:
        typer.echo(_line(one))
    if not found:
        typer.echo("There is none. Add this archive with: isocenter source add NAME --type local")


@app.command()
@with_settings
def remove(loaded: LoadedSettings, source: Named, org: Organization = "") -> None:
    """Forget a source that no configuration asks."""

    async def run(spanning: Spanning, subject: Subject) -> Source:
        found = await source_named(spanning.sources, subject.organization_id, source)
        await spanning.sources.remove(subject.organization_id, found.id)
        return found

    removed = do_in_spanning(loaded, org, Deed(Action.DELETE, "source", source), run)
    typer.echo(f"{plain(removed.name)} is asked no more.")


@app.command()
@with_settings
def check(
    loaded: LoadedSettings,
    source: Annotated[str, typer.Argument(help="Name or number; without it: all.")] = "",
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Call sources and say what is wrong with those that do not answer. Exit code 1: one of them does not."""

    async def run(spanning: Spanning, subject: Subject) -> list[tuple[Source, Health]]:
        organization_id = subject.organization_id
        found = (
            [await source_named(spanning.sources, organization_id, source)]
            if source
            else await spanning.sources.all(organization_id)
        )
        return [(one, await spanning.spanner.health(organization_id, one)) for one in found]

    checked = do_in_spanning(loaded, org, Deed(Action.READ, "source", source, {"what": "check"}), run)
    if as_json:
        shown = {"sources": [_shown_health(one, health) for one, health in checked]}
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    else:
        for one, health in checked:
            typer.echo(_health_line(one, health))
    if not all(health.is_reachable for _, health in checked):
        raise typer.Exit(1)


async def source_named(sources: Sources, organization_id: int, name: str) -> Source:
    """Raises InvalidInput where there is none."""
    found = await sources.all(organization_id)
    for one in found:
        if name in {one.name, str(one.id)}:
            return one
    raise InvalidInput(f"There is no source {plain(name)}.", remedy="'isocenter source list' shows them.")


def _authentication(user: str, header: str, *, with_secret: bool) -> Authentication:
    from isocenter.features.spanner.entries import Authentication

    if user and header:
        raise InvalidInput("--user and --header exclude each other.")
    if not with_secret:
        if user or header:
            raise InvalidInput("A secret is missing.", remedy="Add --secret-stdin and give it there.")
        return Authentication.NONE
    return Authentication.BASIC if user else Authentication.HEADER if header else Authentication.BEARER


def _line(one: Source) -> str:
    place = one.url or (f"{one.ae_title} at {one.host}:{one.port}" if one.host else "this archive")
    state = "" if one.enabled else "  (switched off)"
    return f"{one.id:4}  {plain(one.name):24}  {one.type:9}  {plain(place)}{state}"


def _health_line(one: Source, health: Health) -> str:
    if health.reached is None:
        remedy = f"\n      {health.remedy}" if health.remedy else ""
        return f"{plain(one.name)}: cannot be asked: {health.problem}{remedy}"
    able = ", ".join(health.reached.supports)
    return f"{plain(one.name)}: answered in {health.reached.echo_s * 1000:.0f} ms; {able}"


def _shown(one: Source) -> dict[str, Any]:
    from isocenter.doors.spanning.source_routes import source_model

    return source_model(one).model_dump(mode="json")


def _shown_health(one: Source, health: Health) -> dict[str, Any]:
    from isocenter.doors.spanning.source_routes import health_model

    return health_model(one, health).model_dump(mode="json")
