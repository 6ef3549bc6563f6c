"""Logging in, staying in, being out: what an attacker tries at each step, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pyotp
import pytest

from isocenter.features.accounts.access_tokens import LEEWAY_S, LIFETIME_S
from isocenter.features.accounts.passwords import PasswordHashes
from isocenter.kit.errors import Unauthenticated
from isocenter.platform.security import Permission, Role
from services.accounts import PASSWORD, TestAccounts, command_line, opened_accounts
from services.schema import fresh_url

_LOGIN = {"login": "admin", "password": PASSWORD}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def house(url: str) -> AsyncIterator[TestAccounts]:
    async with opened_accounts(url) as made:
        yield made


def code_of(house: TestAccounts, secret: str, *, steps: int = 0) -> str:
    """What the app shows now, or so many steps of 30 s later."""
    return pyotp.TOTP(secret).at(int(house.clock.now().timestamp()) + 30 * steps)


async def turned_on(house: TestAccounts, authorization: str) -> tuple[str, list[str]]:
    """Secret and recovery codes of a second factor that counts now."""
    secret = (await house.post("/auth/totp/enrol", authorization=authorization)).json()["secret"]
    confirmed = await house.post(
        "/auth/totp/confirm", {"code": code_of(house, secret)}, authorization=authorization
    )
    assert confirmed.status_code == 200, confirmed.text
    return secret, confirmed.json()["recovery_codes"]


# --- login ------------------------------------------------------------------------------------------------


async def test_nobody_learns_why_a_login_was_refused(
    house: TestAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer, after one comparison with a hash of the same costs."""
    await house.admin()
    for login in ("locked", "disabled"):
        account = await house.accounts.people.create(command_line(), login, "", Role.CLINICIAN, PASSWORD)
        await house.accounts.people.change(command_line(), account.id, state=login)  # type: ignore[arg-type]
    await house.accounts.people.invite(command_line(), "invited", "", Role.CLINICIAN)
    compared: list[str] = []
    compare = PasswordHashes._compare

    def noted(self: PasswordHashes, password: str, kept: str) -> bool:
        compared.append(kept.rpartition("$")[0].rpartition("$")[0])
        return compare(self, password, kept)

    monkeypatch.setattr(PasswordHashes, "_compare", noted)
    answers = []
    for login, password in (
        ("admin", "wrong"),
        ("nobody", PASSWORD),
        ("locked", PASSWORD),
        ("disabled", PASSWORD),
        ("invited", ""),
        ("nul\0byte", PASSWORD),
    ):
        house.clock.advance(61)
        answer = await house.post("/auth/login", {"login": login, "password": password})
        answers.append(
            (answer.status_code, answer.json()["code"], answer.json()["detail"], answer.json()["remedy"])
        )
    assert len(set(answers)) == 1
    assert answers[0][:2] == (401, "login-refused")
    assert compared == ["$argon2id$v=19$m=32,t=1,p=1"] * len(answers)
    refused = [event for event in house.trail.events if event.outcome == "denied"]
    assert [event.subject_name for event in refused][:2] == ["admin", "nobody"]


async def test_five_attempts_a_minute_for_each_login_and_each_address(house: TestAccounts) -> None:
    await house.admin()
    for _ in range(5):
        wrong = await house.post("/auth/login", _LOGIN | {"password": "wrong"})
        assert wrong.status_code == 401
    house.clock.advance(10)
    held_up = await house.post("/auth/login", _LOGIN)
    assert (held_up.status_code, held_up.json()["code"]) == (429, "too-many-attempts")
    assert held_up.headers["retry-after"] == "51"
    async with house.from_address("192.0.2.7") as elsewhere:
        answer = await elsewhere.post("/api/v1/auth/login", json=_LOGIN)
        assert answer.status_code == 429  # the login is held up, whoever asks
    house.clock.advance(50)
    await house.logged_in("admin")


async def test_who_logs_in_rightly_is_never_held_up(house: TestAccounts) -> None:
    await house.admin()
    for _ in range(7):
        await house.logged_in("admin")


