"""Which keys an object may have.

The alphabet is what every back-end and every URL takes as it is, so that nothing is ever quoted: letters,
digits, ``_``, ``-`` and ``.``, but no segment starts with a dot. That keeps ``..`` out, and leaves names such
as ``.incoming`` and ``.health`` to the stores themselves.
"""

from __future__ import annotations

import re

from isocenter.kit.errors import InvalidInput

# 255 bytes a segment is what file systems take; 900 in all leaves room for a bucket prefix under S3's 1,024.
SEGMENT_CHARACTERS_MAX = 255
KEY_CHARACTERS_MAX = 900

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)


def check_key(key: str) -> str:
    """The key itself, when it is a legal one. Raises InvalidInput (``invalid-object-key``)."""
    if len(key) > KEY_CHARACTERS_MAX or _KEY.fullmatch(key) is None:
        raise InvalidInput(
            f"{key[:80]!r} cannot be an object's key",
            code="invalid-object-key",
            remedy="Keys are relative and made of A-Z a-z 0-9 _ - . and /; no segment is empty or starts "
            f"with a dot; at most {KEY_CHARACTERS_MAX} characters, {SEGMENT_CHARACTERS_MAX} a segment.",
        )
    return key


def check_prefix(prefix: str) -> str:
    """A folder name without its closing slash; empty for everything. Raises InvalidInput."""
    folder = prefix.removesuffix("/")
    return check_key(folder) if folder else ""


def check_range(start: int, length: int | None) -> None:
    """Raises InvalidInput (``invalid-range``) for negative numbers."""
    if start < 0 or (length is not None and length < 0):
        raise InvalidInput(f"there are no {length} bytes from {start} on", code="invalid-range")
