"""WebAuthn's two ceremonies, making a passkey and using it (Level 3 §7.1, §7.2); knows no database.

``credential`` is what a page gets of ``PublicKeyCredential.toJSON()``: whoever sends it may have written
anything.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.kit.errors import Forbidden, Unsupported

CHALLENGE_VALID_S = 300
_CREDENTIAL_ID_BYTES_MAX = 1023  # §7.1 step 25
_NAME_OF_US = "Isocenter"
_ATTESTATIONS = ("none", "packed")  # we ask for none; an authenticator may sign with the new key itself
_CREATED, _USED = "webauthn.create", "webauthn.get"

# Nobody has the private key of this one (COSE, ES256): a passkey that is not known costs the same work.
_NOBODYS_KEY = base64.b64decode(
    "pQECAyYgASFYICaI8rNVnQW6s6v7dtbbFT//m6UZRrthEAUzI7MdzklBIlgg1ebVOwBEXh8/FYOECi+084qrOylcqTDLa/AO2t2uwzI="
)


class Unverified(Exception):
    """Caught by the use cases: ``why`` is for the audit trail, never for whoever asked."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class WrongOrigin(Forbidden):
    """Said openly: it tells nothing but what the page knows, and whoever set the server up has to see it."""

    default_code = "passkey-wrong-origin"

    def __init__(self, origins: Sequence[str]) -> None:
        super().__init__(
            "Passkeys of this server cannot be used from this page.",
            remedy=f"Open {origins[0]} instead; an operator names further pages in passkey_origins.",
        )


