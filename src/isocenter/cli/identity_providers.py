"""``isocenter idp``: identity providers that log an organisation's people in (OpenID Connect)."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from isocenter.cli.account_commands import InOrganization, Json, command_group, told_as_json, with_accounts
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.accounts.openid.entries import Identity, Provider
    from isocenter.features.accounts.openid.examining import ProviderFinding
    from isocenter.features.accounts.opening import Accounts
    from isocenter.platform.security import Subject

app = command_group("Say which identity providers (OpenID Connect) log people in; find out what is wrong.")
Name = Annotated[str, typer.Argument(help="Short name of the provider, such as keycloak.")]
Title = Annotated[str | None, typer.Option("--title", help="Its name for people.")]
SecretStdin = Annotated[
    bool, typer.Option("--client-secret-stdin", help="Read the client secret from standard input.")
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="VALUE=ROLE", help="A value of role_claim and its role; may be repeated."),
]
Chosen = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME=VALUE]…", help="Settings; without a value: the default."),
]
_MARKS = {True: "✓", False: "✗", None: "?"}


@app.command()
@with_settings
def add(
    loaded: LoadedSettings,
    name: Name,
    settings: Chosen = None,
    *,
    issuer: Annotated[str, typer.Option("--issuer", help="Its issuer URL, exactly as it writes it.")],
    client_id: Annotated[str, typer.Option("--client-id", help="Who we are there.")],
    client_secret_stdin: SecretStdin = False,
    title: Title = None,
    roles: Map = None,
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Add a provider: isocenter idp add keycloak --issuer https://… --client-id isocenter people=create …

    Without --client-secret-stdin the secret is asked for; an empty one is that of a client without any.
    """
    secret = _asked_secret(from_stdin=client_secret_stdin)
    chosen = _settings(settings, roles)

    async def run(accounts: Accounts, subject: Subject) -> tuple[Provider, str]:
        added = await accounts.openid.providers.add(
            subject,
            name,
            issuer=issuer,
            client_id=client_id,
            client_secret=secret,
            title=title or "",
            settings=chosen,
        )
        return added, accounts.openid.public_url

    _tell(*with_accounts(loaded, organization, run), as_json=as_json)


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, organization: InOrganization = "", as_json: Json = False) -> None:
    """Show the providers of an organisation."""

    async def run(accounts: Accounts, subject: Subject) -> tuple[list[Provider], str]:
        return await accounts.openid.providers.all(subject), accounts.openid.public_url

    found, public_url = with_accounts(loaded, organization, run)
    if as_json:
        told_as_json({"identity_providers": [_shown(one, public_url) for one in found]})
        return
    for one in found:
        state = "" if one.enabled else "  (switched off)"
        typer.echo(f"{one.name:24}  {one.issuer}{state}")
    if not found:
        typer.echo("There is none. Add one with: isocenter idp add NAME --issuer URL --client-id ID")


@app.command()
@with_settings
def show(
    loaded: LoadedSettings, name: Name, organization: InOrganization = "", as_json: Json = False
) -> None:
    """Show a provider, its settings, and the redirect URI to register there."""

    async def run(accounts: Accounts, subject: Subject) -> tuple[Provider, str]:
        return await accounts.openid.providers.get(subject, name), accounts.openid.public_url

    _tell(*with_accounts(loaded, organization, run), as_json=as_json)


