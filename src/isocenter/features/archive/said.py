"""A person's word about what the archive holds: who, why, when."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.kit.errors import InvalidInput

REASON_CHARACTERS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Said:
    by: str
    reason: str
    now_us: int


def check_reason(reason: str) -> None:
    """Raises InvalidInput for a reason or note that is too long or no text."""
    if len(reason) > REASON_CHARACTERS_MAX or not is_storable(reason):
        raise InvalidInput(
            f"A reason is text of at most {REASON_CHARACTERS_MAX} characters.", code="invalid-value"
        )


def is_storable(text: str) -> bool:
    """PostgreSQL keeps no NUL; half a pair of surrogates is no character."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
