"""What a certificate file says, and what is wrong with it in words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from isocenter.kit.errors import InvalidInput
from isocenter.platform.tls.profiles import TlsFiles

EXPIRES_SOON = timedelta(days=30)
_FILE_BYTES_MAX = 1 << 20  # a path that names a device or an archive by mistake


@dataclass(frozen=True, slots=True)
class Facts:
    """One certificate. ``names``: DNS names and addresses it is valid for (RFC 6125: the subject is not)."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins: datetime
    expires: datetime
    key: str
    sha256: str


def read_chain(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, in its order. Raises InvalidInput."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise InvalidInput(
            f"{path} holds no PEM certificate.",
            code="tls-files-unusable",
            remedy="A certificate begins with -----BEGIN CERTIFICATE-----.",
        ) from error


def facts_of(certificate: x509.Certificate) -> Facts:
    return Facts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_names(certificate),
        begins=certificate.not_valid_before_utc,
        expires=certificate.not_valid_after_utc,
        key=_key_in_words(certificate),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def problems_of(files: TlsFiles, now: datetime, *, with_key: bool = True) -> list[str]:
    """Everything that is or will soon be wrong, a sentence each.

    Raises InvalidInput where a file cannot be read.
    """
    chain = read_chain(files.certificate)
    problems = [_validity(certificate, now) for certificate in chain]
    if with_key:
        problems.append(_key_problem(files, chain[0]))
    problems.append(chain_problem(chain))
    if not _names(chain[0]):
        problems.append("The certificate names no host (subjectAltName), so that browsers refuse it.")
    return [problem for problem in problems if problem]


def chain_problem(chain: list[x509.Certificate]) -> str:
    """Why the chain is none: after each certificate comes the one that signed it (RFC 5246 §7.4.2)."""
    for certificate, issuer in itertools.pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            return f"{_name(certificate)} was not issued by {_name(issuer)}, which follows it in the file."
    return ""


def _validity(certificate: x509.Certificate, now: datetime) -> str:
    name, expires = _name(certificate), certificate.not_valid_after_utc
    if now < certificate.not_valid_before_utc:
        return f"{name} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only."
    if now > expires:
        return f"{name} expired on {expires:%Y-%m-%d}."
    if expires - now <= EXPIRES_SOON:
        return f"{name} expires on {expires:%Y-%m-%d}, in {(expires - now).days} days."
    return ""


def _key_problem(files: TlsFiles, leaf: x509.Certificate) -> str:
    try:
        key = serialization.load_pem_private_key(_read(files.key), password=None)
    except TypeError:
        return f"The key {files.key} has a passphrase; the server cannot be asked for one."
    except ValueError:
        return f"{files.key} holds no PEM key."
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        return f"The key {files.key} does not belong to {_name(leaf)}."
    return ""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read ({error.strerror}).",
            code="tls-files-unusable",
            remedy="Check the path and who may read it.",
        ) from error


def _name(certificate: x509.Certificate) -> str:
    return f"The certificate {certificate.subject.rfc4514_string() or certificate.serial_number}"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    hosts = extension.get_values_for_type(x509.DNSName)
    return (*hosts, *map(str, extension.get_values_for_type(x509.IPAddress)))


def _key_in_words(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size} bits"
    return type(key).__name__.removesuffix("PublicKey").lstrip("_")
