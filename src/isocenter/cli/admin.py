"""``isocenter admin``: the first administrator, or one more when nobody gets in any longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.cli.account_commands import (
    InOrganization,
    Json,
    asked_password,
    command_group,
    told_as_json,
    with_accounts,
)
from isocenter.cli.flags import with_settings
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.accounts.entries import Account
    from isocenter.features.accounts.opening import Accounts
    from isocenter.platform.security import Subject

app = command_group("Make administrators.")


@app.callback()
def _group() -> None:
    pass


@app.command()
@with_settings
def create(
    loaded: LoadedSettings,
    login: Annotated[str, typer.Argument(help="Login name, such as an e-mail address.")],
    *,
    name: Annotated[str, typer.Option("--name", help="The person's name.")] = "",
    organization: InOrganization = "",
    operator: Annotated[bool, typer.Option(help="May make organisations and change those of others.")] = True,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make an administrator with a password. They are operator too, unless --no-operator."""
    password = asked_password(from_stdin=password_stdin)

    async def run(accounts: Accounts, subject: Subject) -> Account:
        from isocenter.platform.security import Role

        return await accounts.people.create(subject, login, name, Role.ADMIN, password, operator=operator)

    account = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json(account)
    else:
        typer.echo(f"{account.login} is administrator{' and operator' if operator else ''}.")
