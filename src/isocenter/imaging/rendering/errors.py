"""Why something is not shown, beyond what ails its pixels (`imaging.errors`)."""

from __future__ import annotations

from isocenter.kit.errors import InvalidInput, Unsupported


class ViewportOutside(InvalidInput):
    default_code = "viewport-outside"

    def __init__(self) -> None:
        super().__init__(
            "The region that the request asks for lies outside of the image.",
            remedy="sx, sy, sw and sh count the image's own columns and rows, from its upper left corner.",
        )


class NoContentTree(Unsupported):
    """The object is a report by its class, and has nothing that could be read out."""

    default_code = "no-content-tree"

    def __init__(self) -> None:
        super().__init__(
            "The report has no content that could be shown as text.",
            remedy="Ask for the object itself, as application/dicom.",
        )


class PresentationOfOthers(Unsupported):
    default_code = "presentation-of-others"

    def __init__(self) -> None:
        super().__init__(
            "The presentation state does not speak of this image, or cannot be read.",
            remedy="Ask for one of the images that it references, or leave it out.",
        )
