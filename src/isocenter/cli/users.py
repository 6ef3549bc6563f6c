"""``isocenter user``: the people of an organisation. A running server notices within two seconds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.cli.account_commands import (
    InOrganization,
    Json,
    RoleName,
    command_group,
    role_of,
    told_as_json,
    with_accounts,
)
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.accounts.entries import Account, Link
    from isocenter.features.accounts.opening import Accounts
    from isocenter.features.accounts.people import Invited
    from isocenter.platform.security import Subject

app = command_group("Invite people, change what they are, let them back in.")
LoginName = Annotated[str, typer.Argument(help="Login name.")]


@app.command()
@with_settings
def invite(
    loaded: LoadedSettings,
    login: LoginName,
    *,
    role: RoleName = "clinician",
    name: Annotated[str, typer.Option("--name", help="The person's name.")] = "",
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Invite somebody: prints the one-time token by which they choose a password."""
    chosen = role_of(role)

    async def run(accounts: Accounts, subject: Subject) -> Invited:
        return await accounts.people.invite(subject, login, name, chosen)

    invited = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json(asdict(invited))
    else:
        typer.echo(f"{invited.account.login} is invited as {chosen}.")
        _tell_link(invited.link)


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, organization: InOrganization = "", as_json: Json = False) -> None:
    """Show the people of an organisation."""

    async def run(accounts: Accounts, subject: Subject) -> list[Account]:
        return await accounts.people.list(subject)

    found = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json({"users": found})
        return
    for one in found:
        seen = moment(one.last_login_at_us) if one.last_login_at_us else "never logged in"
        role = f"{one.role}{' (operator)' if one.operator else ''}"
        factors = _factors(one)
        line = f"{one.login:32}  {role:22}  {one.state:8}  {factors:16}  {seen:20}  {one.display_name}"
        typer.echo(line.rstrip())
    if not found:
        typer.echo("Nobody. Make the first one with: isocenter admin create LOGIN")


@app.command()
@with_settings
def change(
    loaded: LoadedSettings,
    login: LoginName,
    *,
    role: Annotated[str | None, typer.Option("--role", help="What they are from now on.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="active, locked or disabled.")] = None,
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Change somebody's role, close their account or open it again."""
    if role is None and state is None:
        raise InvalidInput("There is nothing to change.", remedy="Name --role or --state.")

    async def run(accounts: Accounts, subject: Subject) -> Account:
        from isocenter.features.accounts.people import state_of

        account = await accounts.people.by_login(subject, login)
        return await accounts.people.change(
            subject,
            account.id,
            role=None if role is None else role_of(role),
            state=None if state is None else state_of(state),
        )

    account = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json(account)
    else:
        typer.echo(f"{account.login} is {account.role}, {account.state}.")


@app.command()
@with_settings
def reset(
    loaded: LoadedSettings, login: LoginName, organization: InOrganization = "", as_json: Json = False
) -> None:
    """Print a one-time token by which somebody chooses a new password."""

    async def run(accounts: Accounts, subject: Subject) -> Link:
        account = await accounts.people.by_login(subject, login)
        return await accounts.people.reset(subject, account.id)

    link = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json(link)
    else:
        _tell_link(link)


@app.command("clear-second-factor")
@with_settings
def clear_second_factor(
    loaded: LoadedSettings, login: LoginName, organization: InOrganization = "", as_json: Json = False
) -> None:
    """Take phone, passkeys and recovery codes off the account of somebody who lost them."""

    async def run(accounts: Accounts, subject: Subject) -> Account:
        account = await accounts.people.by_login(subject, login)
        await accounts.second_factor.clear(subject, account.id)
        return await accounts.people.get(subject, account.id)

    account = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json(account)
    else:
        typer.echo(f"{account.login} logs in with the password alone.")


def _factors(account: Account) -> str:
    """What answers beside the password, or in its place."""
    words = ["app"] if account.totp else []
    if account.passkeys:
        words.append("1 passkey" if account.passkeys == 1 else f"{account.passkeys} passkeys")
    return ", ".join(words) or ("recovery codes" if account.second_factor else "password only")


def _tell_link(link: Link) -> None:
    typer.echo(f"One-time token, until {moment(link.expires_at_us)}: {link.token}")
    typer.echo('It goes to POST /api/v1/auth/invitations/accept: {"token": "…", "password": "…"}')
