"""A certificate for a trial: nobody but this server vouches for it."""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isocenter.kit.errors import Conflict, InvalidInput, Unavailable
from isocenter.platform.tls.profiles import TlsFiles

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*")
_BEFORE = timedelta(minutes=5)  # clocks of machines differ
_COMMON_NAME_CHARS_MAX = 64


def make_self_signed(
    folder: Path, names: list[str], now: datetime, *, days: int, replace: bool = False
) -> TlsFiles:
    """Write ``isocenter.crt`` and ``isocenter.key`` (mode 0600) into the folder.

    ``names``: host names and addresses that clients call the server by. Raises InvalidInput, Conflict where
    files are there and ``replace`` is not said, Unavailable where they cannot be written.
    """
    files = TlsFiles(folder / "isocenter.crt", folder / "isocenter.key")
    if not replace and (files.certificate.exists() or files.key.exists()):
        raise Conflict(
            f"There is a certificate in {folder} already.",
            code="certificate-exists",
            remedy="Choose another folder with --out, or say --replace.",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(key, [_general_name(name) for name in names], names[0], now, days)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        form = (
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write(files.key, key.private_bytes(*form), 0o600)
        _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise Unavailable(
            f"The certificate cannot be written to {folder} ({error.strerror}).",
            code="certificate-not-written",
            remedy="Choose another folder with --out, or make this one writable.",
        ) from error
    return files


def _sign(
    key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], common: str, now: datetime, days: int
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:_COMMON_NAME_CHARS_MAX])])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,  # so that clients may hold it as the authority that it is for itself
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # we also call others
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if len(name) > 253 or not _HOST.fullmatch(name):
        raise InvalidInput(
            "A certificate is made out to host names and addresses, and one that was given is neither.",
            code="invalid-host",
            remedy="For example: archive.hospital.example 192.0.2.7 localhost",
        )
    return x509.DNSName(name)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all: a server may be reading it."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
