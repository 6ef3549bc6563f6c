"""Answers that whoever has them need not be sent again, or not from the beginning (RFC 9110 §13, §14)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from isocenter.doors.dicomweb.answers import primed
from isocenter.doors.http.refusals import RangeNotSatisfiable

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Part(NamedTuple):
    """``length`` bytes from ``start`` of what a request is about."""

    start: int
    length: int


def strong(tag: str) -> str:
    """An entity tag: as long as it is the same, so are the bytes."""
    return f'"{tag}"'


def weak(tag: str) -> str:
    """As long as it is the same, so is the meaning: another version of a codec may write other bytes."""
    return f'W/"{tag}"'


def not_modified(request: Request, etag: str) -> bool:
    """Whether the client has it already (If-None-Match, compared weakly as RFC 9110 §13.1.2 wants)."""
    wanted = request.headers.get("if-none-match", "")
    opaque = etag.removeprefix("W/")
    return any(tag.strip().removeprefix("W/") in {opaque, "*"} for tag in wanted.split(","))


def wanted_part(request: Request, size: int, etag: str) -> Part | None:
    """The one range that is asked for; None where the whole is to be sent: no range, several of them, one
    that cannot be read, or one of another version (If-Range). Raises RangeNotSatisfiable."""
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or request.method != "GET" or found.group(1, 2) == ("", ""):
        return None
    held = request.headers.get("if-range")
    if held is not None and (held.strip() != etag or etag.startswith("W/")):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        start, stop = size - length, size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    if last and first and int(last) < int(first):
        return None
    if start >= size or start == stop:
        raise RangeNotSatisfiable(size)
    return Part(start, stop - start)


async def answer(
    request: Request, etag: str, headers: Mapping[str, str], pieces: Callable[[], AsyncIterator[bytes]]
) -> Response:
    """The whole; nothing where the client has it. The first piece is fetched before the status is sent: what
    is lost or cannot be converted is an error, not an empty answer."""
    if not_modified(request, etag) or request.method == "HEAD":
        return without_body(request, etag, headers)
    return StreamingResponse(await primed(pieces()), headers={"etag": etag, **headers})


def without_body(request: Request, etag: str, headers: Mapping[str, str]) -> Response:
    """To a client that has it, or asks only what it would get (HEAD)."""
    if not_modified(request, etag):
        return Response(None, 304, headers={"etag": etag})
    return headers_alone({"etag": etag, **headers})


def headers_alone(headers: Mapping[str, str]) -> Response:
    """To HEAD. Without a length that only making the content would tell (RFC 9110 §9.3.2)."""
    response = Response(None, headers=dict(headers))
    if "content-length" not in headers:
        del response.headers["content-length"]
    return response


async def answer_in_parts(
    request: Request,
    etag: str,
    headers: Mapping[str, str],
    size: int,
    pieces: Callable[[int, int], AsyncIterator[bytes]],
) -> Response:
    """As `answer`, of ``size`` bytes, or the range of them that is asked for (206). ``pieces`` takes a start
    and a length. Raises RangeNotSatisfiable."""
    headers = {**headers, "accept-ranges": "bytes"}
    part = None if not_modified(request, etag) else wanted_part(request, size, etag)
    if part is None:
        headers["content-length"] = str(size)
        return await answer(request, etag, headers, lambda: pieces(0, size))
    headers |= {
        "etag": etag,
        "content-length": str(part.length),
        "content-range": f"bytes {part.start}-{part.start + part.length - 1}/{size}",
    }
    return StreamingResponse(await primed(pieces(*part)), 206, headers=headers)
