"""Providers that forge, dawdle, overflow and lead astray: none of them logs anybody in, none makes a 500."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.features.accounts.openid.examining import ProviderFinding
from isocenter.features.accounts.openid.fetching import Fetcher
from isocenter.features.accounts.openid.providers import ProviderChanges
from services.accounts import TestAccounts, command_line, opened_accounts
from services.openid_flow import (
    CREATES,
    PLACE,
    PROGRAM,
    added,
    clock_of_today,
    logged_in_at,
    openid_provider,
    started,
    whys,
)
from services.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, new_key, signed
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


async def accounts_there_are(house: TestAccounts) -> int:
    [found] = await house.rows("SELECT count(*) AS n FROM account")
    return int(found["n"])


async def attempted(house: TestAccounts, provider: OpenIdProvider) -> tuple[int, str]:
    """Status and code of a login that should have worked, were it not for the provider; and nobody is in."""
    await added(house, provider.issuer, **CREATES)
    answer = await house.client.get(f"{PLACE}/start")
    if answer.status_code == 302:
        back = provider.sign_in(answer.headers["location"])
        answer = await house.client.get(back, headers=PROGRAM)
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.status_code in {401, 503}, answer.text
    assert await accounts_there_are(house) == 0
    assert (await house.rows("SELECT count(*) AS n FROM openid_session"))[0]["n"] == 0
    told = answer.json()
    assert CLIENT_SECRET not in answer.text and "an-access-token" not in answer.text
    return answer.status_code, told["code"]


async def examined(house: TestAccounts) -> list[ProviderFinding]:
    openid = house.accounts.openid
    return await openid.examination.of(await openid.providers.get(command_line(), "idp"))


# --- forged ID tokens -------------------------------------------------------------------------------------

FORGED_CLAIMS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another nonce": (lambda c: c.update(nonce="x" * 43), "not for this login"),
    "no nonce": (lambda c: c.pop("nonce"), "not for this login"),
    "a list of nonces": (lambda c: c.update(nonce=[c["nonce"]]), "not for this login"),
    "another audience": (lambda c: c.update(aud="another-client"), "another client"),
    "no audience": (lambda c: c.pop("aud"), "another client"),
    "an audience that contains us": (lambda c: c.update(aud=CLIENT_ID + "0"), "another client"),
    "audience as an object": (lambda c: c.update(aud={CLIENT_ID: 1}), "another client"),
    "several audiences, none asked": (lambda c: c.update(aud=[CLIENT_ID, "x"]), "which one asked"),
    "another party": (lambda c: c.update(aud=[CLIENT_ID, "x"], azp="x"), "made for another"),
    "another party alone": (lambda c: c.update(azp="x"), "made for another"),
    "another issuer": (lambda c: c.update(iss="https://evil.example"), "another issuer"),
    "a longer issuer": (lambda c: c.update(iss=c["iss"] + "/"), "another issuer"),
    "no issuer": (lambda c: c.pop("iss"), "another issuer"),
    "expired": (lambda c: c.update(exp=int(time.time()) - 120), "expired"),
    "no expiry": (lambda c: c.pop("exp"), "expired"),
    "an expiry of text": (lambda c: c.update(exp="9999999999"), "expired"),
    "an expiry of true": (lambda c: c.update(exp=True), "expired"),
    "from the future": (lambda c: c.update(iat=int(time.time()) + 300), "the future"),
    "never issued": (lambda c: c.pop("iat"), "the future"),
    "not yet": (lambda c: c.update(nbf=int(time.time()) + 300), "only later"),
    "another access token": (lambda c: c.update(at_hash="AAAAAAAAAAAAAAAAAAAAAA"), "access token"),
    "an access token of no text": (lambda c: c.update(at_hash=7), "access token"),
    "nobody": (lambda c: c.pop("sub"), "who it is"),
    "an empty subject": (lambda c: c.update(sub=""), "who it is"),
    "a subject of numbers": (lambda c: c.update(sub=7), "who it is"),
    "a subject of lines": (lambda c: c.update(sub="a\nb"), "who it is"),
    "an endless subject": (lambda c: c.update(sub="x" * 256), "who it is"),
}


@pytest.mark.parametrize("name", FORGED_CLAIMS)
async def test_forged_claims(house: TestAccounts, provider: OpenIdProvider, name: str) -> None:
    provider.bend_claims, why = FORGED_CLAIMS[name]
    assert await attempted(house, provider) == (401, "openid-answer-refused")
    assert len(whys(house)) == 1 and why in whys(house)[0]
    assert house.trail.events[-1].outcome == "denied"


async def test_a_minute_of_clock_is_forgiven(house: TestAccounts, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer, **CREATES)
    now = int(house.clock.now().timestamp())
    provider.bend_claims = lambda claims: claims.update(iat=now + 50, nbf=now + 50, exp=now - 50)
    assert (await logged_in_at(house, provider)).status_code == 200


def of_none(provider: OpenIdProvider) -> None:
    provider.bend_header = lambda header: header.update(alg="none")


def of_none_capitalised(provider: OpenIdProvider) -> None:
    def bend(tokens: dict[str, Any]) -> None:
        _, payload, _ = tokens["id_token"].split(".")
        header = signed({"alg": "none"}, {}, None).partition(".")[0]
        tokens["id_token"] = f"{header}.{payload}."

    provider.bend_tokens = bend


def by_public_key(provider: OpenIdProvider) -> None:
    """HS256 with the public key as its password (CVE-2015-9235 and its many children)."""
    password = provider.key.as_pem(private=False)

    def bend(tokens: dict[str, Any]) -> None:
        header = signed({"alg": "HS256", "kid": provider.key.kid}, {}, None).partition(".")[0]
        unsigned = f"{header}.{tokens['id_token'].split('.')[1]}"
        signature = hmac.digest(password, unsigned.encode(), "sha256")
        tokens["id_token"] = f"{unsigned}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    provider.bend_tokens = bend
    provider.bend_discovery = lambda document: document.update(
        id_token_signing_alg_values_supported=["HS256", "RS256", "none"]
    )


def by_another_key(provider: OpenIdProvider) -> None:
    provider.use_key(new_key(kid="first-again"), "RS256", publish=False)
    provider.bend_header = lambda header: header.update(kid=provider.published[0]["kid"])


def by_unknown_key(provider: OpenIdProvider) -> None:
    provider.bend_header = lambda header: header.update(kid="unknown")


def by_key_in_header(provider: OpenIdProvider) -> None:
    """The token brings the key to verify it with (CVE-2018-0114)."""
    provider.use_key(new_key(kid="mine"), "RS256", publish=False)
    provider.bend_header = lambda header: header.update(jwk=provider.key.as_dict(private=False))


def by_key_elsewhere(provider: OpenIdProvider) -> None:
    provider.use_key(new_key(kid="mine"), "RS256", publish=False)
    provider.bend_header = lambda header: header.update(jku=f"{provider.issuer}/mine")


def without_signature(provider: OpenIdProvider) -> None:
    provider.bend_tokens = lambda tokens: tokens.update(id_token=tokens["id_token"].rpartition(".")[0] + ".")


def with_other_payload(provider: OpenIdProvider) -> None:
    def bend(tokens: dict[str, Any]) -> None:
        header, _, signature = tokens["id_token"].split(".")
        other = signed({"alg": "none"}, {"sub": "admin"}, None).split(".")[1]
        tokens["id_token"] = f"{header}.{other}.{signature}"

    provider.bend_tokens = bend


def of_unannounced_algorithm(provider: OpenIdProvider) -> None:
    provider.bend_discovery = lambda document: document.update(
        id_token_signing_alg_values_supported=["ES256"]
    )


def for_something_else(provider: OpenIdProvider) -> None:
    provider.bend_header = lambda header: header.update(typ="logout+jwt")


def with_critical_header(provider: OpenIdProvider) -> None:
    provider.bend_header = lambda header: header.update(crit=["b64"], b64=False)


def _token(value: object) -> Callable[[OpenIdProvider], None]:
    def use(provider: OpenIdProvider) -> None:
        provider.bend_tokens = lambda tokens: tokens.update(id_token=value)

    return use


@pytest.mark.parametrize(
    "forge",
    [
        of_none,
        of_none_capitalised,
        by_public_key,
        by_another_key,
        by_unknown_key,
        by_key_in_header,
        by_key_elsewhere,
        without_signature,
        with_other_payload,
        of_unannounced_algorithm,
        for_something_else,
        with_critical_header,
        *(
            _token(odd)
            for odd in (None, 7, "", "..", "a.b.c", "e30.e30.e30", "é.é.é", "x" * 60_000, "W10.W10.")
        ),
    ],
)
async def test_forged_signatures(
    house: TestAccounts, provider: OpenIdProvider, forge: Callable[[OpenIdProvider], None]
) -> None:
    forge(provider)
    assert await attempted(house, provider) == (401, "openid-answer-refused")
    assert provider.count("/mine") == 0


# --- odd answers ------------------------------------------------------------------------------------------

HUGE = json.dumps({"keys": [{"kty": "RSA", "n": "A" * 1000, "e": "AQAB"}] * 1000}).encode()
DEEP = b'{"a":' * 50_000 + b"}" * 50_000
ODD_BODIES = [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"<html>", DEEP[:60_000], HUGE]


@pytest.mark.parametrize("path", ["/discovery", "/keys", "/token", "/userinfo"])
@pytest.mark.parametrize("number", range(len(ODD_BODIES)))
async def test_odd_bodies(house: TestAccounts, provider: OpenIdProvider, path: str, number: int) -> None:
    provider.in_userinfo = frozenset({"email"})
    provider.answers[path] = (200, {"Content-Type": "application/json"}, ODD_BODIES[number])
    assert await attempted(house, provider) == (503, "identity-provider-broken")


@pytest.mark.parametrize("path", ["/discovery", "/keys", "/token", "/userinfo"])
@pytest.mark.parametrize(
    "bent",
    [
        (302, {"Location": "http://127.0.0.1:1/elsewhere"}, b""),
        (307, {"Location": "/realm/elsewhere"}, b""),
        (404, {}, b"{}"),
        (500, {}, b"{}"),
        (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
    ],
    ids=["redirect", "redirect-here", "missing", "failing", "compressed"],
)
async def test_odd_statuses(
    house: TestAccounts,
    provider: OpenIdProvider,
    path: str,
    bent: tuple[int, dict[str, str], bytes],
) -> None:
    provider.in_userinfo = frozenset({"email"})
    provider.answers[path] = bent
    _, code = await attempted(house, provider)
    assert code in {
        "identity-provider-broken",
        "identity-provider-unreachable",
        "openid-login-declined",  # the token endpoint's way of saying no
    }
    assert provider.count("/elsewhere") == 0


@pytest.mark.parametrize("path", ["/discovery", "/keys", "/token", "/userinfo"])
@pytest.mark.parametrize("how", ["silent", "dripping", "hanging up", "endless"])
async def test_slow_and_broken_connections(
    house: TestAccounts, provider: OpenIdProvider, path: str, how: str
) -> None:
    drops: list[bytes] = []

    def bent(handler: Any) -> None:
        match how:
            case "silent":
                provider.silence.wait(30)
            case "dripping":
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                while not provider.silence.wait(DEADLINE_S / 10):
                    drops.append(b" ")
                    try:
                        handler.wfile.write(b" ")
                    except OSError:
                        break
            case "endless":
                handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                try:
                    while not provider.silence.is_set():
                        handler.wfile.write(b" " * 65_536)
                except OSError:
                    pass
        handler.close_connection = True

    provider.in_userinfo = frozenset({"email"})
    provider.answers[path] = bent
    status, code = await attempted(house, provider)
    assert status == 503 and code in {"identity-provider-broken", "identity-provider-unreachable"}
    assert len(drops) < 300  # given up long before the last one


BAD_DISCOVERY: dict[str, dict[str, Any]] = {
    "another issuer": {"issuer": "https://evil.example"},
    "no issuer": {"issuer": None},
    "a token endpoint without TLS": {"token_endpoint": "http://login.example/token"},
    "keys of a cloud's metadata": {"jwks_uri": "http://169.254.169.254/keys"},
    "keys of a file": {"jwks_uri": "file:///etc/passwd"},
    "an authorization endpoint of script": {"authorization_endpoint": "javascript:alert(1)"},
    "an authorization endpoint of lines": {"authorization_endpoint": "https://a.example/\r\nSet-Cookie: a=b"},
    "an end of script": {"end_session_endpoint": "javascript:alert(1)"},
    "an endpoint with a password": {"token_endpoint": "https://a:b@login.example/"},
    "an endpoint of numbers": {"token_endpoint": 7},
    "no endpoint": {"authorization_endpoint": None},
    "no port": {"jwks_uri": "http://127.0.0.1:99999/"},
    "only HS256": {"id_token_signing_alg_values_supported": ["HS256", "none"]},
    "algorithms of text": {"id_token_signing_alg_values_supported": "RS256"},
    "another flow": {"response_types_supported": ["id_token"]},
    "only private keys for clients": {"token_endpoint_auth_methods_supported": ["private_key_jwt"]},
}


@pytest.mark.parametrize("name", BAD_DISCOVERY)
async def test_discovery_that_leads_astray(house: TestAccounts, provider: OpenIdProvider, name: str) -> None:
    provider.bend_discovery = lambda document: document.update(BAD_DISCOVERY[name])
    assert await attempted(house, provider) == (503, "identity-provider-broken")
    last = (await examined(house))[-1]
    assert last.ok is False and last.remedy


async def test_the_examination_names_the_issuer_that_it_should_be(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    provider.bend_discovery = lambda document: document.update(issuer="https://login.example/realm")
    await added(house, provider.issuer)
    assert "https://login.example/realm" in (await examined(house))[-1].remedy


ODD_KEYS: list[Any] = [
    {"kty": "oct", "k": "AAAA", "kid": "first"},
    {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "first"},
    {"kty": "RSA", "n": "A" * 1399, "e": "AQAB", "kid": "first"},
    {"kty": "RSA", "n": "_" * 300, "e": "_" * 300, "kid": "first"},
    {"kty": "RSA", "n": 7, "e": None, "kid": "first"},
    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "first"},
    {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
    {"kty": "ML-DSA", "pub": "AA"},
    {"kid": ["first"]},
    {},
    "key",
    None,
]


async def test_one_good_key_among_odd_ones_is_enough_and_odd_ones_are_not(
    house: TestAccounts, provider: OpenIdProvider
) -> None:
    good = provider.published
    provider.published = [*ODD_KEYS, *good]
    await added(house, provider.issuer, **CREATES)
    assert (await logged_in_at(house, provider)).status_code == 200
    provider.published = ODD_KEYS
    house.clock.advance(3600)
    answer = await logged_in_at(house, provider)
    assert (answer.status_code, answer.json()["code"]) == (503, "identity-provider-broken")


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        (lambda a: a.update(iss="https://evil.example"), "openid-answer-refused"),
        (lambda a: a.pop("iss"), "openid-answer-refused"),
        (lambda a: a.pop("code"), "openid-answer-refused"),
        (lambda a: a.update(code="guess"), "openid-login-declined"),
        (lambda a: a.update(state="guess"), "openid-login-expired"),
        (lambda a: a.pop("state"), "openid-login-expired"),
        (lambda a: a.update(error="access_denied"), "openid-login-declined"),
        (lambda a: a.update(error="<script>alert(1)</script>"), "openid-login-declined"),
        (lambda a: a.update(error="access_denied", iss="https://evil.example"), "openid-answer-refused"),
    ],
)
async def test_what_the_browser_brings(
    house: TestAccounts,
    provider: OpenIdProvider,
    bend: Callable[[dict[str, Any]], None],
    code: str,
) -> None:
    provider.bend_answer = bend
    assert await attempted(house, provider) == (401, code)


async def test_a_foreign_error_is_not_repeated(house: TestAccounts, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer, **CREATES)
    provider.bend_answer = lambda a: a.update(error="<script>", error_description="<script>")
    answer = await house.client.get(provider.sign_in(await started(house.client)))
    assert "script" not in answer.text


async def test_another_person_s_userinfo(house: TestAccounts, provider: OpenIdProvider) -> None:
    provider.in_userinfo = frozenset({"email"})
    body = json.dumps({"sub": "another", "email": "chief@st-marys.example", "email_verified": True})
    provider.answers["/userinfo"] = (200, {}, body.encode())
    assert await attempted(house, provider) == (401, "openid-answer-refused")


async def test_what_is_signed_counts_before_userinfo(house: TestAccounts, provider: OpenIdProvider) -> None:
    provider.in_userinfo = frozenset({"email"})
    body = json.dumps({**provider.person, "groups": ["it"]})
    provider.answers["/userinfo"] = (200, {}, body.encode())
    await added(house, provider.issuer, people="create", role_claim="groups", roles={"it": "admin"})
    assert (await logged_in_at(house, provider)).status_code == 401


async def test_a_wrong_client_secret_is_named(house: TestAccounts, provider: OpenIdProvider) -> None:
    await added(house, provider.issuer, **CREATES)
    await house.accounts.openid.providers.change(
        command_line(), "idp", ProviderChanges(client_secret="wrong")
    )
    answer = await logged_in_at(house, provider)
    assert (answer.status_code, answer.json()["code"]) == (503, "identity-provider-broken")
    assert "client id and secret" in answer.json()["detail"]
    last = (await examined(house))[-1]
    assert last.ok is False and "client secret" in last.says
