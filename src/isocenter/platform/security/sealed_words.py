"""Secrets that have to be read again, encrypted at rest (AES-256-GCM) under a key of the installation's."""

from __future__ import annotations

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from isocenter.kit.errors import InternalError

_NONCE_BYTES = 12


class SealedWords:
    """``key``: 32 bytes. ``bound_to`` names the row: copied into another one a secret opens nothing."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def sealed(self, word: str, bound_to: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.b64encode(
            nonce + self._cipher.encrypt(nonce, word.encode(), bound_to.encode())
        ).decode()

    def opened(self, kept: str, bound_to: str, *, what: str, remedy: str) -> str:
        """Raises InternalError for what another installation key sealed, saying ``what`` that is."""
        try:
            raw = base64.b64decode(kept)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise InternalError(
                f"{what} cannot be read: it was made under another installation key.",
                code="another-installation-key",
                remedy=remedy,
            ) from error
