"""URLs that open one object for a while, for the stores that have no service of their own to sign them.

``{url_base}/objects/{key}?expires={unix seconds}&signature={64 hex digits}``; the signature is
HMAC-SHA256 over the key, a line feed, and the expiry. A key holds no line feed (``keys.py``), so no two
pairs make the same message.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

from isocenter.kit.errors import InvalidInput, Unsupported

# S3 signs for seven days at most; what one store refuses, none should grant.
EXPIRES_S_MAX = 7 * 24 * 3600
SIGNING_KEY_BYTES_MIN = 16


def check_expiry(expires_s: int) -> None:
    """Raises InvalidInput (``invalid-expiry``) outside of 1 s to 7 days."""
    if not 0 < expires_s <= EXPIRES_S_MAX:
        raise InvalidInput(
            f"a link cannot be valid for {expires_s} seconds",
            code="invalid-expiry",
            remedy=f"Choose between 1 and {EXPIRES_S_MAX} seconds (7 days).",
        )


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """``url_base`` is this server as its clients reach it. Where either is missing, nothing is signed."""

    url_base: str | None = None
    signing_key: bytes | None = None

    def __post_init__(self) -> None:
        if self.signing_key is not None and len(self.signing_key) < SIGNING_KEY_BYTES_MIN:
            raise InvalidInput(
                "the key that signs object links is too short to keep anybody out",
                code="weak-signing-key",
                remedy=f"Use at least {SIGNING_KEY_BYTES_MIN} random bytes.",
            )

    def sign(self, key: str, *, expires_s: int, now: datetime) -> str:
        """Raises Unsupported (``unsigned-store``) when the store was given nothing to sign with."""
        check_expiry(expires_s)
        if self.url_base is None or self.signing_key is None:
            raise Unsupported(
                "this object store hands out no links",
                code="unsigned-store",
                remedy="Give the store the server's public URL and a signing key.",
            )
        expires = int(now.timestamp()) + expires_s
        signature = _digest(self.signing_key, key, expires)
        return f"{self.url_base.rstrip('/')}/objects/{key}?expires={expires}&signature={signature}"

    def verify(self, key: str, expires: int, signature: str, now: datetime) -> bool:
        """Whether this server signed that very link and it is still valid; in constant time."""
        if self.signing_key is None or not signature.isascii():
            return False
        genuine = hmac.compare_digest(_digest(self.signing_key, key, expires), signature)
        return genuine and now.timestamp() < expires


def _digest(signing_key: bytes, key: str, expires: int) -> str:
    return hmac.new(signing_key, f"{key}\n{expires}".encode(), hashlib.sha256).hexdigest()
