"""Logging in by identity providers, over HTTP, on both databases; one provider is another author's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.accounts import TestAccounts, opened_accounts
from services.openid_flow import (
    BROWSER,
    CREATES,
    PLACE,
    PROGRAM,
    ProviderMock,
    added,
    clock_of_today,
    logged_in_at,
    me,
    openid_provider,
    started,
    whys,
)
from services.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, new_key
from services.schema import fresh_url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def house(url: str) -> AsyncIterator[TestAccounts]:
    async with opened_accounts(url, clock=clock_of_today()) as made:
        yield made


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as made:
        yield made


@pytest.fixture(scope="module")
def mock(services_folder: Path) -> Iterator[ProviderMock]:
    made = ProviderMock(services_folder)
    yield made
    made.stop()


@pytest.fixture
async def admin(house: TestAccounts) -> str:
    """An operator: only they set up a provider on this machine."""
    return await house.admin("chief", operator=True)


# --- a provider of another author -------------------------------------------------------------------------


async def test_a_browser_logs_in_at_another_author_s_provider(
    house: TestAccounts, mock: ProviderMock
) -> None:
    mock.put_user("jane", {"email": "Jane@Example.org", "email_verified": True, "name": "Jane Doe"})
    await added(house, mock.issuer, **CREATES)
    back = mock.sign_in(await started(house.client, "/studies?page=2"), "jane")
    answer = await house.client.get(back, headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (302, "/studies?page=2"), answer.text
    cookies = answer.headers.get_list("set-cookie")
    [refresh] = [one for one in cookies if one.startswith("isocenter_refresh=")]
    assert "HttpOnly" in refresh and "SameSite=strict" in refresh and "Path=/api/v1/auth" in refresh
    tokens = await house.post("/auth/refresh")
    assert tokens.status_code == 200, tokens.text
    found = await me(house, tokens)
    assert (found["name"], found["user"]["name"], found["user"]["role"]) == (
        "jane@example.org",
        "Jane Doe",
        "clinician",
    )
    assert (await house.client.get(back, headers=BROWSER)).status_code == 401  # it counts once


async def test_who_declines_there_is_told_so_here(house: TestAccounts, mock: ProviderMock) -> None:
    await added(house, mock.issuer, **CREATES)
    answer = await house.client.get(mock.sign_in(await started(house.client), "x", deny=True))
    # It leaves out the state, so nobody knows whose answer that is.
    assert (answer.status_code, answer.json()["code"]) in {
        (401, "openid-login-declined"),
        (401, "openid-login-expired"),
    }


async def test_the_examination_finds_nothing_wrong_with_it(
    house: TestAccounts, admin: str, mock: ProviderMock
) -> None:
    await added(house, mock.issuer)
    found = (await house.post("/identity-providers/idp/test", authorization=admin)).json()["findings"]
    assert [one["verdict"] for one in found[1:]] == ["good", "good", "good"], found


# --- the flow ---------------------------------------------------------------------------------------------


async def test_what_goes_to_the_provider(house: TestAccounts, admin: str, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer, scopes="openid email roles")
    made = (await house.ask("GET", "/identity-providers/idp", authorization=admin)).json()
    assert made["redirect_uri"] == f"http://isocenter{PLACE}/callback"
    asked = {name: one for name, (one,) in parse_qs(urlsplit(await started(house.client)).query).items()}
    assert asked.pop("theme") == "dark"  # of the endpoint itself
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked.pop(name)) == 43
    assert asked == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": made["redirect_uri"],
        "scope": "openid email roles",
        "code_challenge_method": "S256",
    }


async def test_a_program_gets_the_tokens_and_no_cookie(house: TestAccounts, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer, **CREATES)
    answer = await logged_in_at(house, provider)
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "Bearer" and "isocenter_refresh" not in house.client.cookies
    again = await house.post("/auth/refresh", {"refresh_token": answer.json()["refresh_token"]})
    assert again.status_code == 200
    assert ("login", "success", "user") in house.trail.told()
    assert house.trail.settled_events == len(house.trail.events)


@pytest.mark.parametrize("methods", [["client_secret_basic"], ["client_secret_post"], None])
async def test_the_secret_is_shown_as_the_provider_wants_it(
    house: TestAccounts, provider: OpenIdProvider, methods: list[str] | None
) -> None:
    def bend(document: dict[str, Any]) -> None:
        document["token_endpoint_auth_methods_supported"] = methods
        if methods is None:
            del document["token_endpoint_auth_methods_supported"]

    provider.bend_discovery = bend
    await added(house, provider.issuer, **CREATES)
    assert (await logged_in_at(house, provider)).status_code == 200
    [asked] = [one for one in provider.asked if one.path == "/token"]
    posted = methods == ["client_secret_post"]
    assert (CLIENT_SECRET in asked.form.values()) == posted
    assert asked.authorization.startswith("Basic ") != posted


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("RSA", "RS256"), ("RSA", "PS256"), ("EC", "ES256"), ("OKP", "EdDSA")]
)
async def test_each_algorithm_that_is_accepted(
    house: TestAccounts, provider: OpenIdProvider, kind: str, algorithm: str
) -> None:
    provider.use_key(new_key(kind), algorithm)
    await added(house, provider.issuer, **CREATES)
    answer = await logged_in_at(house, provider)
    assert answer.status_code == 200, (answer.text, whys(house))


async def test_exchanged_keys_are_fetched_once_more_and_others_are_kept(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, **CREATES)
    for _ in range(2):
        assert (await logged_in_at(house, provider)).status_code == 200
    assert (provider.count("/discovery"), provider.count("/keys")) == (1, 1)
    provider.use_key(new_key(kid="second"), "RS256")
    assert (await logged_in_at(house, provider)).status_code == 200
    assert provider.count("/keys") == 2
    provider.use_key(new_key(kid="third"), "RS256", publish=False)
    refused = await logged_in_at(house, provider)
    assert (refused.status_code, refused.json()["code"]) == (401, "openid-answer-refused")
    assert provider.count("/keys") == 3
    house.clock.advance(3600)
    assert (await logged_in_at(house, provider)).status_code == 401
    assert provider.count("/discovery") == 2


async def test_claims_that_the_id_token_leaves_out_are_asked_for(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    provider.in_userinfo = frozenset({"email", "email_verified", "name", "groups"})
    await added(
        house,
        provider.issuer,
        people="create",
        role_claim="groups",
        roles={"radiology": "radiologist"},
    )
    answer = await logged_in_at(house, provider)
    assert (await me(house, answer))["user"]["role"] == "radiologist"
    assert provider.count("/userinfo") == 1


async def test_two_tabs_do_not_end_each_other_s_login(house: TestAccounts, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer, **CREATES)
    first, second = await started(house.client, "/first"), await started(house.client, "/second")
    for begun, place in ((second, "/second"), (first, "/first")):
        answer = await house.client.get(provider.sign_in(begun), headers=BROWSER)
        assert answer.headers["location"] == place
    assert not [name for name in house.client.cookies if name.startswith("isocenter_oidc")]


async def test_the_login_page_is_told_whom_it_may_offer(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer)
    await added(house, provider.issuer, "off")
    await house.ask("PATCH", "/identity-providers/off", {"enabled": False}, authorization=admin)
    offered = await house.ask("GET", "/auth/oidc?organization=default")
    assert offered.json() == {"providers": [{"name": "idp", "title": "idp", "start": f"{PLACE}/start"}]}
    assert (await house.ask("GET", "/auth/oidc?organization=nowhere")).json() == {"providers": []}


async def test_logging_out_says_where_the_provider_s_login_ends(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, **CREATES)
    person = f"Bearer {(await logged_in_at(house, provider)).json()['access_token']}"
    out = await house.post("/auth/oidc/logout", authorization=person)
    assert out.json() == {"end_session_url": f"{provider.issuer}/logout?client_id=isocenter%3A1"}
    assert (await house.ask("GET", "/me", authorization=person)).status_code == 401
    own = await house.post("/auth/oidc/logout", authorization=admin)
    assert own.json() == {"end_session_url": None}  # came in by password
    assert (await house.ask("GET", "/me", authorization=admin)).status_code == 401


async def test_a_provider_that_is_away_keeps_nobody_logged_in(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, **CREATES)
    person = f"Bearer {(await logged_in_at(house, provider)).json()['access_token']}"
    house.clock.advance(3500)
    provider.answers["/discovery"] = (500, {}, b"")
    house.clock.advance(101)  # what was kept of it is too old by then, the access token is not
    out = await house.post("/auth/oidc/logout", authorization=person)
    assert (out.status_code, out.json()) == (200, {"end_session_url": None})


# --- which browser ----------------------------------------------------------------------------------------


async def test_a_login_begun_in_another_browser_counts_not_and_stays_usable(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    """Login CSRF: a victim is made to finish the attacker's login."""
    await added(house, provider.issuer, **CREATES)
    back = provider.sign_in(await started(house.client))
    victim = house.from_address("127.0.0.1")
    answer = await victim.get(back, headers=BROWSER)
    assert (answer.status_code, answer.json()["code"]) == (401, "openid-login-expired")
    assert not [one for one in answer.headers.get_list("set-cookie") if "refresh" in one]
    planted = next(name for name in house.client.cookies if name.startswith("isocenter_oidc"))
    victim.cookies.set(planted, "guess")
    assert (await victim.get(back, headers=BROWSER)).status_code == 401
    assert (await house.client.get(back, headers=PROGRAM)).status_code == 200


