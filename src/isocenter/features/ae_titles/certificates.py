"""A registration bound to a certificate: a calling AE title is what anybody may write into a request.

A binding is a subject's common name, one of its alternative names (DNS, address or URI), or the SHA-256
fingerprint of the whole certificate. Names count only as far as the server's authorities vouch for them;
the TLS layer has checked that before anything here is asked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isocenter.kit.errors import InvalidInput

_FINGERPRINT = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[!-~][ -~]{0,252}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What a peer has shown: its names, folded, and its fingerprint (``sha256:…``)."""

    fingerprint: str
    names: frozenset[str] = field(default_factory=frozenset)

    def satisfies(self, binding: str) -> bool:
        return binding == self.fingerprint or binding in self.names


def peer_certificate(der: bytes, told: Mapping[str, Any]) -> PeerCertificate:
    """From the certificate's bytes and what ``SSLSocket.getpeercert()`` says of it."""
    names = {value for part in told.get("subject", ()) for key, value in part if key == "commonName"}
    names |= {value for kind, value in told.get("subjectAltName", ()) if kind in {"DNS", "IP Address", "URI"}}
    # A name that looks like a fingerprint must not pass for one.
    folded = frozenset(name.lower() for name in names if not name.lower().startswith(_FINGERPRINT))
    return PeerCertificate(_FINGERPRINT + hashlib.sha256(der).hexdigest(), folded)


def checked_certificate(text: str) -> str:
    """The canonical text of a binding; empty stands for none. Raises InvalidInput."""
    text = text.strip().lower()
    if not text:
        return ""
    digits = text.removeprefix(_FINGERPRINT).replace(":", "")
    if _HEX.fullmatch(digits):
        return _FINGERPRINT + digits
    if text.startswith(_FINGERPRINT) or not _NAME.fullmatch(text):
        raise InvalidInput(
            f"{text[:60]!r} is no certificate's name and no SHA-256 fingerprint.",
            code="invalid-certificate",
            remedy="Write the subject's common name, one of its alternative names, or the 64 hexadecimal "
            "digits that 'openssl x509 -noout -fingerprint -sha256' prints.",
        )
    return text
