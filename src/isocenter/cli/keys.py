"""``isocenter key``: API keys of programs. A running server notices within two seconds."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.cli.account_commands import (
    InOrganization,
    Json,
    command_group,
    permission_of,
    role_of,
    told_as_json,
    with_accounts,
)
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.accounts.api_keys import MadeKey
    from isocenter.features.accounts.entries import ApiKey
    from isocenter.features.accounts.opening import Accounts
    from isocenter.platform.security import Subject

app = command_group("Make and revoke the keys of programs.")


@app.command()
@with_settings
def create(
    loaded: LoadedSettings,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    permissions: Annotated[
        list[str] | None,
        typer.Option("--permission", help="May be repeated; without any those of the role."),
    ] = None,
    role: Annotated[str, typer.Option("--role", help="Whose permissions it has.")] = "service",
    days: Annotated[int | None, typer.Option("--days", min=1, max=36_500, help="How long it counts.")] = None,
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Make a key; it is shown this once."""

    async def run(accounts: Accounts, subject: Subject) -> MadeKey:
        from isocenter.platform.security import PERMISSIONS_OF_ROLE

        named = [permission_of(word) for word in permissions or []]
        expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
        wanted = named or PERMISSIONS_OF_ROLE[role_of(role)]
        return await accounts.keys.make(subject, name, wanted, expires_at=expires_at)

    made = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json(asdict(made))
    else:
        typer.echo(f"Authorization: Api-Key {made.secret}")
        typer.echo("It is kept nowhere: write it down now.")


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, organization: InOrganization = "", as_json: Json = False) -> None:
    """Show the keys of an organisation."""

    async def run(accounts: Accounts, subject: Subject) -> list[ApiKey]:
        return await accounts.keys.list(subject)

    found = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json({"keys": found})
        return
    for one in found:
        typer.echo(f"{one.id:>4}  {one.prefix}…  {_state(one):32}  {one.name}: {', '.join(one.permissions)}")
    if not found:
        typer.echo("There is none. Make one with: isocenter key create NAME")


@app.command()
@with_settings
def revoke(
    loaded: LoadedSettings,
    key_id: Annotated[int, typer.Argument(min=1, help="The key's number.")],
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Let a key count no longer."""

    async def run(accounts: Accounts, subject: Subject) -> None:
        await accounts.keys.revoke(subject, key_id)

    with_accounts(loaded, organization, run)
    if as_json:
        told_as_json({"revoked": key_id})
    else:
        typer.echo(f"Key {key_id} counts no longer.")


def _state(key: ApiKey) -> str:
    if key.revoked_at_us is not None:
        return f"revoked {moment(key.revoked_at_us)}"
    if key.expires_at_us is not None:
        return f"until {moment(key.expires_at_us)}"
    return "counts"
