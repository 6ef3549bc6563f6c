"""Which TLS versions and cipher suites a door speaks, and contexts made of certificate files.

DICOM: PS3.15 B.12 (BCP 195: RFC 8996 and RFC 9325), B.13 (the same, restricted to a closed list), and the
retired B.10 (non-downgrading BCP 195) for equipment that knows finite-field Diffie-Hellman only.
TLS 1.3 is always offered too; its suites are all sound and OpenSSL's own.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from isocenter.kit.errors import InvalidInput

_RECOMMENDED = (  # RFC 9325 §4.2
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
_MODIFIED = (
    *_RECOMMENDED,
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-CCM",
)
_NON_DOWNGRADING = (*_RECOMMENDED, "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256")

_SECURITY_LEVEL = "@SECLEVEL=2"
"""OpenSSL's name for: no RSA or DH key below 2048 bits, no ECC key below 224, no SHA-1 in certificates."""


class DicomProfile(StrEnum):
    BCP195 = "bcp195"
    MODIFIED = "bcp195-modified"
    NON_DOWNGRADING = "bcp195-nd"


_SUITES = {
    DicomProfile.BCP195: _RECOMMENDED,
    DicomProfile.MODIFIED: _MODIFIED,
    DicomProfile.NON_DOWNGRADING: _NON_DOWNGRADING,
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the chain, leaf first; its key; the authorities whose certificates callers must show."""

    certificate: Path
    key: Path
    authorities: Path | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """``suites`` are OpenSSL's names, for TLS 1.2; ``application`` is the ALPN name, if there is one."""

    minimum: ssl.TLSVersion
    suites: tuple[str, ...]
    application: str = ""

    def context(self, *, asks_callers: bool) -> ssl.SSLContext:
        """A server's context without a certificate; ``asks_callers``: callers must show one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self.minimum
        context.set_ciphers(":".join(self.suites) + ":" + _SECURITY_LEVEL)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        if self.application:
            context.set_alpn_protocols([self.application])
        if asks_callers:
            context.verify_mode = ssl.CERT_REQUIRED
            # Who resumes a session shows no certificate. With TLS 1.2 one can still be resumed from OpenSSL's
            # memory, for five minutes; Python's ssl has no switch for that.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context

    def loaded(self, files: TlsFiles) -> ssl.SSLContext:
        """Raises InvalidInput, naming what cannot be used."""
        context = self.context(asks_callers=files.authorities is not None)
        try:
            context.load_cert_chain(files.certificate, files.key, password=_no_passphrase)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise _unusable(f"The certificate {files.certificate} and its key {files.key}", error) from error
        if files.authorities is not None:
            try:
                context.load_verify_locations(files.authorities)
            except (ssl.SSLError, OSError) as error:
                raise _unusable(f"The authorities in {files.authorities}", error) from error
        return context


def https_profile(minimum: str) -> Profile:
    """``minimum`` is ``1.3`` or ``1.2``."""
    version = ssl.TLSVersion.TLSv1_2 if minimum == "1.2" else ssl.TLSVersion.TLSv1_3
    return Profile(version, _RECOMMENDED, application="http/1.1")


def dicom_profile(profile: DicomProfile) -> Profile:
    return Profile(ssl.TLSVersion.TLSv1_2, _SUITES[profile])


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal for the passphrase of a key that has one, and wait for ever."""
    raise ValueError("the key has a passphrase")


def _unusable(what: str, error: Exception) -> InvalidInput:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "not PEM").replace("_", " ").lower()
    elif isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
    else:
        reason = str(error)
    return InvalidInput(
        f"{what} cannot be used ({reason}).",
        code="tls-files-unusable",
        remedy="They are PEM files, the key belongs to the first certificate and has no passphrase; "
        "'isocenter tls show' says what is wrong.",
    )
