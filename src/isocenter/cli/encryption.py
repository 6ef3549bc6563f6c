"""``isocenter encryption``: the master key and the organisations' data keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.cli.opened import DEFAULT_ORGANIZATION, moment, organization_named, with_database
from isocenter.cli.witness import operator, witnessed
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.encryption.keyring import KeyRing, KeyStatus
    from isocenter.platform.db import Database
    from isocenter.platform.security.keys import MasterKey

T = TypeVar("T")

app = typer.Typer(
    help="Encryption at rest: make, rotate and destroy keys.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Org = Annotated[str, typer.Option("--org", help="The organisation's short name.")]
_SHOWN = ("Places", "Encryption")


def _shown(command: Callable[..., T]) -> Callable[..., T]:
    return with_settings(command, shown=_SHOWN)


@app.command()
@_shown
def status(loaded: LoadedSettings, as_json: Json = False) -> None:
    """Whether new objects are encrypted, and which keys there are. Needs no master key."""

    async def run(database: Database) -> list[KeyStatus]:
        return await _ring(database, None).status()

    keys = with_database(loaded, run)
    settings = loaded.settings
    if as_json:
        told = {"encryption": settings.encryption, "keys": [asdict(key) for key in keys]}
        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        return
    typer.echo(f"New objects are {'encrypted' if settings.encryption == 'on' else 'not encrypted'}.")
    if not keys:
        typer.echo("There are no data keys: nothing was encrypted so far.")
    for key in keys:
        typer.echo(
            f"  organisation {key.organization_id}  {key.key_id}  {key.state:9}  "
            f"made {moment(key.created_at_us)}  master key {key.master_key_id}"
        )
    if settings.encryption == "on":
        typer.echo(
            "Objects above --spool-threshold lie in "
            f"{settings.spool_folder} in plain while they arrive: keep it on an encrypted or memory disk."
        )


@app.command()
@_shown
def init(loaded: LoadedSettings) -> None:
    """Make a master key in the file that --encryption-master-key-file names."""
    from isocenter.platform.security.keys import make_master_key_file

    if not loaded.settings.encryption_master_key_file:
        raise InvalidInput(
            "No file for the master key is named.",
            code="master-key-not-set",
            remedy="isocenter encryption init --encryption-master-key-file /etc/isocenter/master.key",
        )
    file = Path(loaded.settings.encryption_master_key_file)

    async def run(database: Database) -> None:
        living = [key for key in await _ring(database, None).status() if key.state != "destroyed"]
        if living:
            raise InvalidInput(
                "This archive has data keys already, which a new master key could not open.",
                code="data-keys-exist",
                remedy="Use the master key there is; `isocenter encryption rotate-master` exchanges it.",
            )

    with_database(loaded, run)
    make_master_key_file(file)
    typer.echo(f"Made {file}. Keep a copy in another place: without it nobody can read the objects.")
    typer.echo(f"Then: isocenter serve --encryption on --encryption-master-key-file {file}")


@app.command()
@_shown
def rotate_master(
    loaded: LoadedSettings,
    new_key_file: Annotated[Path, typer.Option(help="File of the new key; made if missing.")],
) -> None:
    """Wrap the data keys with another master key. No object is touched."""
    from isocenter.platform.security.keys import load_master_key, make_master_key_file

    async def run(database: Database) -> int:
        ring = await _ring_with_master(loaded, database)
        await ring.check()
        new = load_master_key(file=new_key_file) if new_key_file.exists() else None
        return await witnessed(
            database,
            operator(
                DEFAULT_ORGANIZATION
            ),  # the master key is everybody's: it is told in the first one's trail
            Action.CHANGE,
            "master-key",
            doing=lambda: ring.rotate_master(new or make_master_key_file(new_key_file)),
        )

    count = with_database(loaded, run)
    typer.echo(f"{count} data keys are wrapped with the key in {new_key_file}.")
    typer.echo("Set encryption_master_key_file to it and restart; backups of the database need the old one.")


@app.command()
@_shown
def rotate_data(loaded: LoadedSettings, org: Org) -> None:
    """Give an organisation's new objects a new key; the old ones stay readable."""

    async def run(database: Database) -> None:
        ring = await _ring_with_master(loaded, database)
        await ring.check()
        organization_id = await organization_named(database, org)
        await witnessed(
            database,
            operator(organization_id),
            Action.CHANGE,
            "data-key",
            doing=lambda: ring.rotate(organization_id),
        )

    with_database(loaded, run)
    typer.echo(f"New objects of {org} get a new key; running servers know it within ten seconds.")


@app.command()
@_shown
def destroy_key(
    loaded: LoadedSettings,
    org: Org,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make every encrypted object of an organisation unreadable, for ever."""
    if not yes and typer.prompt(f"Nobody will ever read {org}'s objects again. Type its name") != org:
        typer.echo("Nothing was destroyed.")
        raise typer.Exit(1)

    async def run(database: Database) -> int:
        organization_id = await organization_named(database, org)
        return await witnessed(
            database,
            operator(organization_id),
            Action.DELETE,
            "data-key",
            doing=lambda: _ring(database, None).destroy(organization_id),
        )

    count = with_database(loaded, run)
    typer.echo(f"{count} data keys of {org} are destroyed. Running servers forget them within ten seconds.")
    typer.echo(
        "Backups of the database still hold them, wrapped: `isocenter encryption rotate-master` and the old "
        "master key's destruction make those useless too."
    )


def _ring(database: Database, master: MasterKey | None) -> KeyRing:
    from isocenter.features.encryption.keyring import KeyRing
    from isocenter.kit.clock import SystemClock

    return KeyRing(database, master, SystemClock())


async def _ring_with_master(loaded: LoadedSettings, database: Database) -> KeyRing:
    from isocenter.app.archive import load_master_key_of

    return _ring(database, await load_master_key_of(loaded.settings))
