"""Around a login at a provider: where browsers may be sent, what is logged, which addresses are asked."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from isocenter.features.accounts.openid.errors import InvalidProvider, ProviderUnreachable
from isocenter.features.accounts.openid.fetching import Fetcher
from isocenter.features.accounts.openid.providers import ProviderChanges
from isocenter.kit.errors import InvalidInput
from isocenter.platform.telemetry import configure_logging
from isocenter.platform.tls.self_signed import make_self_signed
from services.accounts import TestAccounts, command_line, opened_accounts
from services.openid_flow import (
    BROWSER,
    CREATES,
    PLACE,
    PROGRAM,
    added,
    clock_of_today,
    logged_in_at,
    openid_provider,
    started,
)
from services.openid_provider import CLIENT_SECRET, OpenIdProvider
from services.schema import fresh_url

DEADLINE_S = 0.3


@pytest.fixture
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TestAccounts]:
    """On SQLite alone: what is forged never gets as far as the database."""
    fetcher = Fetcher(deadline_s=DEADLINE_S, bytes_max=64 << 10)
    with fresh_url(request, "sqlite", tmp_path) as url:
        async with opened_accounts(url, clock=clock_of_today(), fetcher=fetcher) as made:
            yield made


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as made:
        yield made


# --- browsers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "evil.example",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: a=b",
        "/a\tb",
        " /a",
        "/a b",
        "/\u00e9",
        "/" + "a" * 2000,
        "/a\\b",
    ],
)
async def test_nobody_is_sent_to_another_server(
    house: TestAccounts, provider: OpenIdProvider, path: str
) -> None:
    await added(house, provider.issuer)
    answer = await house.client.get(f"{PLACE}/start?return_to={quote(path)}")
    assert answer.status_code == 400, answer.headers
    assert provider.count("/discovery") == 0
    asked = {"token": "x", "return_to": path}
    assert (await house.post("/auth/oidc/default.idp/accept", asked)).status_code == 400


@pytest.mark.parametrize(
    "path", ["", "/", "/a?b=c&d=%20#e", "/a//b", "/%5c%5cevil.example", "/@evil.example"]
)
async def test_a_path_of_ours_is_where_one_goes(
    house: TestAccounts, provider: OpenIdProvider, path: str
) -> None:
    await added(house, provider.issuer, **CREATES)
    back = provider.sign_in(await started(house.client, path))
    answer = await house.client.get(back, headers=BROWSER)
    assert answer.headers["location"] == (path or "/")


async def test_beginning_without_end_is_held_up(house: TestAccounts, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer)
    answers = [(await house.client.get(f"{PLACE}/start")).status_code for _ in range(62)]
    assert answers == [302] * 60 + [429] * 2
    refused = await house.post("/auth/login", {"login": "nobody", "password": "guess"})
    assert refused.status_code == 401  # passwords are counted apart


async def test_where_there_is_tls_the_cookie_is_for_this_host_alone(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, **CREATES)
    answer = await house.client.get(f"https://isocenter{PLACE}/start")
    cookie = answer.headers["set-cookie"]
    assert re.match(r"__Host-isocenter_oidc_[0-9a-f]{16}=", cookie)
    for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/;", "Max-Age=600"):
        assert word in cookie
    assert "Domain" not in cookie
    back = provider.sign_in(answer.headers["location"]).replace("http:", "https:", 1)
    inside = await house.client.get(back, headers=BROWSER)
    assert inside.status_code == 302
    assert all("Secure" in one for one in inside.headers.get_list("set-cookie"))


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level
    configure_logging("text", "debug", stream=stream)
    yield stream
    logging.captureWarnings(False)
    structlog.reset_defaults()
    root.handlers[:], root.level = before[0], before[1]


async def test_no_word_of_a_login_reaches_the_log(
    house: TestAccounts, provider: OpenIdProvider, logged: io.StringIO
) -> None:
    await added(house, provider.issuer, **CREATES)
    location = await started(house.client)
    back = provider.sign_in(location)
    answer = await house.client.get(back, headers=PROGRAM)
    provider.answers["/token"] = (400, {}, b'{"error":"invalid_client"}')
    await logged_in_at(house, provider)
    written = logged.getvalue()
    assert "/callback" in written and "identity-provider-broken" in written
    tokens = answer.json()
    words = [*re.findall(r"(?:state|nonce|code_challenge|code)=([^&]+)", location + back)]
    words += [*house.client.cookies.values(), tokens["access_token"], tokens["refresh_token"]]
    words += [CLIENT_SECRET, "an-access-token", provider.person["sub"], provider.person["email"]]
    assert not [word for word in words if word in written]


# --- the network ------------------------------------------------------------------------------------------


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ssl.SSLContext]:
    """A server's side of TLS, with a certificate for these names that this machine trusts from now on."""

    def make(*names: str) -> ssl.SSLContext:
        files = make_self_signed(tmp_path / names[0], list(names), datetime.now(UTC), days=2)
        monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        return context

    return make


