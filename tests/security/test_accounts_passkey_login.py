"""A passkey alone logs somebody in, and whoever is refused learns nothing; on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from isocenter.features.accounts.entries import AccountState
from isocenter.features.accounts.opening import open_accounts
from isocenter.kit.errors import Unauthenticated
from services.accounts import KEY, RELYING_PARTY, TestAccounts, command_line, opened_accounts
from services.authenticator import Authenticator, Lies, encoded
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


async def test_a_passkey_alone_logs_somebody_in(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    answer = await log_in(house, jane.device)
    assert answer.status_code == 200, answer.text
    me = await house.ask("GET", "/me", authorization=f"Bearer {answer.json()['access_token']}")
    assert me.json()["name"] == "jane"
    event = house.trail.events[-1]
    assert (event.action, event.outcome, event.subject_name) == ("login", "success", "jane")
    assert event.details["by"] == "passkey"
    cookie = await show(house, jane.device.get(await login_options(house)), cookie=True)
    assert cookie.json()["refresh_token"] is None
    assert "HttpOnly" in cookie.headers["set-cookie"]


_Refusal = Callable[[TestAccounts, Authenticator], Any]


async def _old(house: TestAccounts, device: Authenticator) -> dict[str, Any]:
    options = await login_options(house)
    house.clock.advance(300)
    return device.get(options)


async def _replayed(house: TestAccounts, device: Authenticator) -> dict[str, Any]:
    credential = device.get(await login_options(house))
    assert (await show(house, credential)).status_code == 200
    return credential


def _with(lies: Lies) -> _Refusal:
    async def made(house: TestAccounts, device: Authenticator) -> dict[str, Any]:
        return device.get(await login_options(house), lies)

    return made


def _changed(**changes: Any) -> _Refusal:
    async def made(house: TestAccounts, device: Authenticator) -> dict[str, Any]:
        credential = device.get(await login_options(house))
        return credential | {"response": credential["response"] | changes}

    return made


_REFUSED: dict[str, _Refusal] = {
    "unknown passkey": _with(Lies(credential_id=encoded(b"\3" * 32))),
    "signature of another key": _with(Lies(key=ec.generate_private_key(ec.SECP256R1()))),
    "signature of another curve": _with(Lies(key=ec.generate_private_key(ec.SECP384R1()))),
    "no signature": _changed(signature=""),
    "old challenge": _old,
    "used challenge": _replayed,
    "challenge of our own making": _with(Lies(challenge=encoded(b"mine" * 14))),
    "short challenge": _with(Lies(challenge=encoded(b"x"))),
    "no challenge": _with(Lies(challenge="")),
    "other domain": _with(Lies(rp_id="evil.example")),
    "other ceremony": _with(Lies(type="webauthn.create")),
    "person not verified": _with(Lies(verified=False)),
    "person not present": _with(Lies(present=False)),
    "no user handle": _with(Lies(no_user_handle=True)),
    "user handle of another": _with(Lies(user_handle=encoded(b"\4" * 32))),
    "user handle broken": _with(Lies(user_handle="!")),
    "count that went back": _with(Lies(sign_count=0)),
    "backup that was impossible": _with(Lies(backed_up=True)),
    "authenticator data empty": _changed(authenticatorData=""),
    "authenticator data cut": _changed(authenticatorData=encoded(b"\0" * 36)),
    "authenticator data broken": _changed(authenticatorData=encoded(b"\0" * 32 + b"\xc5" + b"\xff" * 90)),
    "extensions without end": _changed(authenticatorData=encoded(b"\0" * 32 + b"\x85\0\0\0\0\x9f")),
    "client data empty": _changed(clientDataJSON=""),
    "client data no JSON": _changed(clientDataJSON=encoded(b"{")),
    "client data a list": _changed(clientDataJSON=encoded(b"[1]")),
    "client data deep": _changed(clientDataJSON=encoded(b"[" * 6000)),
    "client data no text": _changed(clientDataJSON=encoded(b'{"challenge": 1, "origin": 2, "type": 3}')),
    "client data no base64": _changed(clientDataJSON="\u00e9"),
}


async def test_whoever_is_refused_learns_nothing(house: TestAccounts) -> None:
    """One answer for all of it, closed accounts included; the trail alone knows why."""
    jane = await person_with_passkey(house)
    assert (await log_in(house, jane.device)).status_code == 200
    answers, reasons = [], {}
    for name, made in _REFUSED.items():
        house.clock.advance(61)
        answer = await show(house, await made(house, jane.device))
        assert answer.status_code == 401, (name, answer.text)
        answers.append({key: answer.json()[key] for key in ("code", "detail", "remedy", "title")})
        reasons[name] = last_reason(house)
        assert house.trail.events[-1].outcome == "denied"
    [account] = [one for one in await house.accounts.people.list(command_line()) if one.login == "jane"]
    for state in ("locked", "disabled"):
        await house.accounts.people.change(command_line(), account.id, state=AccountState(state))
        house.clock.advance(61)
        answer = await log_in(house, jane.device)
        answers.append({key: answer.json()[key] for key in ("code", "detail", "remedy", "title")})
        reasons[state] = last_reason(house)
    assert answers[0]["code"] == "passkey-refused"
    assert all(answer == answers[0] for answer in answers)
    assert reasons["unknown passkey"] == "no such passkey"
    assert (
        reasons["used challenge"] == reasons["old challenge"] == "challenge of another kind, too old or used"
    )
    assert "sign count went from" in reasons["count that went back"]
    assert "user verification" in reasons["person not verified"].lower()
    assert (reasons["locked"], reasons["disabled"]) == ("account locked", "revoked")


async def test_a_foreign_page_is_told_where_it_should_be(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    for lies in (
        Lies(origin="https://phish.example"),
        Lies(origin="http://localhost"),
        Lies(cross_origin=True),
    ):
        answer = await log_in(house, jane.device, lies)
        assert (answer.status_code, answer.json()["code"]) == (403, "passkey-wrong-origin")
        assert "phish" not in answer.text
    # Also for a passkey that nobody knows: it tells nothing of those there are.
    unknown = await log_in(house, jane.device, Lies(origin="https://phish.example", credential_id="AAAA"))
    assert unknown.json()["code"] == "passkey-wrong-origin"


async def test_of_a_copied_passkey_the_second_use_is_noticed(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    stolen = jane.device.copy()
    assert (await log_in(house, jane.device)).status_code == 200
    assert (await log_in(house, stolen)).status_code == 401
    event = house.trail.events[-1]
    assert (event.action, event.outcome, event.subject_name) == ("login", "denied", "jane")
    assert event.details["why"] == "sign count went from 1 to 1: there may be a copy"
    assert (await log_in(house, jane.device)).status_code == 200


async def test_an_authenticator_without_a_counter_is_good_for_ever(house: TestAccounts) -> None:
    jane = await person_with_passkey(house, device=Authenticator(counts=False, backed_up=True))
    for _ in range(3):
        assert (await log_in(house, jane.device)).status_code == 200
    assert (await log_in(house, jane.device, Lies(sign_count=5))).status_code == 200
    assert (await log_in(house, jane.device)).status_code == 401  # having counted once, it goes on counting


async def test_of_many_that_show_one_answer_at_once_one_gets_in(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    credential = jane.device.get(await login_options(house))
    answers = await asyncio.gather(*(show(house, credential) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


async def test_guessing_with_passkeys_is_held_up(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    lies = Lies(credential_id=encoded(b"\3" * 32))
    answers = [(await log_in(house, jane.device, lies)).status_code for _ in range(6)]
    assert answers == [401] * 5 + [429]


async def test_a_challenge_counts_once_in_all_processes_and_leaves_nothing(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    other = open_accounts(house.database, house.clock, KEY, house.trail, relying_party=RELYING_PARTY)
    try:
        credential = jane.device.get(other.passkey_login.options())
        assert (await show(house, credential)).status_code == 200
        with pytest.raises(Unauthenticated):
            await other.passkey_login.log_in(credential, address="192.0.2.1")
    finally:
        await other.close()
    assert len(await house.rows("SELECT id FROM used_challenge")) >= 2
    for _ in range(100):
        await login_options(house)  # asking costs the database nothing
    house.clock.advance(361)
    assert (await log_in(house, jane.device)).status_code == 200
    assert len(await house.rows("SELECT id FROM used_challenge")) == 1


async def test_a_server_without_a_name_or_https_has_no_passkeys(url: str) -> None:
    async with opened_accounts(url, relying_party=None) as house:
        admin = await house.admin()
        options = await house.post("/auth/passkeys/login/options")
        assert (options.status_code, options.json()["code"]) == (501, "passkeys-unavailable")
        mine = await house.post("/auth/passkeys/register/options", authorization=admin)
        assert (mine.status_code, mine.json()["code"]) == (501, "passkeys-unavailable")
        device = Authenticator()
        device.create({"rp": {"id": "localhost"}, "user": {"id": "AAAA"}, "challenge": "AAAA"})
        asked = {"allowCredentials": [], "rpId": "localhost", "challenge": "AAAA"}
        assert (await show(house, device.get(asked))).status_code == 501
        assert (await house.ask("GET", "/me/passkeys", authorization=admin)).json() == {"passkeys": []}
