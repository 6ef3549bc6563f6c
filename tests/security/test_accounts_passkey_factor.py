"""A passkey after the password, as a proof, and in the hands of administrators; on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from isocenter.kit.errors import Unauthenticated
from services.accounts import PASSWORD, TestAccounts, command_line, opened_accounts
from services.authenticator import Lies
from services.passkeys import log_in, login_options, person_with_passkey, show
from services.schema import fresh_url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def house(url: str) -> AsyncIterator[TestAccounts]:
    async with opened_accounts(url) as made:
        yield made


def last_reason(house: TestAccounts) -> str:
    return str(house.trail.events[-1].details.get("why"))


# --- as a second factor -----------------------------------------------------------------------------------


async def test_the_password_then_asks_for_the_passkey(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    needed = await house.post("/auth/login", {"login": "jane", "password": PASSWORD})
    assert (needed.status_code, needed.json()["code"]) == (401, "second-factor-needed")
    assert needed.json()["accepts"] == ["passkey", "recovery-code"]
    # Something known was shown already: that the device is there is enough.
    answer = await jane.log_in_with_both(Lies(verified=False, no_user_handle=True))
    assert answer.status_code == 200, answer.text
    assert house.trail.events[-1].details == {"second_factor": "passkey"}
    with pytest.raises(Unauthenticated):  # a protocol that knows no second factor
        await house.accounts.login.identify("jane", PASSWORD, address="")


async def test_a_second_factor_is_the_accounts_own_for_this_login(house: TestAccounts) -> None:
    jane, joe = await person_with_passkey(house), await person_with_passkey(house, "joe")
    asked = {"login": "jane", "password": PASSWORD}

    async def refused(passkey: dict[str, Any]) -> tuple[int, str]:
        house.clock.advance(61)
        answer = await house.post("/auth/login", asked | {"passkey": passkey})
        return answer.status_code, answer.json().get("code", "")

    theirs = await joe.second_factor_options()
    options = await jane.second_factor_options()
    no = (401, "second-factor-refused")
    assert await refused(joe.device.get(theirs)) == no
    assert await refused(joe.device.get(options)) == no
    assert await refused(jane.device.get(theirs)) == no
    assert await refused(jane.device.get(await login_options(house))) == no
    proof = await jane.ask("POST", "/auth/passkeys/proof/options")
    assert await refused(jane.device.get(proof.json()["public_key"])) == no
    assert await refused(jane.device.get(options, Lies(key=ec.generate_private_key(ec.SECP256R1())))) == no
    assert await refused(jane.device.get(options, Lies(sign_count=0))) == no
    assert await refused(jane.device.get(options, Lies(origin="https://x.example"))) == (
        403,
        "passkey-wrong-origin",
    )
    credential = jane.device.get(await jane.second_factor_options())
    assert (await house.post("/auth/login", asked | {"passkey": credential})).status_code == 200
    assert await refused(credential) == no
    # And by itself, without the password, it opens nothing.
    lone = await show(house, jane.device.get(await jane.second_factor_options()))
    assert (lone.status_code, lone.json()["code"]) == (401, "passkey-refused")


async def test_the_wrong_password_learns_of_no_passkey(house: TestAccounts) -> None:
    await person_with_passkey(house)
    await house.admin("plain")
    path = "/auth/passkeys/second-factor/options"
    for login in ("jane", "plain", "nobody"):
        answer = await house.post(path, {"login": login, "password": "wrong"})
        assert (answer.status_code, answer.json()["code"]) == (401, "login-refused")
    none = await house.post(path, {"login": "plain", "password": PASSWORD})
    assert (none.status_code, none.json()["code"]) == (404, "no-such-passkey")


async def test_recovery_codes_stand_in_for_a_lost_passkey(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    asked = {"login": "jane", "password": PASSWORD, "totp": jane.recovery_codes[0]}
    answers = await asyncio.gather(*(house.post("/auth/login", asked) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 401]
    [lost] = await jane.passkeys()
    assert (await jane.ask("DELETE", f"/me/passkeys/{lost['id']}")).status_code == 204
    await house.logged_in("jane")
    assert await house.rows("SELECT id FROM recovery_code") == []


async def test_app_and_passkeys_live_side_by_side(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    secret = (await jane.ask("POST", "/auth/totp/enrol")).json()["secret"]
    code = pyotp.TOTP(secret).at(int(house.clock.now().timestamp()))
    codes = (await jane.ask("POST", "/auth/totp/confirm", {"code": code})).json()["recovery_codes"]
    old = {"login": "jane", "password": PASSWORD, "totp": jane.recovery_codes[0]}
    assert (await house.post("/auth/login", old)).status_code == 401  # replaced
    needed = await house.post("/auth/login", {"login": "jane", "password": PASSWORD})
    assert needed.json()["accepts"] == ["totp", "passkey", "recovery-code"]
    off = await jane.ask("POST", "/auth/totp/disable", {"code": codes[0]})
    assert off.status_code == 204, off.text
    new = {"login": "jane", "password": PASSWORD, "totp": codes[1]}
    assert (await house.post("/auth/login", new)).status_code == 200  # kept for the passkey
    off = await jane.ask("POST", "/auth/totp/disable", {"code": codes[2]})
    assert (off.status_code, off.json()["code"]) == (400, "wrong-code")
    assert (await jane.log_in_with_both()).status_code == 200


async def test_of_two_first_passkeys_at_once_one_comes_with_codes(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    [first] = await jane.passkeys()
    assert (await jane.ask("DELETE", f"/me/passkeys/{first['id']}")).status_code == 204
    answers = await asyncio.gather(jane.register(), jane.register())
    assert sorted(len(answer.json()["recovery_codes"]) for answer in answers) == [0, 10]
    assert len(await house.rows("SELECT id FROM recovery_code")) == 10


# --- showing again who one is -----------------------------------------------------------------------------


async def test_after_ten_minutes_a_login_has_to_show_again_who_it_is(house: TestAccounts) -> None:
    authorization = await house.admin("jane")
    other = await house.logged_in("jane")
    house.clock.advance(600)
    for path in ("/auth/passkeys/register/options", "/auth/totp/enrol"):
        needed = await house.post(path, authorization=authorization)
        assert (needed.status_code, needed.json()["code"]) == (403, "proof-needed")
        assert needed.json()["accepts"] == ["password"]
    wrong = await house.post("/auth/proof", {"password": "wrong"}, authorization=authorization)
    assert (wrong.status_code, wrong.json()["code"]) == (400, "proof-refused")
    assert house.trail.events[-1].outcome == "denied"
    empty = await house.post("/auth/proof", {"code": "123456"}, authorization=authorization)
    assert empty.json()["code"] == "proof-needed"
    shown = await house.post("/auth/proof", {"password": PASSWORD}, authorization=authorization)
    assert shown.status_code == 204, shown.text
    assert (await house.post("/auth/totp/enrol", authorization=authorization)).status_code == 200
    assert (await house.post("/auth/totp/enrol", authorization=other)).status_code == 403  # another login
    house.clock.advance(600)
    assert (await house.post("/auth/totp/enrol", authorization=authorization)).status_code == 403


async def test_where_a_second_factor_is_on_the_password_shows_nothing(house: TestAccounts) -> None:
    jane, joe = await person_with_passkey(house), await person_with_passkey(house, "joe")
    house.clock.advance(600)
    [mine] = await jane.passkeys()
    place = f"/me/passkeys/{mine['id']}"
    needed = await jane.ask("DELETE", place)
    assert needed.json()["accepts"] == ["passkey", "recovery-code"]
    assert (await jane.ask("POST", "/auth/proof", {"password": PASSWORD})).json()["code"] == "proof-needed"
    both = await jane.ask("POST", "/auth/proof", {"password": PASSWORD, "code": "guess"})
    assert both.json()["code"] == "proof-refused"
    assert (await jane.ask("DELETE", place)).status_code == 403
    options = (await jane.ask("POST", "/auth/passkeys/proof/options")).json()["public_key"]
    theirs = await jane.ask("POST", "/auth/proof", {"passkey": joe.device.get(options)})
    assert (theirs.status_code, theirs.json()["code"]) == (400, "proof-refused")
    options = (await jane.ask("POST", "/auth/passkeys/proof/options")).json()["public_key"]
    credential = jane.device.get(options, Lies(verified=False))
    assert (await jane.ask("POST", "/auth/proof", {"passkey": credential})).status_code == 204
    replayed = await jane.ask("POST", "/auth/proof", {"passkey": credential})
    assert replayed.json()["code"] == "proof-refused"
    assert (await jane.register()).status_code == 201
    house.clock.advance(600)
    code = {"code": jane.recovery_codes[0]}
    assert (await jane.ask("POST", "/auth/proof", code)).status_code == 204
    assert (await jane.ask("DELETE", place)).status_code == 204


async def test_passkeys_are_a_persons_own(house: TestAccounts) -> None:
    jane, joe = await person_with_passkey(house), await person_with_passkey(house, "joe")
    [theirs] = await joe.passkeys()
    place = f"/me/passkeys/{theirs['id']}"
    for method, json in (("PATCH", {"name": "mine"}), ("DELETE", None)):
        there = await jane.ask(method, place, json)
        nowhere = await jane.ask(method, "/me/passkeys/99999", json)
        assert there.status_code == nowhere.status_code == 404
        assert there.json()["detail"] == nowhere.json()["detail"]
    asked = {"name": "program", "permissions": ["users:read"]}
    made = (await jane.ask("POST", "/api-keys", asked)).json()
    key = f"Api-Key {made['secret']}"
    for method, path in (
        ("GET", "/me/passkeys"),
        ("POST", "/auth/passkeys/register/options"),
        ("POST", "/auth/passkeys/proof/options"),
    ):
        answer = await house.ask(method, path, authorization=key)
        assert (answer.status_code, answer.json()["code"]) == (404, "no-person")


# --- administrators ---------------------------------------------------------------------------------------


async def test_an_administrator_clears_what_somebody_lost(house: TestAccounts) -> None:
    admin = await house.admin()
    jane = await person_with_passkey(house)
    users = (await house.ask("GET", "/users", authorization=admin)).json()["users"]
    [listed] = [one for one in users if one["login"] == "jane"]
    assert (listed["second_factor"], listed["totp"], listed["passkeys"]) == (True, False, 1)
    place = f"/users/{listed['id']}/second-factor"
    assert (await house.ask("DELETE", place, authorization=admin)).status_code == 204
    assert house.trail.events[-1].details["what"] == "second factor cleared, with 1 passkeys"
    assert (await log_in(house, jane.device)).status_code == 401
    await house.logged_in("jane")
    for table in ("passkey", "recovery_code"):
        assert await house.rows(f"SELECT id FROM {table}") == []


async def test_closing_an_account_revokes_its_passkeys_and_opens_no_easier_way(house: TestAccounts) -> None:
    admin = await house.admin()
    jane = await person_with_passkey(house)
    [account] = [one for one in await house.accounts.people.list(command_line()) if one.login == "jane"]
    place = f"/users/{account.id}"
    await house.ask("PATCH", place, {"state": "disabled"}, authorization=admin)
    assert house.trail.events[-1].details["what"] == "state disabled, 1 passkeys revoked"
    opened = await house.ask("PATCH", place, {"state": "active"}, authorization=admin)
    assert (opened.json()["second_factor"], opened.json()["passkeys"]) == (True, 0)
    refused = await log_in(house, jane.device)
    assert (refused.status_code, last_reason(house)) == (401, "revoked")
    needed = await house.post("/auth/login", {"login": "jane", "password": PASSWORD})
    assert needed.json()["accepts"] == ["recovery-code"]
    asked = {"login": "jane", "password": PASSWORD, "totp": jane.recovery_codes[0]}
    jane.authorization = f"Bearer {(await house.post('/auth/login', asked)).json()['access_token']}"
    [listed] = await jane.passkeys()
    assert listed["revoked_at"] is not None
    again = await jane.register()
    assert again.status_code == 201 and again.json()["recovery_codes"] == []
    # Locked is for now: nothing of it is lost.
    for state in ("locked", "active"):
        await house.ask("PATCH", place, {"state": state}, authorization=admin)
    assert (await jane.log_in_with_both()).status_code == 200
