"""Hostile credentials: whatever stands in the header, the answer is 401; and the limits hold in memory."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey

from isocenter.features.accounts.access_tokens import AccessTokens
from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.passwords import PasswordHashes, WeakPassword, check_strength
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import InvalidInput, RateLimited
from isocenter.platform.security import PERMISSIONS_OF_ROLE, Role
from isocenter.platform.security.installation_key import FILE_NAME, InstallationKey

_KEY = bytes(range(32))
_CLOCK = ManualClock()
_TOKENS = AccessTokens(_KEY, _CLOCK)
_GOOD = _TOKENS.make(7, 1, 3, Role.ADMIN, 2)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_says_what_it_was_made_of() -> None:
    claims = _TOKENS.read(_GOOD)
    assert claims is not None
    assert (claims.account_id, claims.organization_id, claims.session_id) == (7, 1, 3)
    assert (claims.role, claims.version) == (Role.ADMIN, 2)


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
@example("..")
@example("a.b.c")
@example("é.é.é")
@example(f"{part({'alg': 'none'})}.{part({'sub': '1'})}.")
@example(f"{part({'alg': 'HS256'})}.{part([])}.AAAA")
@example(f"{part([])}.{part({})}.AAAA")
@example(f"{part({'alg': ['HS256']})}.{part({})}.AAAA")
@example(f"{part({'alg': 'HS256', 'crit': ['x']})}.{part({})}.AAAA")
@example("[" * 2000)
def test_no_bytes_of_a_stranger_are_a_token(token: str) -> None:
    assert _TOKENS.read(token) is None


@given(st.integers(0, len(_GOOD) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_token_with_one_character_changed_is_none(position: int, character: str) -> None:
    changed = _GOOD[:position] + character + _GOOD[position + 1 :]
    claims = _TOKENS.read(changed)
    # The last character of a part holds bits that mean nothing: such a token says the same.
    assert claims is None or claims == _TOKENS.read(_GOOD)


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(["iss", "sub", "org", "sid", "ver", "iat", "exp", "role"]), _VALUES))
def test_signed_claims_of_the_wrong_kind_are_none(claims: dict[str, object]) -> None:
    header = {"alg": "HS256"}
    try:
        token = jwt.encode(header, claims | {"iss": "isocenter"}, OctKey.import_key(_KEY))
    except (ValueError, TypeError):
        return
    assert _TOKENS.read(token) is None or claims.keys() >= {"sub", "org", "sid", "ver", "iat", "exp", "role"}


def test_a_token_signed_with_another_key_or_algorithm_is_none() -> None:
    assert AccessTokens(bytes(32), _CLOCK).read(_GOOD) is None
    claims = {"iss": "isocenter", "sub": "7", "org": 1, "sid": "3", "ver": 2, "role": "admin", "iat": 0}
    forged = f"{part({'alg': 'none'})}.{part(claims | {'exp': 1 << 40})}."
    assert _TOKENS.read(forged) is None
    for algorithm in ("HS384", "HS512"):
        other = jwt.encode(
            {"alg": algorithm}, claims | {"exp": 1 << 40}, OctKey.import_key(_KEY), algorithms=[algorithm]
        )
        assert _TOKENS.read(other) is None


def test_a_clock_that_is_a_minute_off_is_tolerated_and_more_is_not() -> None:
    ahead = ManualClock()
    ahead.advance(60)
    assert _TOKENS.read(AccessTokens(_KEY, ahead).make(7, 1, 3, Role.ADMIN, 2)) is not None
    ahead.advance(1)
    assert _TOKENS.read(AccessTokens(_KEY, ahead).make(7, 1, 3, Role.ADMIN, 2)) is None


# --- attempts ---------------------------------------------------------------------------------------------


async def test_a_flood_of_addresses_and_logins_costs_bounded_memory() -> None:
    attempts = Attempts(ManualClock(), keys_max=100)
    for n in range(1000):
        await attempts.begin(f"10.0.{n // 256}.{n % 256}", f"login {n}" * 1000)
    assert len(attempts._at_s) <= 100
    assert max(map(len, attempts._at_s)) <= 64


async def test_an_ipv6_network_counts_as_one_and_what_is_refused_is_no_attempt() -> None:
    clock = ManualClock()
    attempts = Attempts(clock)
    for n in range(5):
        await attempts.begin(f"2001:db8::{n}")
    with pytest.raises(RateLimited) as refused:
        await attempts.begin("2001:db8::ffff")
    assert refused.value.retry_after_s == 61
    await attempts.begin("2001:db8:0:1::1")
    clock.advance(60)
    await attempts.begin("2001:db8::1")


# --- passwords and the installation key -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("short", "fewer than 12"),
        ("passwordpassword", "easy to guess"),
        ("aaaaaaaaaaaaaaaaaaaa", "easy to guess"),
        ("jane.doe@hospital.example", "easy to guess"),
        ("x" * 257, "more than 256"),
    ],
)
def test_a_weak_password_is_refused_with_words(password: str, words: str) -> None:
    with pytest.raises(WeakPassword, match=words) as refused:
        check_strength(password, ("jane.doe@hospital.example", "Jane Doe"))
    assert refused.value.remedy


def test_a_good_password_of_any_script_is_taken() -> None:
    for password in ("quartz-umbrella-Tahiti-09", "zażółć gęślą jaźń 77", "正しい馬のバッテリー留め金"):
        check_strength(password, ("jane",))


def test_the_installation_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "secrets"
    made = InstallationKey.of_folder(folder)
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]
    again = InstallationKey.of_folder(folder)
    assert made.derived("a") == again.derived("a") != made.derived("b")
    with pytest.raises(InvalidInput, match="fewer than 32"):
        InstallationKey("short")


def test_every_role_has_its_permissions() -> None:
    assert PERMISSIONS_OF_ROLE.keys() == set(Role)


async def test_a_password_costs_what_rfc_9106_recommends() -> None:
    """Its second option (§4), for where memory is scarce; nobody's password costs the same."""
    hashes = PasswordHashes()
    made = await hashes.make("quartz-umbrella-Tahiti-09")
    for one in (made, hashes.nobodys):
        assert one.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert await hashes.fits("quartz-umbrella-Tahiti-09", made)
    assert not await hashes.fits("quartz-umbrella-Tahiti-09", "")
    assert not await hashes.fits("another", made)
    hashes.close()