async def test_many_guesses_at_once_are_counted_too(house: TestAccounts) -> None:
    await house.admin()
    answers = await asyncio.gather(
        *(house.post("/auth/login", _LOGIN | {"password": f"wrong {n}"}) for n in range(12))
    )
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 7


# --- tokens -----------------------------------------------------------------------------------------------


async def test_an_access_token_counts_an_hour_and_a_minute(house: TestAccounts) -> None:
    admin = await house.admin()
    house.clock.advance(LIFETIME_S + LEEWAY_S - 1)
    assert (await house.ask("GET", "/me", authorization=admin)).status_code == 200
    house.clock.advance(1)
    assert (await house.ask("GET", "/me", authorization=admin)).status_code == 401


async def test_a_refresh_token_counts_once_and_a_replay_ends_the_family(house: TestAccounts) -> None:
    await house.admin()
    first = (await house.post("/auth/login", _LOGIN)).json()
    bystander = (await house.post("/auth/login", _LOGIN)).json()
    second = (await house.post("/auth/refresh", {"refresh_token": first["refresh_token"]})).json()
    assert second["refresh_token"] != first["refresh_token"]
    replayed = await house.post("/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert (replayed.status_code, replayed.json()["code"]) == (401, "refresh-token-not-valid")
    ended = await house.post("/auth/refresh", {"refresh_token": second["refresh_token"]})
    assert ended.json()["detail"] == replayed.json()["detail"]
    for tokens, status in ((first, 401), (second, 401), (bystander, 200)):
        answer = await house.ask("GET", "/me", authorization=f"Bearer {tokens['access_token']}")
        assert answer.status_code == status
    assert [event for event in house.trail.events if "replayed" in str(event.details)]
    assert (
        await house.post("/auth/refresh", {"refresh_token": bystander["refresh_token"]})
    ).status_code == 200


async def test_two_that_refresh_with_one_token_get_one_answer_at_most(house: TestAccounts) -> None:
    await house.admin()
    token = (await house.post("/auth/login", _LOGIN)).json()["refresh_token"]
    answers = await asyncio.gather(*(house.post("/auth/refresh", {"refresh_token": token}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


async def test_a_refresh_token_counts_seven_days(house: TestAccounts) -> None:
    await house.admin()
    token = (await house.post("/auth/login", _LOGIN)).json()["refresh_token"]
    house.clock.advance(7 * 86_400 - 1)
    newer = await house.post("/auth/refresh", {"refresh_token": token})
    assert newer.status_code == 200
    house.clock.advance(7 * 86_400)
    older = await house.post("/auth/refresh", {"refresh_token": newer.json()["refresh_token"]})
    assert older.status_code == 401


async def test_the_cookie_is_for_browsers_and_nothing_of_it_is_in_the_body(house: TestAccounts) -> None:
    await house.admin()
    answer = await house.post("/auth/login", _LOGIN | {"cookie": True})
    assert answer.json()["refresh_token"] is None
    cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/api/v1/auth", "Max-Age=604800"):
        assert part in cookie
    assert "Secure" not in cookie  # asked over http here
    refreshed = await house.post("/auth/refresh")
    assert refreshed.status_code == 200, refreshed.text
    assert refreshed.headers["set-cookie"] != cookie
    access = f"Bearer {refreshed.json()['access_token']}"
    gone = await house.post("/auth/logout", authorization=access)
    assert gone.status_code == 204
    assert 'isocenter_refresh=""' in gone.headers["set-cookie"]
    assert (await house.post("/auth/refresh")).status_code == 401


async def test_logins_are_seen_and_ended_by_their_person_alone(house: TestAccounts) -> None:
    admin, jane = await house.admin(), await house.admin("jane")
    house.clock.advance(1)
    other = await house.logged_in("admin")
    sessions = (await house.ask("GET", "/me/sessions", authorization=admin)).json()["sessions"]
    assert [session["current"] for session in sessions] == [False, True]
    place = f"/me/sessions/{sessions[0]['id']}"
    theirs = await house.ask("DELETE", place, authorization=jane)
    nowhere = await house.ask("DELETE", "/me/sessions/99999", authorization=jane)
    assert theirs.status_code == nowhere.status_code == 404
    assert theirs.json()["detail"] == nowhere.json()["detail"]
    assert (await house.ask("DELETE", place, authorization=admin)).status_code == 204
    assert (await house.ask("GET", "/me", authorization=other)).status_code == 401
    assert (await house.ask("GET", "/me", authorization=admin)).status_code == 200


# --- keys -------------------------------------------------------------------------------------------------


async def test_a_key_does_what_it_was_made_for_until_it_is_revoked(house: TestAccounts) -> None:
    admin = await house.admin()
    asked = {"name": "reader", "permissions": ["users:read"]}
    made = (await house.post("/api-keys", asked, authorization=admin)).json()
    key = f"Api-Key {made['secret']}"
    assert made["secret"].startswith(made["key"]["prefix"])
    assert (await house.ask("GET", "/users", authorization=key)).status_code == 200
    refused = await house.ask("GET", "/api-keys", authorization=key)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission-missing")
    assert (await house.ask("GET", "/me", authorization=key)).json()["kind"] == "api-key"
    assert (await house.ask("GET", "/me/sessions", authorization=key)).status_code == 404
    place = f"/api-keys/{made['key']['id']}"
    assert (await house.ask("DELETE", place, authorization=admin)).status_code == 204
    assert (await house.ask("DELETE", place, authorization=admin)).status_code == 404
    assert (await house.ask("GET", "/users", authorization=key)).status_code == 401


async def test_a_key_ends_at_its_time_and_says_when_it_was_used(house: TestAccounts) -> None:
    admin = await house.admin()
    asked = {"name": "short", "role": "service", "expires_at": "2026-01-01T00:01:00Z"}
    made = (await house.post("/api-keys", asked, authorization=admin)).json()
    authentication = house.accounts.authentication
    assert (await authentication.subject_of(f"Api-Key {made['secret']}", "")).may(Permission.STUDIES_STORE)
    house.clock.advance(60)
    with pytest.raises(Unauthenticated):
        await authentication.subject_of(f"Api-Key {made['secret']}", "")
    await authentication.close()
    [key] = await house.accounts.keys.list(command_line())
    assert key.last_used_at_us == 1_767_225_600_000_000


async def test_nobody_makes_a_key_that_may_more_than_they(house: TestAccounts) -> None:
    admin = await house.admin()
    asked = {"name": "more", "permissions": ["organizations:manage"]}
    answer = await house.post("/api-keys", asked, authorization=admin)
    assert (answer.status_code, answer.json()["code"]) == (403, "more-than-yours")
    manager = await house.post(
        "/api-keys", {"name": "m", "permissions": ["users:manage"]}, authorization=admin
    )
    raised = await house.post(
        "/users", {"login": "mine", "role": "admin"}, authorization=f"Api-Key {manager.json()['secret']}"
    )
    assert (raised.status_code, raised.json()["code"]) == (403, "more-than-yours")


async def test_a_request_costs_no_statement_and_what_another_process_ends_counts_in_two_seconds(
    house: TestAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = await house.admin()
    authentication = house.accounts.authentication
    await authentication.subject_of(admin, "")
    # As another process does it: this one is not told.
    await house.database.write_across(_end_all_logins)
    with monkeypatch.context() as patch:
        patch.setattr(house.database, "read", None)
        patch.setattr(house.database, "read_across", None)
        for _ in range(3):
            await authentication.subject_of(admin, "")
    house.clock.advance(2)
    with pytest.raises(Unauthenticated):
        await authentication.subject_of(admin, "")


def _end_all_logins():  # type: ignore[no-untyped-def]
    from isocenter.platform.db import composed

    yield composed("UPDATE login_session SET revoked_at_us = 1")()


# --- second factor ----------------------------------------------------------------------------------------


async def test_a_second_factor_is_asked_for_and_each_code_counts_once(house: TestAccounts) -> None:
    admin = await house.admin()
    secret, codes = await turned_on(house, admin)
    assert len(set(codes)) == 10
    needed = await house.post("/auth/login", _LOGIN)
    assert (needed.status_code, needed.json()["code"]) == (401, "second-factor-needed")
    used = await house.post("/auth/login", _LOGIN | {"totp": code_of(house, secret)})
    assert (used.status_code, used.json()["code"]) == (401, "second-factor-refused")  # it confirmed already
    house.clock.advance(30)
    code = code_of(house, secret)
    assert (await house.post("/auth/login", _LOGIN | {"totp": code})).status_code == 200
    assert (await house.post("/auth/login", _LOGIN | {"totp": code})).status_code == 401
    house.clock.advance(300)
    early, late = [code_of(house, secret, steps=steps) for steps in (-1, 1)]
    for accepted in (early, late):
        assert (await house.post("/auth/login", _LOGIN | {"totp": accepted})).status_code == 200
    house.clock.advance(300)
    for steps in (-2, 2):
        far = code_of(house, secret, steps=steps)
        assert (await house.post("/auth/login", _LOGIN | {"totp": far})).status_code == 401


async def test_a_recovery_code_counts_once_and_gets_somebody_back_in(house: TestAccounts) -> None:
    admin = await house.admin()
    _, codes = await turned_on(house, admin)
    shouted = codes[0].upper().replace("-", " ")
    answers = await asyncio.gather(*(house.post("/auth/login", _LOGIN | {"totp": shouted}) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 401]
    off = await house.post("/auth/totp/disable", {"code": codes[1]}, authorization=admin)
    assert off.status_code == 204, off.text
    await house.logged_in("admin")


async def test_an_administrator_clears_the_factor_of_who_lost_the_phone(house: TestAccounts) -> None:
    admin, jane = await house.admin(), await house.admin("jane")
    await turned_on(house, jane)
    [user] = [
        one["id"]
        for one in (await house.ask("GET", "/users", authorization=admin)).json()["users"]
        if one["second_factor"]
    ]
    cleared = await house.ask("DELETE", f"/users/{user}/second-factor", authorization=admin)
    assert cleared.status_code == 204
    await house.logged_in("jane")


async def test_the_secret_is_kept_encrypted_and_bound_to_its_account(house: TestAccounts) -> None:
    admin, jane = await house.admin(), await house.admin("jane")
    enrolled = (await house.post("/auth/totp/enrol", authorization=admin)).json()
    assert enrolled["svg"].startswith("<svg") and enrolled["png"].startswith("iVBOR")
    assert f"secret={enrolled['secret']}" in enrolled["uri"]
    kept = await house.rows("SELECT totp_secret FROM account WHERE login = 'admin'")
    assert kept[0]["totp_secret"] and enrolled["secret"] not in kept[0]["totp_secret"]

    def copied():  # type: ignore[no-untyped-def]
        from isocenter.platform.db import composed

        yield composed(
            "UPDATE account SET totp_secret = (SELECT totp_secret FROM account WHERE login = 'admin') "
            "WHERE login = 'jane'"
        )()

    await house.database.write_across(copied)
    answer = await house.post(
        "/auth/totp/confirm", {"code": code_of(house, enrolled["secret"])}, authorization=jane
    )
    assert (answer.status_code, answer.json()["code"]) == (500, "another-installation-key")


async def test_guessing_a_code_is_held_up(house: TestAccounts) -> None:
    admin = await house.admin()
    await turned_on(house, admin)
    answers = [await house.post("/auth/login", _LOGIN | {"totp": f"{n:06}"}) for n in range(7)]
    assert {answer.status_code for answer in answers[:5]} == {401}
    assert {answer.status_code for answer in answers[5:]} == {429}
