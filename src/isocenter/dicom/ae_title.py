"""What an AE title may look like (PS3.5 §6.2)."""

from __future__ import annotations

import re

from isocenter.kit.errors import InvalidInput

# The default repertoire without backslash and control characters, 16 characters at most.
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}", re.ASCII)


def checked_title(text: str) -> str:
    """The title without its insignificant leading and trailing spaces. Raises InvalidInput."""
    title = text.strip(" ")
    if not is_ae_title(title):
        raise InvalidInput(
            f"{text[:40]!r} is no AE title.",
            code="invalid-ae-title",
            remedy="An AE title has 1 to 16 printable ASCII characters and no backslash (PS3.5 §6.2).",
        )
    return title


def is_ae_title(text: str) -> bool:
    """Whether this, without padding, may be an AE title."""
    return bool(_AE_TITLE.fullmatch(text)) and text == text.strip(" ")