@app.command()
@with_settings
def change(
    loaded: LoadedSettings,
    name: Name,
    settings: Chosen = None,
    *,
    issuer: Annotated[str | None, typer.Option("--issuer", help="Its issuer URL from now on.")] = None,
    client_id: Annotated[str | None, typer.Option("--client-id", help="Who we are there.")] = None,
    client_secret_stdin: SecretStdin = False,
    title: Title = None,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Whether people log in by it.")] = None,
    roles: Map = None,
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Change a provider. Switched off or at another issuer, the logins that came of it end."""
    secret = _asked_secret(from_stdin=True) if client_secret_stdin else None
    chosen = _settings(settings, roles)

    async def run(accounts: Accounts, subject: Subject) -> tuple[Provider, str]:
        from isocenter.features.accounts.openid.providers import ProviderChanges

        changes = ProviderChanges(title, issuer, client_id, secret, enabled, chosen)
        changed = await accounts.openid.providers.change(subject, name, changes)
        return changed, accounts.openid.public_url

    _tell(*with_accounts(loaded, organization, run), as_json=as_json)


@app.command()
@with_settings
def remove(
    loaded: LoadedSettings, name: Name, organization: InOrganization = "", as_json: Json = False
) -> None:
    """Remove a provider. Its logins end; the people's accounts stay."""

    async def run(accounts: Accounts, subject: Subject) -> None:
        await accounts.openid.providers.remove(subject, name)

    with_accounts(loaded, organization, run)
    if as_json:
        told_as_json({"removed": name})
    else:
        typer.echo(f"{name} is gone, and the logins that came of it have ended.")


@app.command()
@with_settings
def test(
    loaded: LoadedSettings, name: Name, organization: InOrganization = "", as_json: Json = False
) -> None:
    """Say in plain words what is wrong with a provider. Exit code 1 when something is."""

    async def run(accounts: Accounts, subject: Subject) -> list[ProviderFinding]:
        return await accounts.openid.examination.of(await accounts.openid.providers.get(subject, name))

    found = with_accounts(loaded, organization, run)
    sick = [one for one in found if one.ok is False]
    if as_json:
        told_as_json({"ok": not sick, "findings": found})
    else:
        for one in found:
            typer.echo(f"{_MARKS[one.ok]} {one.says}")
            if one.remedy:
                typer.echo(f"  → {one.remedy}")
    if sick:
        raise typer.Exit(1)


@app.command()
@with_settings
def bind(
    loaded: LoadedSettings,
    name: Name,
    login: Annotated[str, typer.Argument(help="Login name of the account.")],
    identity: Annotated[str, typer.Argument(metavar="SUB", help="The claim 'sub' of the person there.")],
    *,
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Bind a person's identity at a provider to their account; the trail names it where they were refused."""

    async def run(accounts: Accounts, subject: Subject) -> list[Identity]:
        account = await accounts.people.by_login(subject, login)
        return await accounts.openid.identities.bind(subject, account.id, name, identity)

    _tell_identities(with_accounts(loaded, organization, run), as_json=as_json)


@app.command()
@with_settings
def identities(
    loaded: LoadedSettings,
    login: Annotated[str, typer.Argument(help="Login name of the account.")],
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Show the identities that are bound to an account."""

    async def run(accounts: Accounts, subject: Subject) -> list[Identity]:
        account = await accounts.people.by_login(subject, login)
        return await accounts.openid.identities.of(subject, account.id)

    _tell_identities(with_accounts(loaded, organization, run), as_json=as_json)


@app.command()
@with_settings
def unbind(
    loaded: LoadedSettings,
    login: Annotated[str, typer.Argument(help="Login name of the account.")],
    number: Annotated[int, typer.Argument(min=1, help="The identity's number.")],
    organization: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Let an identity no longer log anybody in; the account's logins by providers end."""

    async def run(accounts: Accounts, subject: Subject) -> list[Identity]:
        account = await accounts.people.by_login(subject, login)
        await accounts.openid.identities.unbind(subject, account.id, number)
        return await accounts.openid.identities.of(subject, account.id)

    _tell_identities(with_accounts(loaded, organization, run), as_json=as_json)


def _asked_secret(*, from_stdin: bool) -> str:
    """Never an argument: every user of a machine can read the command lines of its processes."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Client secret", default="", show_default=False, hide_input=True))


def _settings(pairs: list[str] | None, roles: list[str] | None) -> dict[str, Any]:
    chosen = dict(_pair(pair, "people=create") for pair in pairs or [])
    if roles:
        chosen["roles"] = dict(_role(pair) for pair in roles)
    return chosen


def _pair(pair: str, example: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise InvalidInput(f"{pair!r} has no value.", remedy=f"Write {example}.")
    if not value:
        return name, None
    try:
        return name, orjson.loads(value)  # true, 8
    except orjson.JSONDecodeError:
        return name, value


def _role(pair: str) -> tuple[str, str]:
    value, equals, role = pair.rpartition("=")  # a group's name may hold one: CN=PACS,DC=example
    if not equals:
        raise InvalidInput(f"{pair!r} names no role.", remedy="Write --map 'PACS Admins=admin'.")
    return value, role


def _shown(provider: Provider, public_url: str) -> dict[str, Any]:
    return {
        "name": provider.name,
        "title": provider.title,
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "has_secret": bool(provider.kept_secret),
        "enabled": provider.enabled,
        "settings": provider.settings.model_dump(mode="json"),
        "redirect_uri": provider.redirect_uri(public_url),
        "created_at_us": provider.created_at_us,
    }


def _tell(provider: Provider, public_url: str, *, as_json: bool) -> None:
    shown = _shown(provider, public_url)
    if as_json:
        told_as_json(shown)
        return
    typer.echo(f"{provider.name}: {provider.title or provider.issuer}")
    for name in ("issuer", "client_id", "has_secret", "enabled", "redirect_uri"):
        typer.echo(f"  {name:20} {shown[name]}")
    for name, value in shown["settings"].items():
        typer.echo(f"  {name:20} {value}")


def _tell_identities(found: list[Identity], *, as_json: bool) -> None:
    if as_json:
        told_as_json({"identities": [asdict(one) for one in found]})
        return
    for one in found:
        seen = moment(one.last_login_at_us) if one.last_login_at_us else "never logged in"
        typer.echo(f"{one.id:>4}  {one.subject:40}  {one.issuer}  {seen}")
    if not found:
        typer.echo("No identity is bound to this account.")
