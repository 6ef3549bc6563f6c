"""``isocenter ae``: who may call by DIMSE. A running server notices within two seconds."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from isocenter.cli import destinations as destination_commands
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, organization_named, with_database
from isocenter.cli.witness import operator, witnessed
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.ae_titles.destinations import Destination
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
app.add_typer(destination_commands.app, name="destination")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Organization = Annotated[
    str, typer.Option("--org", help="The organisation's short name; without it: the default one.")
]
_REFUSED_SHOWN = 20


@app.command()
@with_settings
def add(
    loaded: LoadedSettings,
    title: Annotated[str, typer.Argument(help="AE title: 1 to 16 characters.")],
    *,
    host: Annotated[
        str, typer.Option("--host", help="Address or network it calls from; without it: any.")
    ] = "",
    description: Annotated[str, typer.Option("--description", help="What it is, for people.")] = "",
    services: Annotated[
        str | None,
        typer.Option(
            "--services",
            help="What it may do: some of store,find,move,get,commit,worklist, or none. For a new one: all.",
        ),
    ] = None,
    cert: Annotated[
        str | None,
        typer.Option(
            "--cert",
            help="The certificate it must show: a name in it, or its SHA-256 fingerprint; '' for none.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Its own DICOM port: objects may be sent to it, too."),
    ] = None,
    address: Annotated[
        str, typer.Option("--address", help="Where that port is; without it: the address of --host.")
    ] = "",
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Let an AE title call; again for one that is there: change what it may do.

    With --port it becomes a destination as well; 'isocenter ae destination add' says more of one.
    """

    async def run(database: Database) -> RegisteredTitle:
        organization_id = await organization_named(database, org)
        if port is not None:
            await _put_destination(database, org, title, address or host, port)
        return await witnessed(
            database,
            operator(organization_id),
            Action.CHANGE,
            "ae-title",
            title,
            details={"host": host, "description": description, "services": services, "certificate": cert},
            doing=lambda: _ae_titles(database).register(
                organization_id,
                title,
                host=host,
                description=description,
                services=None if services is None else services.split(","),
                certificate=cert,
                by_operator=True,
            ),
        )

    registered = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps(asdict(registered), option=orjson.OPT_INDENT_2))
    else:
        typer.echo("\n".join(_may(registered)))


@app.command()
@with_settings
def remove(
    loaded: LoadedSettings,
    title: Annotated[str, typer.Argument(help="AE title.")],
    host: Annotated[
        str | None, typer.Option("--host", help="Only the registration for this address or network.")
    ] = None,
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Let an AE title call no longer."""

    async def run(database: Database) -> int:
        organization_id = await organization_named(database, org)
        return await witnessed(
            database,
            operator(organization_id),
            Action.DELETE,
            "ae-title",
            title,
            details={"host": host},
            doing=lambda: _ae_titles(database).remove(organization_id, title, host=host),
        )

    removed = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps({"removed": removed}))
    else:
        typer.echo(f"{title} was removed ({removed} registration{'s' if removed > 1 else ''}).")


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, org: Organization = "", as_json: Json = False) -> None:
    """Show who may call, where objects may be sent, who was refused, and the command that lets them in.

    With --json: {"calling_ae_titles", "ae_titles": […], "destinations": […], "refused": [… with "command"]},
    stable.
    """

    async def run(
        database: Database,
    ) -> tuple[list[RegisteredTitle], list[Destination], list[RefusedPeer]]:
        ae_titles = _ae_titles(database)
        organization_id = await organization_named(database, org)
        return (
            await ae_titles.titles(organization_id),
            await destination_commands.destinations(database).all(organization_id),
            await ae_titles.refused(organization_id),
        )

    titles, destinations, refused = with_database(loaded, run)
    policy = loaded.settings.calling_ae_titles
    if as_json:
        answer = {
            "calling_ae_titles": policy,
            "ae_titles": titles,
            "destinations": destinations,
            "refused": [asdict(peer) | {"command": peer.command} for peer in refused],
        }
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
    else:
        sent_to = ["", "Objects may be sent to:", *destination_commands.told(destinations)]
        lines = [_policy(policy), "", *_told(titles), *(sent_to if destinations else ())]
        typer.echo("\n".join([*lines, *_refused_told(refused)]))


async def _put_destination(database: Database, org: str, title: str, address: str, port: int) -> None:
    """What else is known of that destination stays."""
    from isocenter.features.ae_titles.destinations import Destination

    if not address or "/" in address:
        raise InvalidInput(
            "--port needs an address to send to.",
            code="invalid-destination",
            remedy="Give --address, or --host with a single address.",
        )
    organization_id = await organization_named(database, org)
    known = await destination_commands.destinations(database).find(organization_id, title.strip(" "))
    wanted = (
        Destination(title, address, port) if known is None else replace(known, address=address, port=port)
    )
    await destination_commands.put_destination(database, org, wanted)


def _ae_titles(database: Database) -> AeTitles:
    from isocenter.features.ae_titles.service import AeTitles
    from isocenter.kit.clock import SystemClock

    return AeTitles(database, SystemClock())


def _may(registered: RegisteredTitle) -> list[str]:
    lines = [f"{registered.title} may call from {registered.host or 'any address'}."]
    if not registered.services:
        lines.append("It may do nothing but C-ECHO.")
    elif len(registered.services) < len(type(registered.services[0])):
        lines.append(f"It may {' and '.join(registered.services)}.")
    if registered.certificate:
        lines.append(f"It must show the certificate {registered.certificate}.")
    return lines


def _policy(calling_ae_titles: str) -> str:
    if calling_ae_titles == "any":
        return "Any AE title may call (calling_ae_titles = any)."
    return "Registered AE titles may call; programs on this machine always may."


def _told(titles: list[RegisteredTitle]) -> list[str]:
    if not titles:
        return ["None is registered. Let one in with: isocenter ae add TITLE --host ADDRESS"]
    lines = [f"{'AE title':16}  {'may call from':18}  {'last seen':36}  {'services':26}  description"]
    for one in titles:
        seen = f"{moment(one.last_seen_at_us)} {one.last_seen_host}" if one.last_seen_at_us else "never"
        services = ",".join(one.services) or "C-ECHO only"
        row = f"{one.title:16}  {one.host or 'any address':18}  {seen:36}  {services:26}"
        lines.append(f"{row}  {one.description}".rstrip())
        if one.certificate:
            lines.append(f"    only with the certificate {one.certificate}")
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
        if peer.reason == "certificate-differs":
            lines.append(f"    it showed {peer.certificate or 'no certificate'}")
        if peer.command:
            lines.append(f"    let it in:  {peer.command}")
        elif peer.reason == "user-identity-not-accepted":
            lines.append("    its user name and passcode, or token, were not accepted: correct them there")
        elif peer.reason != "called-ae-title-not-ours":
            lines.append("    its AE title breaks the standard (PS3.5 §6.2): correct it there")
        else:
            lines.append(
                f"    it called {peer.called_ae_title!r}, which is not our AE title: correct it there"
            )
    if len(refused) > _REFUSED_SHOWN:
        lines.append(f"  … and {len(refused) - _REFUSED_SHOWN} more (--json lists up to 100)")
    return lines
