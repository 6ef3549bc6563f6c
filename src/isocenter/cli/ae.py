"""``isocenter ae``: who may call by DIMSE. A running server notices within two seconds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.cli.opened import DEFAULT_ORGANIZATION, moment, with_database
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.ae_titles.entries import RefusedPeer, RegisteredTitle
    from isocenter.features.ae_titles.service import AeTitles
    from isocenter.platform.db import Database

app = typer.Typer(
    help="Say which AE titles may call by DIMSE, and see who was refused.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_REFUSED_SHOWN = 20


@app.command()
@with_settings
def add(
    loaded: LoadedSettings,
    title: Annotated[str, typer.Argument(help="AE title: 1 to 16 characters.")],
    host: Annotated[
        str, typer.Option("--host", help="Address or network it calls from; without it: any.")
    ] = "",
    description: Annotated[str, typer.Option("--description", help="What it is, for people.")] = "",
    as_json: Json = False,
) -> None:
    """Let an AE title call."""

    async def run(database: Database) -> RegisteredTitle:
        return await _ae_titles(database).register(
            DEFAULT_ORGANIZATION, title, host=host, description=description
        )

    registered = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps(asdict(registered), option=orjson.OPT_INDENT_2))
    else:
        typer.echo(f"{registered.title} may call from {registered.host or 'any address'}.")


@app.command()
@with_settings
def remove(
    loaded: LoadedSettings,
    title: Annotated[str, typer.Argument(help="AE title.")],
    host: Annotated[
        str | None, typer.Option("--host", help="Only the registration for this address or network.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let an AE title call no longer."""

    async def run(database: Database) -> int:
        return await _ae_titles(database).remove(DEFAULT_ORGANIZATION, title, host=host)

    removed = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps({"removed": removed}))
    else:
        typer.echo(f"{title} was removed ({removed} registration{'s' if removed > 1 else ''}).")


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, as_json: Json = False) -> None:
    """Show who may call, who was refused, and the command that lets each of those in.

    With --json: {"calling_ae_titles", "ae_titles": […], "refused": [… with "command"]}, stable.
    """

    async def run(database: Database) -> tuple[list[RegisteredTitle], list[RefusedPeer]]:
        ae_titles = _ae_titles(database)
        return await ae_titles.titles(DEFAULT_ORGANIZATION), await ae_titles.refused(DEFAULT_ORGANIZATION)

    titles, refused = with_database(loaded, run)
    policy = loaded.settings.calling_ae_titles
    if as_json:
        answer = {
            "calling_ae_titles": policy,
            "ae_titles": titles,
            "refused": [asdict(peer) | {"command": peer.command} for peer in refused],
        }
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
    else:
        typer.echo("\n".join([_policy(policy), "", *_told(titles), *_refused_told(refused)]))


def _ae_titles(database: Database) -> AeTitles:
    from isocenter.features.ae_titles.service import AeTitles
    from isocenter.kit.clock import SystemClock

    return AeTitles(database, SystemClock())


def _policy(calling_ae_titles: str) -> str:
    if calling_ae_titles == "any":
        return "Any AE title may call (calling_ae_titles = any)."
    return "Registered AE titles may call; programs on this machine always may."


def _told(titles: list[RegisteredTitle]) -> list[str]:
    if not titles:
        return ["None is registered. Let one in with: isocenter ae add TITLE --host ADDRESS"]
    lines = [f"{'AE title':16}  {'may call from':18}  {'last seen':36}  description"]
    for one in titles:
        seen = f"{moment(one.last_seen_at_us)} {one.last_seen_host}" if one.last_seen_at_us else "never"
        lines.append(f"{one.title:16}  {one.host or 'any address':18}  {seen:36}  {one.description}".rstrip())
    return lines


def _refused_told(refused: list[RefusedPeer]) -> list[str]:
    if not refused:
        return []
    lines = ["", "Refused lately:"]
    for peer in refused[:_REFUSED_SHOWN]:
        times = "once" if peer.times == 1 else f"{peer.times} times"
        lines.append(
            f"  {peer.calling_ae_title or '(no title)'} from {peer.peer_host}, {times}, "
            f"last {moment(peer.last_at_us)}"
        )
        if peer.command:
            lines.append(f"    let it in:  {peer.command}")
        elif peer.reason != "called-ae-title-not-ours":
            lines.append("    its AE title breaks the standard (PS3.5 §6.2): correct it there")
        else:
            lines.append(
                f"    it called {peer.called_ae_title!r}, which is not our AE title: correct it there"
            )
    if len(refused) > _REFUSED_SHOWN:
        lines.append(f"  … and {len(refused) - _REFUSED_SHOWN} more (--json lists up to 100)")
    return lines