class NoPasskeysHere(Unsupported):
    default_code = "passkeys-unavailable"

    def __init__(self) -> None:
        super().__init__(
            "Browsers offer no passkeys for this server: they ask for a name and HTTPS.",
            remedy="An operator sets public_url to the https:// address, with a name, that people open.",
        )


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """``id``: the domain that passkeys belong to. ``origins``: of the pages that may use them."""

    id: str
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a browser needs to find a passkey again."""

    credential_id: str
    transports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewCredential:
    """``public_key`` is COSE (RFC 9052 §7)."""

    credential_id: str
    public_key: bytes
    sign_count: int
    transports: tuple[str, ...]
    backup_eligible: bool
    backed_up: bool


@dataclass(frozen=True, slots=True)
class Assertion:
    sign_count: int
    backup_eligible: bool
    backed_up: bool


class Ceremonies:
    """Without a relying party each method raises NoPasskeysHere."""

    def __init__(self, relying_party: RelyingParty | None) -> None:
        self._relying_party = relying_party

    def listen_at(self, port: int) -> None:
        """The port that was taken where the settings left it open (0)."""
        if self._relying_party is not None:
            origins = tuple(
                f"{one[:-1]}{port}" if one.endswith(":0") else one for one in self._relying_party.origins
            )
            self._relying_party = RelyingParty(self._relying_party.id, origins)

    def check_available(self) -> None:
        """Raises NoPasskeysHere."""
        _ = self._party

    def creation_options(
        self, challenge: bytes, *, user_handle: bytes, login: str, name: str, known: Sequence[Descriptor]
    ) -> dict[str, Any]:
        """``PublicKeyCredentialCreationOptionsJSON``; ``known`` are made no second time."""
        from webauthn import generate_registration_options
        from webauthn.helpers import options_to_json_dict
        from webauthn.helpers.structs import (
            AuthenticatorSelectionCriteria,
            ResidentKeyRequirement,
            UserVerificationRequirement,
        )

        options = generate_registration_options(
            rp_id=self._party.id,
            rp_name=_NAME_OF_US,
            user_id=user_handle,
            user_name=login,
            user_display_name=name or login,
            challenge=challenge,
            timeout=CHALLENGE_VALID_S * 1000,
            # Preferred: a key that cannot do both is a second factor all the same.
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED,
                user_verification=UserVerificationRequirement.PREFERRED,
            ),
        )
        return options_to_json_dict(options) | {"excludeCredentials": _listed(known)}

    def request_options(
        self, challenge: bytes, *, allowed: Sequence[Descriptor] = (), verification: bool
    ) -> dict[str, Any]:
        """``PublicKeyCredentialRequestOptionsJSON``; without ``allowed`` the person chooses."""
        return {
            "challenge": _encoded(challenge),
            "timeout": CHALLENGE_VALID_S * 1000,
            "rpId": self._party.id,
            "allowCredentials": _listed(allowed),
            "userVerification": "required" if verification else "discouraged",
        }

    def challenge_in(self, credential: Mapping[str, Any], *, creating: bool) -> bytes:
        """What the page's browser signed. Raises WrongOrigin, Unverified."""
        origins = self._party.origins
        try:
            told = orjson.loads(_decoded(credential["response"]["clientDataJSON"]))
            challenge, origin = _decoded(told["challenge"]), told["origin"]
            kind, embedded = told["type"], bool(told.get("crossOrigin"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unverified("client data") from None
        if origin not in origins or embedded:
            raise WrongOrigin(origins)
        if kind != (_CREATED if creating else _USED):
            raise Unverified("type of the ceremony")
        return challenge

    def created(self, credential: Mapping[str, Any], challenge: bytes) -> NewCredential:
        """Raises Unverified."""
        from webauthn import verify_registration_response
        from webauthn.helpers import decode_credential_public_key, decoded_public_key_to_cryptography
        from webauthn.helpers import parse_attestation_object as parsed
        from webauthn.helpers.structs import CredentialDeviceType

        try:
            if parsed(_decoded(credential["response"]["attestationObject"])).fmt not in _ATTESTATIONS:
                raise Unverified("an attestation that was not asked for")
            made = verify_registration_response(
                credential=dict(credential),
                expected_challenge=challenge,
                expected_rp_id=self._party.id,
                expected_origin=list(self._party.origins),
            )
            decoded_public_key_to_cryptography(decode_credential_public_key(made.credential_public_key))
        except Unverified:
            raise
        except Exception as error:  # what the library raises for hostile bytes depends on where they break it
            raise Unverified(f"registration ({type(error).__name__})") from error
        if len(made.credential_id) > _CREDENTIAL_ID_BYTES_MAX:
            raise Unverified("length of the credential id")
        if _encoded(made.credential_id) != credential["id"]:
            raise Unverified("credential id")
        return NewCredential(
            _encoded(made.credential_id),
            made.credential_public_key,
            made.sign_count,
            tuple(credential["response"].get("transports") or ()),
            made.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
            made.credential_backed_up,
        )

    def used(
        self,
        credential: Mapping[str, Any],
        challenge: bytes,
        public_key: bytes | None,
        *,
        verification: bool,
    ) -> Assertion:
        """``public_key``: the passkey's; None for one that nobody knows, which takes as long.

        The sign count is the caller's to compare, after the signature. Raises Unverified.
        """
        from webauthn import verify_authentication_response
        from webauthn.helpers.structs import CredentialDeviceType

        try:
            checked = verify_authentication_response(
                credential=dict(credential),
                expected_challenge=challenge,
                expected_rp_id=self._party.id,
                expected_origin=list(self._party.origins),
                credential_public_key=public_key or _NOBODYS_KEY,
                credential_current_sign_count=0,
                require_user_verification=verification,
            )
        except Exception as error:  # as above
            why = str(error) if type(error).__module__.startswith("webauthn.") else type(error).__name__
            raise Unverified(f"assertion ({why[:100]})") from error
        return Assertion(
            checked.new_sign_count,
            checked.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
            checked.credential_backed_up,
        )

    @property
    def _party(self) -> RelyingParty:
        if self._relying_party is None:
            raise NoPasskeysHere
        return self._relying_party


def user_handle_in(credential: Mapping[str, Any]) -> bytes | None:
    """Whom the authenticator made it for; None where it does not say. Raises Unverified."""
    handle = credential["response"].get("userHandle")
    try:
        return None if handle is None else _decoded(handle)
    except (ValueError, TypeError):
        raise Unverified("user handle") from None


def _listed(descriptors: Sequence[Descriptor]) -> list[dict[str, Any]]:
    return [
        {"type": "public-key", "id": one.credential_id}
        | ({"transports": list(one.transports)} if one.transports else {})
        for one in descriptors
    ]


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """Base64url without padding (§1.2). Raises ValueError, TypeError."""
    if not isinstance(text, str):
        raise TypeError("no text")
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("no base64url") from error
