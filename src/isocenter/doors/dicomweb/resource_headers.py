"""Headers of what is made from stored objects: told apart before it is made, kept by who got it, asked for
again."""

from __future__ import annotations

from hashlib import blake2b

from starlette.responses import Response

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


def unchanged(headers: dict[str, str]) -> Response:
    return Response(None, 304, headers=headers)
