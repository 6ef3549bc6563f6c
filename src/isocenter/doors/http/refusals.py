"""What only HTTP can refuse: a method, a media type, a slow or oversized request."""

from __future__ import annotations

from isocenter.kit.errors import InvalidInput, NotFound, TooLarge, Unavailable, Unsupported
from isocenter.kit.sizes import format_bytes


class MethodNotAllowed(Unsupported):
    default_code = "method-not-allowed"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(
            f"{method} is not possible here.", remedy=f"Use {allowed or 'another method'} instead."
        )
        self.headers = {"Allow": allowed} if allowed else {}


class NotAcceptable(Unsupported):
    default_code = "not-acceptable"


class UnsupportedMediaType(Unsupported):
    default_code = "unsupported-media-type"


class RequestTimeout(InvalidInput):
    default_code = "request-timeout"

    def __init__(self, silent_s: float) -> None:
        super().__init__(
            f"Nothing of the request's body arrived for {silent_s:.0f} s.",
            remedy="Send the whole request again.",
        )


class BodyTooLarge(TooLarge):
    default_code = "body-too-large"

    def __init__(self, bytes_max: int) -> None:
        super().__init__(
            f"The request's body is larger than the {format_bytes(bytes_max)} that are taken here.",
            remedy="Send less in one request.",
        )


class NoSuchPage(NotFound):
    default_code = "no-such-page"

    def __init__(self) -> None:
        super().__init__(
            "There is nothing at this address.", remedy="The addresses in use are listed at '/'."
        )


class ClientGone(Unavailable):
    """The client closed the connection before its request was complete; nobody reads the answer."""

    default_code = "client-gone"

    def __init__(self) -> None:
        super().__init__("The client closed the connection before the request was complete.")
