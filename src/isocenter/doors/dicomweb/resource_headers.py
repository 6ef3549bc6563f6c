"""Headers of what is made from stored objects: told apart before it is made, kept by who got it, asked for
again."""

from __future__ import annotations

from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.dicomweb.conditional import headers_alone, not_modified
from isocenter.imaging.rendering.request import REVISION, Rendering


def headers_of(objects: str, what: str, rendering: Rendering) -> dict[str, str]:
    """``objects``: the keys of what the answer is made of; ``what``: which resource.

    The tag is known before anything is rendered: the same request over the same objects, the same picture. It
    may be kept, but is asked for again each time: permissions and objects change.
    """
    digest = blake2b(digest_size=16)
    for text in (REVISION, objects, what, repr(rendering)):
        digest.update(text.encode() + b"\0")
    return {
        "etag": f'"{digest.hexdigest()}"',
        "cache-control": "private, no-cache",
        "vary": "accept",
    }


def known_before(request: Request, headers: dict[str, str], content_type: str) -> Response | None:
    """The answer to who has it already, or asks for the headers alone (HEAD): nothing is made for them. None:
    it is wanted. HEAD cannot tell whether making it would fail."""
    if not_modified(request, headers["etag"]):
        return unchanged(headers)
    return headers_alone({**headers, "content-type": content_type}) if request.method == "HEAD" else None


def unchanged(headers: dict[str, str]) -> Response:
    return Response(None, 304, headers=headers)
