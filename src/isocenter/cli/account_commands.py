"""What ``isocenter admin``, ``org``, ``user`` and ``key`` have in common; ``--org`` is others' too."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer

from isocenter.cli.opened import organization_named, with_database
from isocenter.cli.witness import operator
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.accounts.opening import Accounts
    from isocenter.platform.db import Database
    from isocenter.platform.security import Permission, Role, Subject

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
InOrganization = Annotated[
    str, typer.Option("--org", help="Short name of the organisation; without it the first.")
]
RoleName = Annotated[
    str, typer.Option("--role", help="clinician, radiographer, radiologist, admin or service.")
]


def command_group(says: str) -> typer.Typer:
    return typer.Typer(
        help=says,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def with_accounts(
    loaded: LoadedSettings, organization: str, run: Callable[[Accounts, Subject], Awaitable[T]]
) -> T:
    """What ``run`` returns, as somebody who may do everything in that organisation: whoever can read the
    database's file or password can do so anyway. Raises what opening raises, NotFound."""

    async def opened(database: Database) -> T:
        from isocenter.app.archive import installation_key_of
        from isocenter.features.accounts.opening import open_accounts
        from isocenter.features.audit.trail import AuditTrail
        from isocenter.kit.clock import SystemClock
        from isocenter.platform.security import Permission

        key = installation_key_of(loaded.settings)
        trail = AuditTrail(database, SystemClock(), linger_s=0)
        accounts = open_accounts(
            database, SystemClock(), key, trail, public_url=loaded.settings.public_url_or_default
        )
        try:
            subject = operator(await organization_named(database, organization), frozenset(Permission))
            return await run(accounts, subject)
        finally:
            await accounts.close()
            await trail.close()

    return with_database(loaded, opened)


def role_of(word: str) -> Role:
    from isocenter.platform.security import Role

    if word not in set(Role):
        raise InvalidInput(f"{word!r} is no role.", remedy=f"Use {', '.join(Role)}.")
    return Role(word)


def permission_of(word: str) -> Permission:
    from isocenter.platform.security import Permission

    if word not in set(Permission):
        raise InvalidInput(f"{word!r} is no permission.", remedy=f"There are {', '.join(Permission)}.")
    return Permission(word)


def asked_password(*, from_stdin: bool) -> str:
    """Never an argument: every user of a machine can read the command lines of its processes."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def told_as_json(answer: Any) -> None:
    typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
