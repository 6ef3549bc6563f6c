"""What a login, a name and a short name of an organisation may look like."""

from __future__ import annotations

import re
import unicodedata

from isocenter.kit.errors import InvalidInput

NAME_CHARACTERS_MAX = 200
_LOGIN = re.compile(r"[^\s\x00-\x1f\x7f]{3,254}")
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def folded_login(login: str) -> str:
    """As it is kept and looked up: people do not remember how they once wrote it. Empty when none can be."""
    folded = unicodedata.normalize("NFKC", login).strip().casefold()
    return folded if _LOGIN.fullmatch(folded) and folded.isprintable() else ""


def checked_login(login: str) -> str:
    folded = folded_login(login)
    if not folded:
        raise InvalidInput(
            "A login name has 3 to 254 characters and no spaces.",
            code="invalid-login",
            remedy="An e-mail address is a good one.",
        )
    return folded


def checked_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name).strip()
    if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidInput(
            f"A name has at most {NAME_CHARACTERS_MAX} printable characters.", code="invalid-name"
        )
    return name


def checked_slug(slug: str) -> str:
    if not _SLUG.fullmatch(slug):
        raise InvalidInput(
            "An organisation's short name has 1 to 63 lower-case letters, digits and hyphens.",
            code="invalid-slug",
            remedy="Such as 'st-marys'.",
        )
    return slug
