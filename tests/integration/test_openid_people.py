"""Whom identity providers let in, and as what; invitations, linking, second factors; on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from isocenter.platform.security import PERMISSIONS_OF_ROLE, Role
from services.accounts import PASSWORD, TestAccounts, command_line, opened_accounts
from services.audit import execute
from services.authenticator import Lies
from services.openid_flow import (
    BROWSER,
    CREATES,
    PROGRAM,
    added,
    clock_of_today,
    logged_in_at,
    me,
    openid_provider,
    started,
    whys,
)
from services.openid_provider import CLIENT_SECRET, OpenIdProvider
from services.passkeys import person_with_passkey
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


@pytest.fixture
async def admin(house: TestAccounts) -> str:
    """An operator: only they set up a provider on this machine."""
    return await house.admin("chief", operator=True)


# --- who somebody is --------------------------------------------------------------------------------------


async def test_roles_follow_the_provider_s_claims_at_every_login(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    roles = {"radiology": "radiologist", "it": "admin", "ward 3": "clinician"}
    await added(house, provider.issuer, people="create", role_claim="access.groups", roles=roles)
    provider.person["access"] = {"groups": ["ward 3", "radiology", "kitchen", 7, None]}
    answer = await logged_in_at(house, provider)
    assert (await me(house, answer))["user"]["role"] == "radiologist"  # of several the one that may do most
    provider.person["access"] = {"groups": "it"}
    risen = await logged_in_at(house, provider)
    assert (await me(house, risen))["user"]["role"] == "admin"
    old = await house.ask("GET", "/me", authorization=f"Bearer {answer.json()['access_token']}")
    assert old.status_code == 401  # made when they were something else
    for gone in ({"groups": ["kitchen"]}, {"groups": []}, {}, "it"):
        provider.person["access"] = gone
        refused = await logged_in_at(house, provider)
        assert (refused.status_code, refused.json()["code"]) == (401, "openid-login-refused"), gone
    assert set(whys(house)) == {"the provider's claims give no role"}
    told = [one.details.get("what") for one in house.trail.events if one.subject_name.startswith("jane")]
    assert [what for what in told if what] == ["made as radiologist", "role admin"]


async def test_a_login_name_or_an_e_mail_address_that_is_the_same_binds_nothing(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    await house.accounts.people.create(
        command_line(), "jane@st-marys.example", "", Role.RADIOLOGIST, PASSWORD
    )
    await added(house, provider.issuer, **CREATES)
    refused = await logged_in_at(house, provider)
    assert (refused.status_code, refused.json()["code"]) == (401, "openid-login-refused")
    assert whys(house) == ["the login name is somebody else's"]
    assert (await house.rows("SELECT count(*) AS n FROM external_identity"))[0]["n"] == 0


@pytest.mark.parametrize(
    ("claims", "settings", "why"),
    [
        ({"email_verified": False}, {}, "the e-mail address is not verified"),
        ({"email_verified": "true"}, {}, "the e-mail address is not verified"),
        ({"email_verified": None}, {}, "the e-mail address is not verified"),
        ({"email_verified": False}, {"email_verified": False}, ""),
        ({}, {"email_domains": ["st-marys.example"]}, ""),
        ({"email": "jane@ST-MARYS.example"}, {"email_domains": "other.example, st-marys.example"}, ""),
        ({}, {"email_domains": ["marys.example"]}, "the e-mail address is of another domain"),
        (
            {"email": "jane@st-marys.example@evil.example"},
            {"email_domains": ["st-marys.example"]},
            "the e-mail address is of another domain",
        ),
        (
            {"email": ["x"]},
            {"email_domains": ["st-marys.example"]},
            "the e-mail address is of another domain",
        ),
        ({"email": ["x"]}, {}, "the provider's claims make no login name"),
        ({"email": "a b"}, {}, "the provider's claims make no login name"),
        ({"preferred_username": "Jane.Doe"}, {"login_claim": "preferred_username"}, ""),
    ],
)
async def test_who_may_come_at_all(
    house: TestAccounts,
    provider: OpenIdProvider,
    claims: dict[str, Any],
    settings: dict[str, Any],
    why: str,
) -> None:
    provider.person |= claims
    await added(house, provider.issuer, **CREATES, **settings)
    answer = await logged_in_at(house, provider)
    assert answer.status_code == (401 if why else 200), answer.text
    assert whys(house) == ([why] if why else [])


async def test_one_person_in_two_tabs_gets_one_account(house: TestAccounts, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer, **CREATES)
    backs = [provider.sign_in(await started(house.client)) for _ in range(4)]
    answers = await asyncio.gather(*(house.client.get(back, headers=PROGRAM) for back in backs))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert (await house.rows("SELECT count(*) AS n FROM account"))[0]["n"] == 1


async def test_nobody_becomes_more_than_the_administrator_is(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    clinician = sorted(PERMISSIONS_OF_ROLE[Role.CLINICIAN])
    asked = {"name": "k", "permissions": ["organization:manage", *clinician]}
    key = f"Api-Key {(await house.post('/api-keys', asked, authorization=admin)).json()['secret']}"
    wanted = {"name": "idp", "issuer": "https://login.example", "client_id": "x"}
    raised = wanted | {"settings": {"people": "create", "role_claim": "g", "roles": {"x": "admin"}}}
    for more in (raised, wanted | {"issuer": "http://localhost:1"}):
        answer = await house.post("/identity-providers", more, authorization=key)
        assert (answer.status_code, answer.json()["code"]) == (403, "more-than-yours")
    own = wanted | {"settings": {"people": "create", "default_role": "clinician"}}
    assert (await house.post("/identity-providers", own, authorization=key)).status_code == 201


async def test_an_operator_never_comes_in_by_a_provider(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer)
    linking = await house.post("/auth/oidc/default.idp/link", {}, authorization=admin)
    assert (linking.status_code, linking.json()["code"]) == (403, "operator-identity")
    chief = (await house.ask("GET", "/me", authorization=admin)).json()["user"]["id"]
    asked = {"provider": "idp", "subject": provider.person["sub"]}
    bound = await house.post(f"/users/{chief}/identities", asked, authorization=admin)
    assert (bound.status_code, bound.json()["code"]) == (403, "operator-identity")
    # Somebody who became operator later on.
    await house.accounts.people.create(command_line(), "jane", "", Role.RADIOLOGIST, PASSWORD)
    jane = (await house.accounts.people.by_login(command_line(), "jane")).id
    assert (await house.post(f"/users/{jane}/identities", asked, authorization=admin)).status_code == 201
    assert (await logged_in_at(house, provider)).status_code == 200
    await execute(house.database, "UPDATE account SET operator = 1 WHERE login = 'jane'")
    assert (await logged_in_at(house, provider)).status_code == 401
    assert whys(house) == ["operators do not come in by an organisation's identity provider"]


# --- invitations, linking, binding ------------------------------------------------------------------------


async def test_who_was_invited_accepts_by_logging_in_at_the_provider(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer)
    invited = (
        await house.post("/users", {"login": "jane", "role": "radiologist"}, authorization=admin)
    ).json()
    token = invited["link"]["token"]
    wrong = await house.post("/auth/oidc/default.idp/accept", {"token": "guess"})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "link-not-valid")
    begun = await house.post("/auth/oidc/default.idp/accept", {"token": token, "return_to": "/welcome"})
    assert "prompt=login" in begun.json()["authorization_url"]
    answer = await house.client.get(provider.sign_in(begun.json()["authorization_url"]), headers=PROGRAM)
    found = await me(house, answer)
    assert (found["name"], found["user"]["role"], found["user"]["state"]) == ("jane", "radiologist", "active")
    assert (await logged_in_at(house, provider)).status_code == 200  # from now on without an invitation
    again = await house.post("/auth/invitations/accept", {"token": token, "password": PASSWORD})
    assert again.status_code == 403


async def test_an_invitation_that_was_used_meanwhile_lets_nobody_in(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer)
    invited = (await house.post("/users", {"login": "jane", "role": "clinician"}, authorization=admin)).json()
    asked = {"token": invited["link"]["token"]}
    begun = (await house.post("/auth/oidc/default.idp/accept", asked)).json()["authorization_url"]
    used = await house.post("/auth/invitations/accept", asked | {"password": PASSWORD})
    assert used.status_code == 200
    answer = await house.client.get(provider.sign_in(begun), headers=PROGRAM)
    assert (answer.status_code, answer.json()["code"]) == (401, "openid-login-expired")
    reset = (
        await house.post(f"/users/{invited['user']['id']}/reset", authorization=admin)
    ).json()  # a reset is no invitation
    refused = await house.post("/auth/oidc/default.idp/accept", {"token": reset["token"]})
    assert refused.status_code == 403


async def test_who_is_signed_in_links_their_identity_and_unlinks_it(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer)
    await house.accounts.people.create(command_line(), "jane", "", Role.RADIOLOGIST, PASSWORD)
    jane = await house.logged_in("jane")
    begun = await house.post("/auth/oidc/default.idp/link", {"return_to": "/me"}, authorization=jane)
    back = provider.sign_in(begun.json()["authorization_url"])
    linked = await house.client.get(back, headers=BROWSER)
    assert (linked.status_code, linked.headers["location"]) == (302, "/me")
    assert "isocenter_refresh" not in house.client.cookies
    found = await me(house, await logged_in_at(house, provider))
    assert (found["name"], found["user"]["role"]) == ("jane", "radiologist")
    [identity] = (await house.ask("GET", "/me/identities", authorization=jane)).json()["identities"]
    assert identity["subject"] == provider.person["sub"]
    place = f"/me/identities/{identity['id']}"
    assert (await house.ask("DELETE", place, authorization=admin)).status_code == 404  # not theirs
    assert (await house.ask("DELETE", place, authorization=jane)).status_code == 204
    assert (await logged_in_at(house, provider)).status_code == 401


async def test_an_identity_is_one_account_s(house: TestAccounts, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer)
    for login in ("jane", "joan"):
        await house.accounts.people.create(command_line(), login, "", Role.CLINICIAN, PASSWORD)
    for login, status in (("jane", 200), ("jane", 200), ("joan", 409)):
        person = await house.logged_in(login)
        begun = await house.post("/auth/oidc/default.idp/link", {}, authorization=person)
        back = provider.sign_in(begun.json()["authorization_url"])
        answer = await house.client.get(back, headers=PROGRAM)
        assert answer.status_code == status, answer.text
    assert answer.json()["code"] == "identity-taken"


async def test_who_logged_out_links_nothing_any_more(house: TestAccounts, provider: OpenIdProvider) -> None:
    """Somebody else may sit at that machine by then."""
    await added(house, provider.issuer)
    await house.accounts.people.create(command_line(), "jane", "", Role.CLINICIAN, PASSWORD)
    jane = await house.logged_in("jane")
    begun = (await house.post("/auth/oidc/default.idp/link", {}, authorization=jane)).json()
    await house.post("/auth/logout", authorization=jane)
    answer = await house.client.get(provider.sign_in(begun["authorization_url"]), headers=PROGRAM)
    assert (answer.status_code, answer.json()["code"]) == (401, "openid-login-expired")


async def test_an_administrator_binds_and_unbinds(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer)
    invited = (await house.post("/users", {"login": "jane", "role": "clinician"}, authorization=admin)).json()
    place = f"/users/{invited['user']['id']}/identities"
    asked = {"provider": "idp", "subject": provider.person["sub"]}
    for wrong, status in (({"provider": "no"}, 404), ({"subject": "a\nb"}, 400), ({"subject": ""}, 400)):
        assert (await house.post(place, asked | wrong, authorization=admin)).status_code == status
    bound = await house.post(place, asked, authorization=admin)
    assert bound.status_code == 201, bound.text
    tokens = (await logged_in_at(house, provider)).json()  # the account is active by that
    person = f"Bearer {tokens['access_token']}"
    number = bound.json()["identities"][0]["id"]
    last = await house.ask("DELETE", f"/me/identities/{number}", authorization=person)
    assert (last.status_code, last.json()["code"]) == (409, "last-way-in")
    assert (await house.ask("DELETE", f"{place}/{number}", authorization=admin)).status_code == 204
    assert (await house.ask("DELETE", f"{place}/{number}", authorization=admin)).status_code == 404
    assert (await house.ask("GET", "/me", authorization=person)).status_code == 401
    assert (await logged_in_at(house, provider)).status_code == 401


async def test_a_way_in_is_made_and_taken_away_only_by_who_has_just_shown_who_they_are(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    """A stolen access token makes itself no way in."""
    provider.bend_claims = lambda claims: claims.update(exp=claims["exp"] + 3600)  # our clock is turned
    await added(house, provider.issuer)
    await house.accounts.people.create(command_line(), "jane", "", Role.CLINICIAN, PASSWORD)
    jane, link = await house.logged_in("jane"), "/auth/oidc/default.idp/link"
    house.clock.advance(600)
    needed = await house.post(link, {}, authorization=jane)
    assert (needed.status_code, needed.json()["code"]) == (403, "proof-needed")
    await house.post("/auth/proof", {"password": PASSWORD}, authorization=jane)
    begun = await house.post(link, {}, authorization=jane)
    await house.client.get(provider.sign_in(begun.json()["authorization_url"]), headers=PROGRAM)
    [identity] = (await house.ask("GET", "/me/identities", authorization=jane)).json()["identities"]
    house.clock.advance(600)
    place = f"/me/identities/{identity['id']}"
    assert (await house.ask("DELETE", place, authorization=jane)).json()["code"] == "proof-needed"
    answer = await logged_in_at(house, provider)  # shows it too
    anew = f"Bearer {answer.json()['access_token']}"
    assert (await house.ask("DELETE", place, authorization=anew)).status_code == 204


# --- our second factor on top -----------------------------------------------------------------------------


async def test_our_second_factor_is_asked_for_where_the_provider_s_settings_say_so(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, **CREATES)
    person = f"Bearer {(await logged_in_at(house, provider)).json()['access_token']}"
    secret = (await house.post("/auth/totp/enrol", authorization=person)).json()["secret"]

    def code() -> str:
        return pyotp.TOTP(secret).at(house.clock.now())

    assert (await house.post("/auth/totp/confirm", {"code": code()}, authorization=person)).status_code == 200
    assert (await logged_in_at(house, provider)).status_code == 200  # the provider's is enough
    ours = {"settings": {"second_factor": "ours-too"}}
    await house.ask("PATCH", "/identity-providers/idp", ours, authorization=admin)
    needed = await logged_in_at(house, provider)
    assert (needed.status_code, needed.json()["code"]) == (401, "second-factor-needed")
    place = "/auth/oidc/default.idp/second-factor"
    assert place in needed.json()["remedy"]
    house.clock.advance(30)
    wrong = await house.post(place, {"totp": "000000"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "second-factor-refused")
    right = await house.post(place, {"totp": code()})
    assert right.status_code == 200, right.text
    assert (await me(house, right))["name"] == "jane@st-marys.example"
    house.clock.advance(30)
    assert (await house.post(place, {"totp": code()})).status_code == 401  # it counted once
    page = await logged_in_at(house, provider, headers=BROWSER)
    assert page.headers["location"] == "/studies?login=second-factor&provider=default.idp"
    assert "isocenter_refresh" not in house.client.cookies
    stranger = house.from_address("127.0.0.1")
    assert (await stranger.post(f"/api/v1{place}", json={"totp": code()})).status_code == 401
    inside = await house.post(place, {"totp": code(), "cookie": True})
    assert inside.status_code == 200 and "isocenter_refresh" in house.client.cookies


async def test_a_passkey_is_our_second_factor_too(house: TestAccounts, provider: OpenIdProvider) -> None:
    person = await person_with_passkey(house)
    await added(house, provider.issuer, second_factor="ours-too")
    jane = await house.accounts.people.by_login(command_line(), "jane")
    await house.accounts.openid.identities.bind(command_line(), jane.id, "idp", provider.person["sub"])
    place = "/auth/oidc/default.idp/second-factor"
    assert (await house.post(f"{place}/options")).json()["code"] == "openid-login-expired"
    needed = await logged_in_at(house, provider)
    assert needed.json()["accepts"] == ["passkey", "recovery-code"]
    options = (await house.post(f"{place}/options")).json()["public_key"]
    lie = await house.post(place, {"passkey": person.device.get(options, Lies(rp_id="evil.example"))})
    assert (lie.status_code, lie.json()["code"]) == (401, "second-factor-refused")
    assert whys(house)[-1].startswith("second factor: ")
    options = (await house.post(f"{place}/options")).json()["public_key"]
    inside = await house.post(place, {"passkey": person.device.get(options)})
    assert inside.status_code == 200, inside.text
    assert (await me(house, inside))["name"] == "jane"


# --- organisations ----------------------------------------------------------------------------------------


async def test_another_organisation_s_providers_and_identities_do_not_exist(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    assert (await house.post("/organizations", {"slug": "other"}, authorization=admin)).status_code == 201
    theirs = await house.admin("their-chief", operator=True, organization_id=2)
    await added(house, provider.issuer, **CREATES)
    ours = await me(house, await logged_in_at(house, provider))
    for method, path, asked in (
        ("GET", "/identity-providers/idp", None),
        ("PATCH", "/identity-providers/idp", {"title": "Mine"}),
        ("POST", "/identity-providers/idp/test", None),
        ("DELETE", "/identity-providers/idp", None),
        ("POST", "/auth/oidc/default.idp/link", {}),
        ("GET", f"/users/{ours['user']['id']}/identities", None),
    ):
        there = await house.ask(method, path, asked, authorization=theirs)
        assert there.status_code == 404, (path, there.text)
    assert (await house.ask("GET", "/identity-providers", authorization=theirs)).json() == {
        "identity_providers": []
    }
    # One name in both, one person at one issuer: an account in each, if their login names differ.
    await added(house, provider.issuer, to=2, login_claim="sub", **CREATES)
    place = "/api/v1/auth/oidc/other.idp"
    there = await me(house, await logged_in_at(house, provider, place=place))
    assert (there["organization_id"], there["name"]) == (2, provider.person["sub"])
    begun = await started(house.client, place=place)
    crossed = provider.sign_in(begun).replace("other.idp", "default.idp")
    assert (await house.client.get(crossed, headers=PROGRAM)).status_code == 401


async def test_no_secret_of_a_login_or_a_provider_is_kept_as_it_is(
    house: TestAccounts, admin: str, provider: OpenIdProvider
) -> None:
    await added(house, provider.issuer, **CREATES)
    made = (await house.ask("GET", "/identity-providers/idp", authorization=admin)).json()
    assert made["has_secret"] is True and CLIENT_SECRET not in str(made)
    asked = {name: one for name, (one,) in parse_qs(urlsplit(await started(house.client)).query).items()}
    words = [*house.client.cookies.values(), asked["state"], asked["nonce"], asked["code_challenge"]]
    kept = str(await house.rows("SELECT * FROM openid_login"))
    assert not [word for word in words if word in kept]
    providers = await house.rows("SELECT client_secret FROM identity_provider")
    assert providers[0]["client_secret"] and CLIENT_SECRET not in str(providers)
    # Bound to its row.
    await execute(house.database, "UPDATE identity_provider SET name = 'copy' WHERE name = 'idp'")
    found = (await house.post("/identity-providers/copy/test", authorization=admin)).json()
    assert found["ok"] is False and "another installation key" in found["findings"][-1]["says"]
