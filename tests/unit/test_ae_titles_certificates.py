"""What a registration may ask of a certificate, and which certificates satisfy it."""

import hashlib

import pytest

from isocenter.features.ae_titles.certificates import checked_certificate, peer_certificate
from isocenter.features.ae_titles.entries import AeService, checked_services, services_of
from isocenter.kit.errors import InvalidInput

DER = b"a certificate's bytes"
DIGITS = hashlib.sha256(DER).hexdigest()
TOLD = {
    "subject": ((("organizationName", "Hospital"),), (("commonName", "CT1"),)),
    "subjectAltName": (("DNS", "ct1.hospital.example"), ("IP Address", "10.0.0.5"), ("email", "a@b.example")),
}


@pytest.mark.parametrize(
    ("binding", "satisfied"),
    [
        ("ct1", True),
        ("CT1.Hospital.Example", True),
        ("10.0.0.5", True),
        (DIGITS, True),
        ("SHA256:" + ":".join(DIGITS[n : n + 2].upper() for n in range(0, 64, 2)), True),
        ("Hospital", False),
        ("a@b.example", False),
        ("ct2", False),
        ("hospital.example", False),
        ("0" * 64, False),
    ],
)
def test_names_and_fingerprints(binding: str, satisfied: bool) -> None:
    assert peer_certificate(DER, TOLD).satisfies(checked_certificate(binding)) is satisfied


def test_a_name_does_not_pass_for_a_fingerprint() -> None:
    forged = peer_certificate(b"forged", {"subject": ((("commonName", f"SHA256:{DIGITS}"),),)})
    assert not forged.satisfies(checked_certificate(DIGITS))


@pytest.mark.parametrize("text", ["sha256:00", "x" * 254, "ct1\n", "tab\there", "ünïcode", "sha256:"])
def test_what_is_no_certificate(text: str) -> None:
    if text.strip() != text:
        assert checked_certificate(text) == text.strip()
        return
    with pytest.raises(InvalidInput):
        checked_certificate(text)


def test_services_are_named_and_kept_in_order() -> None:
    assert checked_services(["find", " STORE "]) == "store,find"
    assert services_of("store,find") == (AeService.STORE, AeService.FIND)
    for wrong in ([], [""], ["delete"], ["store", "query"]):
        with pytest.raises(InvalidInput):
            checked_services(wrong)
