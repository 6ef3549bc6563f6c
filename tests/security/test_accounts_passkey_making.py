"""Passkeys are made: what counts as one, and what an attacker sends instead; on both databases."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from isocenter.features.accounts.passkeys import PASSKEYS_MAX
from services.accounts import TestAccounts, opened_accounts
from services.authenticator import Authenticator, Lies, encoded
from services.passkeys import log_in, login_options, person_with_passkey
from services.schema import fresh_url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def house(url: str) -> AsyncIterator[TestAccounts]:
    async with opened_accounts(url) as made:
        yield made


async def test_a_passkey_is_made_listed_named_and_taken_away(house: TestAccounts) -> None:
    jane = await person_with_passkey(house, device=Authenticator(backed_up=True))
    assert len(set(jane.recovery_codes)) == 10
    [made] = await jane.passkeys()
    assert (made["name"], made["backed_up"], made["last_used_at"]) == ("Phone", True, None)
    house.clock.advance(1)
    second = await jane.register(name="  ")
    assert second.json()["recovery_codes"] == []  # those of the first still count
    assert second.json()["passkey"]["name"] == "Passkey"
    place = f"/me/passkeys/{made['id']}"
    renamed = await jane.ask("PATCH", place, {"name": "Old phone"})
    assert renamed.json()["name"] == "Old phone"
    assert (await jane.ask("PATCH", place, {"name": "a\nb"})).json()["code"] == "invalid-name"
    house.clock.advance(59)
    assert (await log_in(house, jane.device)).status_code == 200
    assert [one["last_used_at"] for one in await jane.passkeys()] == ["2026-01-01T00:01:00Z", None]
    assert (await jane.ask("DELETE", place)).status_code == 204
    assert (await jane.ask("DELETE", place)).status_code == 404
    assert len(await jane.passkeys()) == 1
    told = [event.details.get("what") for event in house.trail.events]
    assert [told.count(f"passkey {what}") for what in ("made", "renamed", "removed")] == [2, 1, 1]
    assert house.trail.settled_events == len(house.trail.events)


async def test_options_say_what_a_browser_needs_and_nothing_of_the_person(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    options = await jane.new_options()
    assert options["rp"] == {"name": "Isocenter", "id": "localhost"}
    assert (options["user"]["name"], options["attestation"], options["timeout"]) == ("jane", "none", 300_000)
    assert [one["id"] for one in options["excludeCredentials"]] == list(jane.device.passkeys)
    assert (await jane.new_options())["user"]["id"] == options["user"]["id"]
    other = await person_with_passkey(house, "joe")
    assert (await other.new_options())["user"]["id"] != options["user"]["id"]
    login = await login_options(house)
    assert (login["allowCredentials"], login["userVerification"]) == ([], "required")
    second = await jane.second_factor_options()
    assert [one["transports"] for one in second["allowCredentials"]] == [["internal", "hybrid"]]
    assert await house.rows("SELECT 1 FROM used_challenge WHERE expires_at_us = 0") == []


async def test_an_authenticator_may_sign_with_the_new_key_itself(house: TestAccounts) -> None:
    jane = await person_with_passkey(house, device=Authenticator(signs_itself=True))
    assert (await log_in(house, jane.device)).status_code == 200
    foreign = await jane.register(Lies(key=ec.generate_private_key(ec.SECP256R1())))
    assert (foreign.status_code, foreign.json()["code"]) == (400, "passkey-not-made")


@pytest.mark.parametrize(
    ("lies", "code"),
    [
        (Lies(origin="http://localhost:9999"), "passkey-wrong-origin"),
        (Lies(origin="https://localhost.evil.example"), "passkey-wrong-origin"),
        (Lies(cross_origin=True), "passkey-wrong-origin"),
        (Lies(rp_id="evil.example"), "passkey-not-made"),
        (Lies(challenge=encoded(b"mine" * 14)), "passkey-not-made"),
        (Lies(challenge=""), "passkey-not-made"),
        (Lies(challenge="*"), "passkey-not-made"),
        (Lies(type="webauthn.get"), "passkey-not-made"),
        (Lies(present=False), "passkey-not-made"),
        (Lies(credential_id=encoded(b"\1" * 1024)), "invalid-parameters"),
    ],
)
async def test_what_is_not_made_here_is_refused(house: TestAccounts, lies: Lies, code: str) -> None:
    jane = await person_with_passkey(house)
    answer = await jane.register(lies)
    assert answer.json()["code"] == code, answer.text
    assert answer.status_code == (403 if code == "passkey-wrong-origin" else 400)
    assert len(await jane.passkeys()) == 1
    if code == "passkey-not-made":
        assert house.trail.events[-1].outcome == "denied"
    if code == "passkey-wrong-origin":
        assert "http://localhost:8080" in answer.json()["remedy"]


async def test_a_challenge_makes_one_passkey_of_its_account_within_five_minutes(house: TestAccounts) -> None:
    jane, joe = await person_with_passkey(house), await person_with_passkey(house, "joe")

    async def code_of(options: dict[str, Any]) -> str:
        asked = {"credential": jane.device.create(options)}
        answer = await jane.ask("POST", "/auth/passkeys/register", asked)
        return str(answer.json().get("code", answer.status_code))

    theirs = await joe.new_options()
    assert await code_of(await jane.new_options() | {"challenge": theirs["challenge"]}) == "passkey-not-made"
    for other in (await login_options(house), await jane.second_factor_options()):
        kind = await jane.new_options() | {"challenge": other["challenge"]}
        assert await code_of(kind) == "passkey-not-made"
    options = await jane.new_options()
    assert await code_of(options) == "201"
    assert await code_of(options) == "passkey-not-made"
    late = await jane.new_options()
    house.clock.advance(299)
    assert await code_of(late) == "201"
    late = await jane.new_options()
    house.clock.advance(300)
    assert await code_of(late) == "passkey-not-made"


async def test_one_key_of_two_accounts_and_too_many_of_one(house: TestAccounts) -> None:
    jane, joe = await person_with_passkey(house), await person_with_passkey(house, "joe")
    [theirs] = joe.device.passkeys
    taken = await jane.register(Lies(credential_id=theirs))
    assert (taken.status_code, taken.json()["code"]) == (409, "passkey-known")
    for _ in range(PASSKEYS_MAX - 1):
        assert (await jane.register()).status_code == 201
    full = await jane.ask("POST", "/auth/passkeys/register/options")
    assert (full.status_code, full.json()["code"]) == (409, "too-many-passkeys")


def _attestation(**changes: Any) -> bytes:
    data = b"\0" * 32 + b"\x41" + b"\0" * 4 + b"\0" * 16 + b"\0\x20" + b"\1" * 32
    return cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data + cbor2.dumps({1: 2}), **changes})


_BROKEN = {
    "nothing": b"",
    "no CBOR": b"\xff\xff",
    "cut": _attestation()[:-3],
    "list": cbor2.dumps([1, 2]),
    "text": cbor2.dumps("x"),
    "no authData": cbor2.dumps({"fmt": "none"}),
    "authData a number": _attestation(authData=7),
    "authData empty": _attestation(authData=b""),
    "format a list": _attestation(fmt=[1]),
    "format unknown": _attestation(fmt="tpm"),
    "statement a number": _attestation(attStmt=3),
    "statement not empty": _attestation(attStmt={"x5c": [b"1"], "alg": -7, "sig": b"1"}),
    "key without parts": _attestation(),
    "deep": b"\x81" * 20_000 + b"\x00",
    "long array": b"\x9b" + b"\x7f" + b"\xff" * 7,
    "long text": b"\x7b" + b"\x7f" + b"\xff" * 7,
    "long map": b"\xbb" + b"\x7f" + b"\xff" * 7,
    "refers to itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "big number": b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01",
    "big float": b"\xc5\x82\x1b" + b"\x7f" * 8 + b"\x01",
    "pattern": b"\xd8\x23\x67(a+)+$!",
    "packed with rubbish": _attestation(fmt="packed", attStmt={"alg": -7, "sig": b"x", "x5c": [b"y"]}),
    "packed by itself": _attestation(fmt="packed", attStmt={"alg": -7, "sig": b"x"}),
}


async def test_malformed_cbor_is_the_senders_fault(house: TestAccounts) -> None:
    jane = await person_with_passkey(house)
    for name, attestation in _BROKEN.items():
        answer = await jane.register(Lies(attestation=attestation))
        assert (answer.status_code, answer.json()["code"]) == (400, "passkey-not-made"), (name, answer.text)
        if name == "format unknown":
            assert house.trail.events[-1].details["why"] == "an attestation that was not asked for"
    assert len(await jane.passkeys()) == 1


@pytest.mark.parametrize(
    "key",
    [
        {1: 2, 3: -7, -1: 1, -2: b"\1" * 32, -3: b"\1" * 32},  # not on the curve
        {1: 2, 3: -7, -1: 99, -2: b"\1" * 32, -3: b"\1" * 32},
        {1: 1, 3: -8, -1: 6, -2: b"\1"},
        {1: 3, 3: -257, -1: b"\0", -2: b"\0"},
        {1: 2, 3: -65535, -1: 1, -2: b"\1" * 32, -3: b"\1" * 32},
        {1: [], 3: {}},
    ],
)
async def test_a_key_that_no_signature_fits_is_not_kept(house: TestAccounts, key: dict[int, Any]) -> None:
    """It would lock its own person out."""
    jane = await person_with_passkey(house)
    name = b"\2" * 32
    head = hashlib.sha256(b"localhost").digest() + b"\x45" + b"\0" * 20 + b"\0\x20" + name
    broken = _attestation(authData=head + cbor2.dumps(key))
    answer = await jane.register(Lies(attestation=broken, credential_id=encoded(name)))
    assert (answer.status_code, answer.json()["code"]) == (400, "passkey-not-made"), answer.text
