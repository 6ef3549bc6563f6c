"""Whatever bytes somebody sends as a passkey: they are refused in one way, and quickly."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.features.accounts.ceremonies import Ceremonies, Unverified, WrongOrigin
from services.accounts import RELYING_PARTY
from services.authenticator import Authenticator, Lies, decoded, encoded

CEREMONIES = Ceremonies(RELYING_PARTY)
CHALLENGE = b"\5" * 56
_OPTIONS = {"rp": {"id": "localhost"}, "user": {"id": "AAAA"}, "challenge": encoded(CHALLENGE)}
_ASKED = {"rpId": "localhost", "allowCredentials": [], "challenge": encoded(CHALLENGE)}


def made(attestation: bytes | None = None) -> tuple[Authenticator, dict[str, object]]:
    device = Authenticator()
    return device, device.create(_OPTIONS, Lies(attestation=attestation))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Some bytes are others, some are missing, some are more."""
    broken = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(broken) - 1))
        broken[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(broken)


_WHOLE = decoded(str(made()[1]["response"]["attestationObject"]))  # type: ignore[index]


@given(st.binary(max_size=200) | damaged(_WHOLE) | st.binary(max_size=40).map(cbor2.dumps))
def test_any_bytes_as_an_attestation(attestation: bytes) -> None:
    _, credential = made(attestation)
    with pytest.raises(Unverified):  # its id is another one's at best
        CEREMONIES.created(credential, CHALLENGE)


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_any_bytes_as_an_assertion(data: bytes, signature: bytes) -> None:
    device, _ = made()
    credential = device.get(_ASKED)
    credential["response"] |= {"authenticatorData": encoded(data), "signature": encoded(signature)}
    for key in (None, data):
        with pytest.raises(Unverified):
            CEREMONIES.used(credential, CHALLENGE, key, verification=False)


@given(
    st.binary(max_size=200)
    | damaged(b'{"type":"webauthn.get","challenge":"BQUF","origin":"http://localhost:8080"}')
)
def test_any_bytes_as_client_data(told: bytes) -> None:
    device, _ = made()
    credential = device.get(_ASKED)
    credential["response"]["clientDataJSON"] = encoded(told)
    try:
        assert isinstance(CEREMONIES.challenge_in(credential, creating=False), bytes)
    except (Unverified, WrongOrigin):
        return


@given(st.text(max_size=50))
def test_any_text_as_base64(text: str) -> None:
    device, _ = made()
    credential = device.get(_ASKED)
    for name in ("clientDataJSON", "authenticatorData", "signature"):
        broken = credential | {"response": credential["response"] | {name: text}}
        with pytest.raises((Unverified, WrongOrigin)):
            CEREMONIES.challenge_in(broken, creating=False)
            CEREMONIES.used(broken, CHALLENGE, None, verification=False)
