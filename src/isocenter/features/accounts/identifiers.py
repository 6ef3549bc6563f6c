"""Ids of what an organisation's people have. They are shown, and numbers that count would tell one
organisation how many people, logins and keys the others get."""

from __future__ import annotations

import secrets

_BITS = 52
"""JavaScript's numbers hold 53 (RFC 8259 §6)."""


def new_id() -> int:
    """Random, at least 1. Two of a million alike: one chance in 9,000; the database refuses the second."""
    return secrets.randbits(_BITS) or 1
