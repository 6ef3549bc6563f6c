"""Unique identifiers (PS3.5 §9 and annex B)."""

from __future__ import annotations

import re
from uuid import UUID, uuid4

UID_CHARS_MAX = 64

_VALID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*", re.ASCII)


def is_valid_uid(text: str) -> bool:
    """Whether ``text`` (without padding) obeys PS3.5 §9.1."""
    return len(text) <= UID_CHARS_MAX and _VALID.fullmatch(text) is not None


def uid_problem(text: str) -> str | None:
    """The first rule of PS3.5 §9.1 that ``text`` breaks, worded to follow "the UID"; else ``None``."""
    if is_valid_uid(text):
        return None
    if not text:
        return "is empty"
    if len(text) > UID_CHARS_MAX:
        return f"has {len(text)} characters, more than the {UID_CHARS_MAX} allowed"
    if not set(text) <= set("0123456789."):
        return "has characters other than digits and dots"
    if "" in text.split("."):
        return "has an empty component"
    return "has a component that starts with 0"


def has_leading_zeros_only(text: str) -> bool:
    """Whether the only rule that ``text`` breaks is the one on leading zeros (found in real objects)."""
    return uid_problem(text) == "has a component that starts with 0"


def generate_uid(uuid: UUID | None = None) -> str:
    """A UID under the root 2.25 (PS3.5 §B.2), from ``uuid`` or a fresh random one."""
    return f"2.25.{(uuid or uuid4()).int}"
