"""What somebody has to show: random words, and the hashes that are kept of them.

A plain SHA-256 is enough here: with 256 random bits there is nothing to guess, as there is with passwords.
"""

from __future__ import annotations

import hashlib
import secrets

_BYTES = 32


def random_word(prefix: str = "") -> str:
    return prefix + secrets.token_urlsafe(_BYTES)


def hash_of(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).hexdigest()
