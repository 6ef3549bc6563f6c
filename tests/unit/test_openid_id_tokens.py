"""ID tokens, key sets and return paths by themselves: what a signature is worth; any bytes at all."""

from __future__ import annotations

import base64
import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.features.accounts.openid.beginning import checked_return_to
from isocenter.features.accounts.openid.errors import AnswerRefused
from isocenter.features.accounts.openid.id_tokens import Expected, UnknownKey, verified_claims
from isocenter.features.accounts.openid.keys import ALGORITHMS, keys_in
from isocenter.features.accounts.openid.transactions import new_words, words_of
from isocenter.features.accounts.secret_words import hash_of
from isocenter.kit.errors import InvalidInput
from services.openid_provider import new_key, signed

NOW_S = 1_767_225_600.0
KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
EXPECTED = Expected("https://login.example", "client", ALGORITHMS, hash_of("nonce"), "access", NOW_S)
CLAIMS: dict[str, Any] = {
    "iss": "https://login.example",
    "aud": "client",
    "sub": "jane",
    "nonce": "nonce",
    "iat": NOW_S,
    "exp": NOW_S + 60,
}


@functools.cache
def keys(*names: str) -> tuple[Any, ...]:
    published = [new_key(KINDS[name], f"key-{name}").as_dict(private=False) for name in names]
    return keys_in({"keys": published})


def token(algorithm: str = "RS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    whole = {"alg": algorithm, "kid": f"key-{algorithm}", **(header or {})}
    return signed(whole, CLAIMS | claims, new_key(KINDS[algorithm], f"key-{algorithm}"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_with_its_key_and_no_other(algorithm: str) -> None:
    every = keys(*ALGORITHMS)
    assert verified_claims(token(algorithm), every, EXPECTED)["sub"] == "jane"
    others = tuple(key for key in every if key.id != f"key-{algorithm}")
    with pytest.raises(UnknownKey):
        verified_claims(token(algorithm), others, EXPECTED)
    cut = token(algorithm)[:-8] + "AAAAAAAA"
    with pytest.raises(AnswerRefused, match="does not prove") as refused:
        verified_claims(cut, every, EXPECTED)
    assert "signature" in refused.value.why


def test_a_key_counts_for_its_own_kind_whatever_the_token_says() -> None:
    """A key of RSA is asked for an elliptic signature, and the other way round."""
    for algorithm, other in (("RS256", "ES256"), ("ES256", "EdDSA"), ("EdDSA", "RS256")):
        confused = token(algorithm, {"kid": f"key-{other}"})
        with pytest.raises(UnknownKey):
            verified_claims(confused, keys(other), EXPECTED)


def test_a_token_without_a_key_id_is_tried_with_those_that_fit() -> None:
    unnamed = token("ES256", {"kid": ""})
    assert verified_claims(unnamed, keys("RS256", "ES256"), EXPECTED)["sub"] == "jane"


def test_several_audiences_are_fine_where_we_asked() -> None:
    told = verified_claims(token(aud=["other", "client"], azp="client"), keys("RS256"), EXPECTED)
    assert told["azp"] == "client"


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"exp": NOW_S - 59}, True),
        ({"exp": NOW_S - 60}, False),
        ({"iat": NOW_S + 60}, True),
        ({"iat": NOW_S + 61}, False),
        ({"nbf": NOW_S + 60}, True),
        ({"nbf": NOW_S + 61}, False),
        ({"exp": float(NOW_S + 1)}, True),
    ],
)
def test_clocks_may_differ_by_a_minute(claims: dict[str, Any], good: bool) -> None:
    made = token(**claims)
    if good:
        verified_claims(made, keys("RS256"), EXPECTED)
    else:
        with pytest.raises(AnswerRefused):
            verified_claims(made, keys("RS256"), EXPECTED)