async def test_tls_is_spoken_and_the_certificate_looked_at(
    house: TestAccounts, certified: Callable[..., ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    with openid_provider(tls=certified("127.0.0.1")) as provider:
        await added(house, provider.issuer, **CREATES)
        answer = await logged_in_at(house, provider)
        assert answer.status_code == 200, answer.text
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(ProviderUnreachable, match="certificate that this machine does not trust"):
            await Fetcher().get(f"{provider.issuer}/keys", loopback=True)


async def test_the_certificate_is_for_the_name_not_for_the_address(
    certified: Callable[..., ssl.SSLContext],
) -> None:
    address_alone = openid_provider(tls=certified("127.0.0.1", "::1"))
    with address_alone as provider, pytest.raises(ProviderUnreachable, match="Hostname mismatch"):
        await Fetcher().get(f"https://localhost:{provider.port}/keys", loopback=True)
    with openid_provider(tls=certified("localhost"), host="localhost") as provider:
        assert (await Fetcher().get(f"{provider.issuer}/keys", loopback=True)).status == 200


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "240.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
async def test_a_name_that_leads_to_this_machine_or_a_cloud_s_metadata_is_not_asked(
    house: TestAccounts, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, 443))]

    await added(house, "https://login.example", **CREATES)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    answer = await house.client.get(f"{PLACE}/start")
    assert (answer.status_code, answer.json()["code"]) == (503, "identity-provider-broken")
    assert "leads to an address that is not asked" in answer.json()["detail"]


@pytest.mark.parametrize(
    "issuer",
    [
        *("http://login.example", "ftp://login.example", "login.example", "https://", "https://a b", ""),
        *("https://login.example?x", "https://login.example#x", "https://u:p@login.example", "https://[::1"),
        *(
            "http://169.254.169.254",
            "http://127.0.0.1.nip.example",
            "https://login.example:99999",
            "file:///x",
        ),
        *("https://login.example/\r\nx", "https://l\u00f6gin.example", "https://login.example/" + "a" * 1000),
    ],
)
async def test_an_issuer_that_is_none(house: TestAccounts, issuer: str) -> None:
    providers = house.accounts.openid.providers
    with pytest.raises(InvalidInput):
        await providers.add(command_line(), "idp", issuer=issuer, client_id="x")
    await providers.add(command_line(), "idp", issuer="https://login.example", client_id="x")
    with pytest.raises(InvalidInput):
        await providers.change(command_line(), "idp", ProviderChanges(issuer=issuer))


@pytest.mark.parametrize(
    "settings",
    [
        {"no_such": 1},
        {"scopes": "email"},
        {"scopes": "openid  email"},
        {"roles": {"x": "admin"}},
        {"role_claim": "groups"},
        {"role_claim": "groups", "roles": {"x": "service"}},
        {"role_claim": "groups", "roles": {"x": "emperor"}},
        {"role_claim": "groups", "roles": {"x": "clinician"}, "default_role": "radiologist"},
        {"default_role": "admin"},
        {"people": "create"},
        {"people": "anybody"},
        {"email_domains": ["@st-marys.example"]},
        {"email_domains": [7]},
        {"email_domains": 7},
        {"session_hours": 0},
        {"session_hours": 169},
        {"second_factor": "none"},
        {"login_claim": ""},
    ],
)
async def test_settings_that_cannot_work(house: TestAccounts, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidProvider):
        await house.accounts.openid.providers.add(
            command_line(), "idp", issuer="https://login.example", client_id="x", settings=settings
        )


async def test_another_issuer_is_not_shown_the_secret_of_this_one(house: TestAccounts) -> None:
    await added(house, "https://login.example")
    change = house.accounts.openid.providers.change
    with pytest.raises(InvalidProvider):
        await change(command_line(), "idp", ProviderChanges(issuer="https://evil.example"))
    moved = ProviderChanges(issuer="https://evil.example", client_secret="another")
    assert (await change(command_line(), "idp", moved)).issuer == "https://evil.example"