async def test_a_login_that_took_too_long_or_came_twice(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, **CREATES)
    back, late = provider.sign_in(await started(house.client)), provider.sign_in(await started(house.client))
    answers = await asyncio.gather(*(house.client.get(back, headers=PROGRAM) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401]
    assert whys(house) == ["openid-login-expired"] * 2  # and the provider was not asked again
    assert provider.count("/token") == 1
    house.clock.advance(600)
    assert (await house.client.get(late, headers=PROGRAM)).json()["code"] == "openid-login-expired"
    house.clock.advance(1)
    await started(house.client)
    assert (await house.rows("SELECT count(*) AS n FROM openid_login"))[0]["n"] == 1  # the old ones are gone


# --- how long, and what ends it ---------------------------------------------------------------------------


async def test_the_provider_is_asked_again_after_some_hours(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, session_hours=2, **CREATES)
    tokens = (await logged_in_at(house, provider)).json()
    assert tokens["refresh_expires_in"] == 7200
    house.clock.advance(3600)
    tokens = (await house.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})).json()
    assert tokens["refresh_expires_in"] == 3600
    house.clock.advance(3600)
    over = await house.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert (over.status_code, over.json()["code"]) == (401, "refresh-token-not-valid")


@pytest.mark.parametrize("ending", ["off", "issuer", "remove"])
async def test_its_logins_end_with_a_provider(
    house: TestAccounts, admin: str, provider: OpenIdProvider, ending: str
) -> None:
    await added(house, provider.issuer, **CREATES)
    tokens = (await logged_in_at(house, provider)).json()
    place = "/identity-providers/idp"
    match ending:
        case "off":
            done = await house.ask("PATCH", place, {"enabled": False}, authorization=admin)
        case "issuer":
            changes = {"issuer": f"{provider.issuer}/other", "client_secret": "another"}
            done = await house.ask("PATCH", place, changes, authorization=admin)
        case _:
            done = await house.ask("DELETE", place, authorization=admin)
    assert done.status_code < 300, done.text
    over = await house.ask("GET", "/me", authorization=f"Bearer {tokens['access_token']}")
    assert over.status_code == 401
    assert (await house.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})).status_code == 401
    assert (await house.ask("GET", "/me", authorization=admin)).status_code == 200
    if ending != "issuer":
        assert (await house.client.get(f"{PLACE}/start")).status_code == 404


async def test_a_disabled_account_and_an_unknown_person_have_one_answer(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, **CREATES)
    user = (await me(house, await logged_in_at(house, provider)))["user"]["id"]
    await house.ask("PATCH", f"/users/{user}", {"state": "disabled"}, authorization=admin)
    disabled = await logged_in_at(house, provider)
    await house.ask(
        "PATCH", "/identity-providers/idp", {"settings": {"people": "invited"}}, authorization=admin
    )
    provider.person["sub"] = "somebody-else"
    unknown = await logged_in_at(house, provider)
    assert (disabled.status_code, disabled.json()["code"]) == (401, "openid-login-refused")
    assert disabled.json() | {"trace_id": ""} == unknown.json() | {"trace_id": ""}
    assert whys(house) == ["the account is disabled", "nobody is known by this identity"]
    told = house.trail.events[-1]
    assert (told.outcome, told.details["subject"], told.details["provider"]) == (
        "denied",
        "somebody-else",
        "idp",
    )
