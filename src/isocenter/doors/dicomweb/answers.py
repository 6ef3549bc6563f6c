"""Answers in DICOM JSON: which media type, compressed or not, all at once or in pieces."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Literal, Protocol

import zstandard
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from isocenter.doors.dicomweb.media_types import DICOM_JSON, JSON, parse_accept
from isocenter.doors.http.refusals import NotAcceptable

_COMPRESSED_FROM_BYTES = 4096  # below, the saving is less than a network packet or two
_LEVEL = 1  # twice as fast as the default for nine tenths of its effect on JSON
_GZIP_WBITS = 31

Coding = Literal["zstd", "gzip", ""]
"""RFC 9110 §8.4.1; zstd is RFC 8878's."""


def accepted(request: Request) -> str:
    """The ``Accept`` header, or the query parameter that overrules it (PS3.18 §8.3.3.1)."""
    return request.query_params.get("accept") or request.headers.get("accept", "*/*")


def json_media_type(accept: str) -> str:
    """``application/dicom+json``, or ``application/json`` for who knows only that. Raises NotAcceptable."""
    if accept in {"*/*", DICOM_JSON}:
        return DICOM_JSON
    for media_range in parse_accept(accept):
        if media_range.covers(DICOM_JSON):
            return DICOM_JSON
        if media_range.type == JSON:
            return JSON
    raise NotAcceptable(
        f"This resource is available as {DICOM_JSON} only.", remedy=f"Send 'Accept: {DICOM_JSON}'."
    )


def json_response(
    request: Request, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A whole body; compressed where the client can read that and it pays."""
    if len(body) >= _COMPRESSED_FROM_BYTES:
        headers = {**(headers or {}), "vary": "accept-encoding"}
        if coding := coding_for(request):
            headers["content-encoding"] = coding
            compressor = _compressor(coding)
            body = compressor.compress(body) + compressor.flush()
    return Response(body, headers=headers, media_type=media_type)


def json_stream(
    request: Request,
    pieces: AsyncIterator[bytes],
    media_type: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A body that is never whole in memory."""
    headers = {**(headers or {}), "vary": "accept-encoding"}
    if coding := coding_for(request):
        headers["content-encoding"] = coding
        pieces = _compressed(pieces, coding)
    return StreamingResponse(pieces, headers=headers, media_type=media_type)


def coding_for(request: Request) -> Coding:
    """What to compress an answer with: what the client likes best, of two as dear to it the faster one."""
    return _coding(request.headers.get("accept-encoding", ""))


@lru_cache(maxsize=256)
def _coding(accept_encoding: str) -> Coding:
    qualities: dict[str, float] = {}
    for part in accept_encoding.lower()[:1024].split(","):
        name, _, parameter = part.partition(";")
        try:
            qualities[name.strip()] = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            qualities[name.strip()] = 0.0
    zstd, gzip = qualities.get("zstd", 0.0), qualities.get("gzip", 0.0)
    if max(zstd, gzip) <= 0:
        return ""
    return "zstd" if zstd >= gzip else "gzip"


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _compressor(coding: Coding) -> _Compressor:
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    return zlib.compressobj(_LEVEL, wbits=_GZIP_WBITS)


async def _compressed(pieces: AsyncIterator[bytes], coding: Coding) -> AsyncIterator[bytes]:
    compressor = _compressor(coding)
    async for piece in pieces:
        if compressed := compressor.compress(piece):
            yield compressed
    yield compressor.flush()


async def primed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, the first one fetched already: what fails at once fails before the status is sent."""
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return all_pieces()