def test_the_access_token_s_hash_is_the_left_half_of_its_digest() -> None:
    """The example of OpenID Connect Core A.4, whose access token and at_hash are printed there."""
    expected = Expected(
        EXPECTED.issuer,
        "client",
        ALGORITHMS,
        EXPECTED.nonce_hash,
        "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y",
        NOW_S,
    )
    verified_claims(token(at_hash="77QmUPtjPfzWtF2AnpK9RQ"), keys("RS256"), expected)
    with pytest.raises(AnswerRefused):
        verified_claims(token(at_hash="77QmUPtjPfzWtF2AnpK9RA"), keys("RS256"), expected)


@pytest.mark.parametrize(("bits", "usable"), [(1024, 0), (2048, 1), (8192, 1), (8200, 0)])
def test_keys_of_rsa_have_2048_to_8192_bits(bits: int, usable: int) -> None:
    modulus = (1 << bits) - 1
    n = base64.urlsafe_b64encode(modulus.to_bytes(bits // 8)).decode().rstrip("=")
    assert len(keys_in({"keys": [{"kty": "RSA", "n": n, "e": "AQAB"}]})) == usable


def test_private_parts_and_other_uses_of_a_key_set() -> None:
    whole = new_key("RSA", "key-RS256").as_dict(private=True)
    [key] = keys_in({"keys": [whole]})
    assert not key.key.is_private
    assert keys_in({"keys": [whole | {"use": "enc"}]}) == ()
    [narrow] = keys_in({"keys": [whole | {"alg": "PS256"}]})
    assert narrow.algorithms == ("PS256",)
    assert keys_in({"keys": [whole | {"alg": "RSA-OAEP"}]}) == ()
    assert keys_in({}) == keys_in({"keys": {}}) == ()


@given(
    st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}")
)
def test_no_text_is_a_token_and_none_breaks_us(text: str) -> None:
    with pytest.raises(AnswerRefused):
        verified_claims(text, keys(*ALGORITHMS), EXPECTED)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*CLAIMS, "azp", "nbf", "at_hash"]), ANY_JSON, max_size=4))
def test_signed_claims_of_any_kind_are_right_or_refused(odd: dict[str, Any]) -> None:
    try:
        claims = verified_claims(token(**odd), keys("RS256"), EXPECTED)
    except AnswerRefused:
        return
    assert claims["iss"] == CLAIMS["iss"] and claims["nonce"] == "nonce" and claims["sub"]


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x"]), ANY_JSON, max_size=4)
)
def test_headers_of_any_kind_are_refused_or_ours(odd: dict[str, Any]) -> None:
    header = base64.urlsafe_b64encode(repr(odd).replace("'", '"').encode()).decode().rstrip("=")
    _, payload, signature = token().split(".")
    with pytest.raises(AnswerRefused):
        verified_claims(f"{header}.{payload}.{signature}", keys("RS256"), EXPECTED)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid", "alg", "use"]),
            ANY_JSON | st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "A" * 400]),
            max_size=7,
        ),
        max_size=3,
    )
)
def test_key_sets_of_any_kind(odd: list[dict[str, Any]]) -> None:
    keys_in({"keys": odd})


@given(st.text(max_size=50) | st.from_regex(r"[/\\:.a@\t\r\n%-]{0,12}", fullmatch=True))
def test_wherever_one_returns_is_here(path: str) -> None:
    try:
        checked = checked_return_to(path)
    except InvalidInput:
        return
    assert checked.startswith("/") and not checked.startswith(("//", "/\\"))
    assert checked.isascii() and checked.isprintable() and "\\" not in checked and " " not in checked


def test_nonce_and_verifier_belong_to_state_browser_and_server() -> None:
    words = new_words(b"k" * 32)
    assert words == words_of(b"k" * 32, words.state, words.browser_word)
    others = [
        words_of(b"l" * 32, words.state, words.browser_word),
        words_of(b"k" * 32, words.state + "x", words.browser_word),
        words_of(b"k" * 32, words.state, words.browser_word + "x"),
    ]
    seen = {word for one in [words, *others] for word in (one.nonce, one.verifier, one.challenge)}
    assert len(seen) == 12
    assert all(43 <= len(one.verifier) <= 128 for one in [words, *others])  # RFC 7636 §4.1
