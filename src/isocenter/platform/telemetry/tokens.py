"""Patients in logs: the same patient gets the same token, and only who holds the installation's key can tell
whose it is. HMAC-SHA-256, since a plain digest of a short number is found by trying all of them."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isocenter.kit.errors import InvalidInput, Unavailable

KEY_BYTES = 32
_TOKEN_DIGITS = 16  # 64 bits: a million patients share one once in 37 million installations
_TOKEN = re.compile(rf"pt-[0-9a-f]{{{_TOKEN_DIGITS}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LoggedPatient:
    """A value for a log line: ``log.warning("…", patient_token=LoggedPatient(1, "", "4711"))``. Whatever
    writes it out without knowing the key shows nothing of it."""

    organization_id: int
    issuer: str = field(repr=False)
    patient_id: str = field(repr=False)

    def __str__(self) -> str:
        return repr(self)


class PatientTokens:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def patient_token(self, organization_id: int, issuer: str, patient_id: str) -> str:
        """``pt-`` and 16 hex digits; empty for a patient without an ID."""
        if not patient_id:
            return ""
        # The lengths stand before the texts: no other issuer and ID make the same message.
        message = f"{organization_id}\0{len(issuer)}\0{issuer}{patient_id}".encode("utf-8", "surrogatepass")
        return f"pt-{hmac.new(self._key, message, hashlib.sha256).hexdigest()[:_TOKEN_DIGITS]}"

    def __call__(self, _logger: Any, _method: str, event: Any) -> Any:
        """A structlog processor."""
        for name, value in event.items():
            if isinstance(value, LoggedPatient):
                event[name] = self.patient_token(value.organization_id, value.issuer, value.patient_id)
            elif isinstance(value, (list, tuple)) and any(isinstance(one, LoggedPatient) for one in value):
                event[name] = ",".join(
                    self.patient_token(one.organization_id, one.issuer, one.patient_id) for one in value
                )
        return event


def check_token(text: str) -> str:
    """Raises InvalidInput for what is no token."""
    if not _TOKEN.fullmatch(text):
        raise InvalidInput(
            "This is no patient's token.", code="invalid-token", remedy="One looks like pt-4f7a09c3d81e25b6."
        )
    return text


def load_or_make_token_key(file: Path) -> bytes:
    """The installation's key; made at the first start, by whichever process is first."""
    try:
        with suppress(FileNotFoundError):
            return _checked(file.read_bytes(), file)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as written:
                written.write(secrets.token_bytes(KEY_BYTES))
                written.flush()
                os.fsync(written.fileno())
            with suppress(FileExistsError):
                os.link(made, file)  # never over another process's
        finally:
            made.unlink()
        return _checked(file.read_bytes(), file)
    except OSError as error:
        raise Unavailable(
            f"The key of the log's tokens, {file}, cannot be read or made ({error.strerror}).",
            remedy="Make the data folder writable for the user that Isocenter runs as.",
        ) from error


def _checked(key: bytes, file: Path) -> bytes:
    if len(key) != KEY_BYTES:
        raise InvalidInput(
            f"{file} is no key of {KEY_BYTES} bytes.",
            code="invalid-token-key",
            remedy="Restore it from a backup, or remove it: then patients get new tokens.",
        )
    return key
