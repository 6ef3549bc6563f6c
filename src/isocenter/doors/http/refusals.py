"""What only HTTP can refuse: a method, a media type, a slow or oversized request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isocenter.kit.errors import InvalidInput, NotFound, TooLarge, Unavailable, Unsupported
from isocenter.kit.sizes import format_bytes

_NAME_CHARS_MAX = 64
_FIELDS_MAX = 100


class MethodNotAllowed(Unsupported):
    default_code = "method-not-allowed"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(
            f"{method} is not possible here.", remedy=f"Use {allowed or 'another method'} instead."
        )
        self.headers = {"Allow": allowed} if allowed else {}


class NotAcceptable(Unsupported):
    default_code = "not-acceptable"


class RangeNotSatisfiable(InvalidInput):
    """RFC 9110 §14.4, §15.5.17."""

    default_code = "range-not-satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The range begins behind the end: there are {size} bytes.",
            remedy="Ask for a part of what there is (Content-Range says how much).",
        )
        self.headers = {"Content-Range": f"bytes */{size}"}


class UnsupportedMediaType(Unsupported):
    default_code = "unsupported-media-type"


class UpgradeRequired(Unsupported):
    default_code = "upgrade-required"

    def __init__(self) -> None:
        super().__init__(
            "Event reports are sent over a WebSocket.", remedy="Open this address with ws:// or wss://."
        )
        self.headers = {"Upgrade": "websocket", "Connection": "Upgrade"}


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


class InvalidParameter(InvalidInput):
    """One parameter of the query string."""

    default_code = "invalid-parameter"

    def __init__(self, name: str, what: str, *, code: str | None = None, remedy: str = "") -> None:
        super().__init__(what, code=code, remedy=remedy)
        self.errors = [{"parameter": name[:_NAME_CHARS_MAX], "detail": what}]


class InvalidFields(InvalidInput):
    """What the framework found in a request's body and parameters. Names the fields, never their values:
    those may be a patient's."""

    default_code = "invalid-parameters"

    def __init__(self, found: Sequence[Mapping[str, Any]]) -> None:
        self.errors = [_place(tuple(one["loc"]), one["type"], one["msg"]) for one in found[:_FIELDS_MAX]]
        said = (f"{one.get('parameter', one.get('pointer'))}: {one['detail']}" for one in self.errors)
        super().__init__(
            "The request's parameters are not valid: " + "; ".join(said),
            remedy="'errors' names each field; /api/openapi.json describes them.",
        )


def _place(loc: tuple[str | int, ...], kind: str, message: str) -> dict[str, str]:
    where, *path = loc
    if where != "body":
        return {"parameter": ".".join(map(str, path))[:_NAME_CHARS_MAX], "detail": message}
    if kind == "json_invalid":  # its place is a byte, which no pointer can name
        return {"pointer": "", "detail": "The body is not JSON."}
    steps = (str(step)[:_NAME_CHARS_MAX].replace("~", "~0").replace("/", "~1") for step in path)
    return {"pointer": "".join(f"/{step}" for step in steps), "detail": message}


class NoSuchPage(NotFound):
    default_code = "no-such-page"

    def __init__(self) -> None:
        super().__init__(
            "There is nothing at this address.", remedy="The addresses in use are listed at '/'."
        )


class UrlTooLong(InvalidInput):
    default_code = "url-too-long"

    def __init__(self, bytes_max: int) -> None:
        super().__init__(
            f"The request's path is longer than {format_bytes(bytes_max)}.", remedy="Ask in portions."
        )


class TooManyParameters(InvalidInput):
    default_code = "too-many-parameters"

    def __init__(self, parameters_max: int) -> None:
        super().__init__(
            f"The query string has more than {parameters_max} parameters.", remedy="Ask in portions."
        )


class UnknownHost(InvalidInput):
    """The Host is not repeated: whoever made it up would be shown what they wrote."""

    default_code = "unknown-host"

    def __init__(self) -> None:
        super().__init__(
            "The request's Host is none of this server's names.",
            remedy="Use the server's own name; the operator sets allowed_hosts.",
        )


class ClientGone(Unavailable):
    """The client closed the connection before its request was complete; nobody reads the answer."""

    default_code = "client-gone"

    def __init__(self) -> None:
        super().__init__("The client closed the connection before the request was complete.")
