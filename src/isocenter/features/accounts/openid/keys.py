"""Keys that ID tokens are verified with, out of a provider's key set (RFC 7517)."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
"""Nothing else is ever verified: not ``none``, and not HS256, whose password a public key would be."""

_KEYS_MAX = 100
_RSA_BITS = range(2048, 8193)  # weaker ones are forged, larger ones cost us the time
_RSA_EXPONENT_BYTES_MAX = 8

Key = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """``id`` is its ``kid``, empty for one without. ``algorithms``: those it is good for."""

    id: str
    key: Key
    algorithms: tuple[str, ...]


def keys_in(document: dict[str, Any]) -> tuple[VerificationKey, ...]:
    """Those that can be used; others are left out (RFC 7517 §5), so that one odd key spoils no set."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        return ()
    found = (_key_in(one) for one in listed[:_KEYS_MAX] if isinstance(one, dict))
    return tuple(key for key in found if key is not None)


def _key_in(found: dict[str, Any]) -> VerificationKey | None:
    if found.get("use", "sig") != "sig":
        return None
    key_id, declared = found.get("kid", ""), found.get("alg")
    if not isinstance(key_id, str):
        return None
    try:
        key, algorithms = _imported(found)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        # What the library raises for a broken key depends on where it is broken.
        return None
    if declared is not None:
        algorithms = tuple(one for one in algorithms if one == declared)
    return VerificationKey(key_id, key, algorithms) if algorithms else None


def _imported(found: dict[str, Any]) -> tuple[Key, tuple[str, ...]]:
    """Only the public part: a provider that publishes its private key is no reason to hold it."""
    match found.get("kty"), found.get("crv"):
        case "RSA", _:
            # 3/4 of a byte a character (base64url)
            if len(found["n"]) > 1400 or len(found["e"]) > 2 * _RSA_EXPONENT_BYTES_MAX:
                raise ValueError
            bits = _bits(found["n"])
            if bits not in _RSA_BITS:
                raise ValueError
            return RSAKey.import_key({"kty": "RSA", "n": found["n"], "e": found["e"]}), ("RS256", "PS256")
        case "EC", "P-256":
            return ECKey.import_key({"kty": "EC", "crv": "P-256", "x": found["x"], "y": found["y"]}), (
                "ES256",
            )
        case "OKP", "Ed25519":
            return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": found["x"]}), ("EdDSA",)
        case _:
            raise ValueError


def _bits(number: str) -> int:
    return int.from_bytes(urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()
