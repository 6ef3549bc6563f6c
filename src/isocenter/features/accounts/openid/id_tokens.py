"""Is this ID token true, ours and fresh (OpenID Connect Core 1.0 §3.1.3.7)? Keys and time are arguments."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry

from isocenter.features.accounts.openid.errors import AnswerRefused
from isocenter.features.accounts.openid.keys import VerificationKey
from isocenter.features.accounts.secret_words import hash_of

LEEWAY_S = 60  # clocks differ
SUBJECT_CHARACTERS_MAX = 255  # Core §2
_CHARACTERS_MAX = 64 << 10
_KEYS_TRIED_MAX = 8
_DIGESTS = {
    "RS256": hashlib.sha256,
    "PS256": hashlib.sha256,
    "ES256": hashlib.sha256,
    "EdDSA": hashlib.sha512,
}


class UnknownKey(AnswerRefused):
    """The token names a key that is not in the set: it may have been exchanged since that was fetched."""

    def __init__(self) -> None:
        super().__init__("the ID token names a key that the provider does not have")


@dataclass(frozen=True, slots=True)
class Expected:
    """``nonce_hash``: see `secret_words.hash_of`. ``access_token`` is what came with the ID token."""

    issuer: str
    client_id: str
    algorithms: tuple[str, ...]
    nonce_hash: str
    access_token: str
    now_s: float


class _Registry(JWSRegistry):
    """Takes header fields that we do not know (RFC 7515 §4) and the one algorithm that it is given: the
    library's own takes HS256 too where it is given none."""

    max_header_length = 8 << 10

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)
        self._algorithm = algorithm

    def get_alg(self, name: str) -> Any:
        if name != self._algorithm:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


def verified_claims(token: str, keys: Sequence[VerificationKey], expected: Expected) -> dict[str, Any]:
    """Raises UnknownKey, AnswerRefused."""
    if not token.isascii() or token.count(".") != 2 or len(token) > _CHARACTERS_MAX:
        raise AnswerRefused("the ID token is none")
    algorithm, key_id = _header(token, expected.algorithms)
    payload = _signed_payload(token, algorithm, list(_fitting(keys, algorithm, key_id)))
    try:
        claims = orjson.loads(payload)
    except orjson.JSONDecodeError:
        claims = None
    if not isinstance(claims, dict):
        raise AnswerRefused("the ID token holds no claims")
    for why in _broken_rules(claims, algorithm, expected):
        raise AnswerRefused(why)
    return claims


def _header(token: str, algorithms: tuple[str, ...]) -> tuple[str, str]:
    """Algorithm and key id; before anything else of the token is looked at."""
    encoded = token.partition(".")[0]
    try:
        header = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise AnswerRefused("the ID token has no header")
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if algorithm not in algorithms:
        raise AnswerRefused("the ID token is signed with an algorithm that is not allowed")
    if not isinstance(key_id, str) or "crit" in header or str(header.get("typ", "JWT")).upper() != "JWT":
        raise AnswerRefused("the ID token's header is not one of an ID token")
    return algorithm, key_id


def _fitting(keys: Sequence[VerificationKey], algorithm: str, key_id: str) -> Iterator[VerificationKey]:
    for key in keys:
        if algorithm in key.algorithms and (not key_id or key.id == key_id):
            yield key


def _signed_payload(token: str, algorithm: str, keys: list[VerificationKey]) -> bytes:
    if not keys:
        raise UnknownKey
    registry = _Registry(algorithm)
    try:
        read = jws.extract_compact(token.encode(), registry=registry)
        if any(
            jws.validate_compact(read, candidate.key, registry=registry)
            for candidate in keys[:_KEYS_TRIED_MAX]
        ):
            return bytes(read.payload or b"")
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # What the library raises for hostile bytes depends on where they break it.
        pass
    raise AnswerRefused("the ID token's signature is wrong")


def _broken_rules(claims: dict[str, Any], algorithm: str, expected: Expected) -> Iterator[str]:
    """§3.1.3.7 in its order; the first one counts."""
    if claims.get("iss") != expected.issuer:
        yield "the ID token is another issuer's"
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or expected.client_id not in audiences:
        yield "the ID token is for another client"
    elif len(audiences) > 1 and "azp" not in claims:
        yield "the ID token is for several clients and does not say which one asked"
    if "azp" in claims and claims["azp"] != expected.client_id:
        yield "the ID token was made for another client"
    expires_s, issued_s, not_before_s = (_seconds(claims, name) for name in ("exp", "iat", "nbf"))
    if expires_s is None or expires_s + LEEWAY_S <= expected.now_s:
        yield "the ID token has expired"
    if issued_s is None or issued_s - LEEWAY_S > expected.now_s:
        yield "the ID token comes from the future: is the clock right?"
    if "nbf" in claims and (not_before_s is None or not_before_s - LEEWAY_S > expected.now_s):
        yield "the ID token counts only later"
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(hash_of(nonce), expected.nonce_hash):
        yield "the ID token is not for this login"
    if "at_hash" in claims and not _fits(claims["at_hash"], algorithm, expected.access_token):
        yield "the ID token does not belong to the access token"
    subject = claims.get("sub")
    if (
        not isinstance(subject, str)
        or not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX
        or not subject.isprintable()
    ):
        yield "the ID token does not say who it is"


def _seconds(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _fits(found: object, algorithm: str, access_token: str) -> bool:
    """Core §3.1.3.6: the left half of the access token's hash."""
    digest = _DIGESTS[algorithm](access_token.encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    return isinstance(found, str) and found.isascii() and hmac.compare_digest(found.rstrip("="), half)
