"""How values read in a terminal. A hostile object must not steer it."""

from __future__ import annotations

from typing import Any

SHOWN_CHARACTERS = 200


def plain(text: str, characters_max: int = SHOWN_CHARACTERS) -> str:
    """Without control characters, and no longer than that."""
    return "".join(one if one.isprintable() else "?" for one in text[:characters_max])


def value_text(attribute: dict[str, Any]) -> str:
    """The values of an attribute in DICOM JSON."""
    texts = (
        "=".join(map(str, value.values())) if isinstance(value, dict) else str(value)
        for value in attribute.get("Value", ())
    )
    return plain("\\".join(texts))


def counted(count: int, what: str, several: str = "") -> str:
    """``1 object``, ``2 objects``; ``several`` where that is not all there is to it."""
    return f"{count} {what if count == 1 else several or what + 's'}"
