"""Why pixels cannot be given in another form. As it is stored, the object is there."""

from __future__ import annotations

from isocenter.kit.errors import Unsupported


class PixelDataBroken(Unsupported):
    """The pixels contradict their description, or what their transfer syntax demands of them."""

    default_code = "pixel-data-broken"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The pixel data of this object cannot be decoded: {why}.",
            remedy="Ask for it as it is stored (transfer-syntax=*); have it sent again by what made it.",
        )


class PixelDataUnsupported(Unsupported):
    """The pixels may be sound; this server has no codec for them, or the target cannot hold them."""

    default_code = "pixel-data-unsupported"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The pixel data of this object cannot be converted: {why}.",
            remedy="Ask for it as it is stored (transfer-syntax=*) or in another transfer syntax.",
        )


def in_words(error: Exception) -> str:
    """A library's own words, short, on one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return f"'{said[:120]}'"
