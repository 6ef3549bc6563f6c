"""``isocenter idp`` and what the doctor says of identity providers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from isocenter.cli.doctor import identity_providers
from isocenter.cli.doctor.findings import Verdict
from isocenter.cli.identity_providers import app
from isocenter.kit.errors import IsocenterError
from isocenter.platform.settings import Settings
from services.openid_flow import openid_provider
from services.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from services.schema import fresh_url


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def flags(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    with fresh_url(request, request.param, tmp_path) as url:
        yield ("--data-dir", str(tmp_path), "--database-url", url)


class Commands:
    def __init__(self, flags: tuple[str, ...]) -> None:
        self._flags = flags

    def run(self, *arguments: str, stdin: str = "") -> Any:
        return CliRunner().invoke(app, [*arguments, *self._flags], input=stdin)

    def json(self, *arguments: str, stdin: str = "") -> Any:
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.exit_code == 0, done.output + repr(done.exception)
        return orjson.loads(done.stdout)


@pytest.fixture
def idp(flags: tuple[str, ...]) -> Commands:
    return Commands(flags)


def add(idp: Commands, provider: OpenIdProvider, *more: str) -> Any:
    asked = ("--issuer", provider.issuer, "--client-id", CLIENT_ID, "--client-secret-stdin")
    return idp.json("add", "keycloak", *asked, *more, stdin=f"{CLIENT_SECRET}\n")


def test_a_provider_is_added_shown_changed_and_removed(idp: Commands, provider: OpenIdProvider) -> None:
    mapped = ("--map", "CN=Radiology,DC=example=radiologist", "--map", "it=admin")
    made = add(
        idp, provider, "role_claim=groups", "people=create", "email_domains=a.example,b.example", *mapped
    )
    assert made["settings"]["roles"] == {"CN=Radiology,DC=example": "radiologist", "it": "admin"}
    assert made["settings"]["email_domains"] == ["a.example", "b.example"]
    assert made["redirect_uri"].endswith("/api/v1/auth/oidc/default.keycloak/callback")
    shown = idp.run("show", "keycloak")
    assert "has_secret           True" in shown.stdout and CLIENT_SECRET not in shown.stdout
    changed = idp.json("change", "keycloak", "session_hours=8", "email_domains=", "--title", "Ours", "--off")
    assert (changed["title"], changed["enabled"], changed["settings"]["session_hours"]) == ("Ours", False, 8)
    assert changed["settings"]["email_domains"] == [] and changed["settings"]["people"] == "create"
    assert [one["name"] for one in idp.json("list")["identity_providers"]] == ["keycloak"]
    assert "(switched off)" in idp.run("list").stdout
    assert idp.json("remove", "keycloak") == {"removed": "keycloak"}
    assert "There is none" in idp.run("list").stdout
    gone = idp.run("show", "keycloak")
    assert isinstance(gone.exception, IsocenterError) and gone.exception.code == "no-such-identity-provider"


def test_what_commands_do_is_in_the_trail(
    idp: Commands, provider: OpenIdProvider, flags: tuple[str, ...]
) -> None:
    from isocenter.cli.audit import app as audit

    add(idp, provider)
    idp.run("change", "keycloak", "--client-secret-stdin", "session_hours=1", stdin="n3w\n")
    idp.run("remove", "keycloak")
    told = CliRunner().invoke(audit, ["list", *flags]).stdout
    assert told.count("identity-provider keycloak") == 3
    assert "changed: client_secret, session_hours" in told and "n3w" not in told


def test_the_test_says_what_is_wrong(idp: Commands, provider: OpenIdProvider) -> None:
    add(idp, provider)
    good = idp.run("test", "keycloak")
    assert good.exit_code == 0 and good.stdout.count("✓") == 4, good.output
    idp.run("change", "keycloak", "--client-secret-stdin", stdin="wrong\n")
    bad = idp.run("test", "keycloak")
    assert bad.exit_code == 1 and "✗ It does not accept the client id and the client secret." in bad.stdout
    provider.bend_discovery = lambda document: document.update(issuer="https://login.example")
    told = orjson.loads(idp.run("test", "keycloak", "--json").stdout)
    assert told["ok"] is False and "https://login.example" in told["findings"][-1]["remedy"]


def test_identities_are_bound_and_unbound(
    idp: Commands, provider: OpenIdProvider, flags: tuple[str, ...]
) -> None:
    from isocenter.cli.users import app as user

    add(idp, provider)
    CliRunner().invoke(user, ["invite", "jane", *flags])
    [bound] = idp.json("bind", "keycloak", "jane", "248289761001")["identities"]
    assert (bound["subject"], bound["issuer"]) == ("248289761001", provider.issuer)
    assert "never logged in" in idp.run("identities", "jane").stdout
    assert idp.json("unbind", "jane", str(bound["id"])) == {"identities": []}


def test_the_doctor_examines_what_is_switched_on(
    idp: Commands, provider: OpenIdProvider, flags: tuple[str, ...]
) -> None:
    settings = Settings(data_dir=flags[1], database_url=flags[3])
    assert list(identity_providers.identity_providers(settings)) == []  # and no key is made for that
    assert not (Path(flags[1]) / "secrets").exists()
    add(idp, provider)
    found = list(identity_providers.identity_providers(settings))
    assert {one.verdict for one in found} == {Verdict.GOOD}, found
    assert {one.name for one in found} == {"login by default.keycloak"}
    provider.answers["/keys"] = (200, {}, b'{"keys": []}')
    last = list(identity_providers.identity_providers(settings))[-1]
    assert last.verdict is Verdict.BAD and "no key" in last.says
    idp.run("change", "keycloak", "--off")
    assert list(identity_providers.identity_providers(settings)) == []
