"""An authenticator and its browser in software: makes and uses passkeys (WebAuthn Level 3), lies on demand.

What it answers is what ``PublicKeyCredential.toJSON()`` gives a page. ``Lies`` replaces a part of it with
what an attacker would send there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

ORIGIN = "http://localhost:8080"
_PRESENT, _VERIFIED, _ELIGIBLE, _BACKED_UP, _ATTESTED = 1, 4, 8, 16, 64


@dataclass(frozen=True)
class Lies:
    """``None``: the truth."""

    origin: str | None = None
    rp_id: str | None = None
    challenge: str | None = None
    type: str | None = None
    cross_origin: bool = False
    present: bool = True
    verified: bool = True
    backed_up: bool | None = None
    sign_count: int | None = None
    user_handle: str | None = None
    no_user_handle: bool = False
    credential_id: str | None = None
    key: ec.EllipticCurvePrivateKey | None = None
    attestation: bytes | None = None


@dataclass
class _Passkey:
    key: ec.EllipticCurvePrivateKey
    user_handle: str
    sign_count: int = 0


@dataclass
class Authenticator:
    """``counts``: it has a counter. ``backed_up``: it keeps copies elsewhere. ``signs_itself``:
    it attests a new passkey by that passkey's own key (§8.2, self attestation)."""

    origin: str = ORIGIN
    counts: bool = True
    backed_up: bool = False
    signs_itself: bool = False
    passkeys: dict[str, _Passkey] = field(default_factory=dict)

    def create(self, options: dict[str, Any], lies: Lies = Lies()) -> dict[str, Any]:
        key, credential_id = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(32)
        name = lies.credential_id or encoded(credential_id)
        self.passkeys[name] = _Passkey(key, options["user"]["id"])
        attested = b"\0" * 16 + len(decoded(name)).to_bytes(2, "big") + decoded(name) + cose(key)
        data = self._authenticator_data(options["rp"]["id"], 0, lies, _ATTESTED) + attested
        client_data = self._client_data("webauthn.create", options["challenge"], lies)
        statement: dict[str, Any] = {"fmt": "none", "attStmt": {}}
        if self.signs_itself:
            signature = _signed(lies.key or key, data, client_data)
            statement = {"fmt": "packed", "attStmt": {"alg": -7, "sig": signature}}
        whole = cbor2.dumps(statement | {"authData": data})
        response = {
            "clientDataJSON": client_data,
            "attestationObject": encoded(whole if lies.attestation is None else lies.attestation),
            "transports": ["internal", "hybrid"],
            "authenticatorData": encoded(data),
            "publicKeyAlgorithm": -7,
        }
        return _credential(name, response)

    def get(self, options: dict[str, Any], lies: Lies = Lies()) -> dict[str, Any]:
        allowed = [one["id"] for one in options["allowCredentials"] if one["id"] in self.passkeys]
        name = allowed[0] if allowed else next(iter(self.passkeys))
        kept = self.passkeys[name]
        kept.sign_count += self.counts
        count = kept.sign_count if lies.sign_count is None else lies.sign_count
        data = self._authenticator_data(options["rpId"], count, lies)
        client_data = self._client_data("webauthn.get", options["challenge"], lies)
        response = {
            "clientDataJSON": client_data,
            "authenticatorData": encoded(data),
            "signature": encoded(_signed(lies.key or kept.key, data, client_data)),
            "userHandle": None if lies.no_user_handle else lies.user_handle or kept.user_handle,
        }
        return _credential(lies.credential_id or name, response)

    def copy(self) -> Authenticator:
        """As a thief would have it: it goes on counting from here by itself."""
        return replace(self, passkeys={name: replace(one) for name, one in self.passkeys.items()})

    def _client_data(self, kind: str, challenge: str, lies: Lies) -> str:
        told = {
            "type": lies.type or kind,
            "challenge": challenge if lies.challenge is None else lies.challenge,
            "origin": lies.origin or self.origin,
            "crossOrigin": lies.cross_origin,
        }
        return encoded(json.dumps(told).encode())

    def _authenticator_data(self, rp_id: str, count: int, lies: Lies, flags: int = 0) -> bytes:
        backed_up = self.backed_up if lies.backed_up is None else lies.backed_up
        flags |= _PRESENT * lies.present | _VERIFIED * lies.verified
        flags |= (_ELIGIBLE | _BACKED_UP) * backed_up
        return (
            hashlib.sha256((lies.rp_id or rp_id).encode()).digest()
            + bytes([flags])
            + count.to_bytes(4, "big")
        )


def cose(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key, ES256 on P-256 (RFC 9053 §7.1)."""
    numbers = key.public_key().public_numbers()
    x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
    return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})


def _signed(key: ec.EllipticCurvePrivateKey, data: bytes, client_data: str) -> bytes:
    return key.sign(data + hashlib.sha256(decoded(client_data)).digest(), ec.ECDSA(SHA256()))


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _credential(name: str, response: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": name,
        "rawId": name,
        "type": "public-key",
        "authenticatorAttachment": "platform",
        "clientExtensionResults": {},
        "response": response,
    }
