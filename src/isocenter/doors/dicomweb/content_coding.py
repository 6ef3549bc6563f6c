"""Bodies that come compressed (Content-Encoding, RFC 9110 §8.4; PS3.18 §8.7.6), decoded as they arrive.

A kilobyte can inflate to a gigabyte. What comes out is bounded in all and in relation to what went in, and it
comes out in pieces, so that no memory is at stake before the bounds are.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import zstandard

from isocenter.doors.http.refusals import UnsupportedMediaType
from isocenter.doors.http.services import HttpLimits
from isocenter.kit.errors import InvalidInput, TooLarge
from isocenter.kit.sizes import format_bytes

_PIECE_BYTES = 256 << 10
_RATIO_MAX = 200  # what an image compresses to at best; runs of one value do better, but not for long
_RATIO_FROM_BYTES = 32 << 20
_ZSTD_SLICE_BYTES = 512  # a block of zstd has 4 bytes at least and gives 128 KiB at most (RFC 8878 §3.1.1.2)
_ZSTD_WINDOW_BYTES_MAX = 8 << 20  # what RFC 8878 §3.1.1.1.2 recommends to support
_GZIP_WBITS = 31
_CODINGS = "gzip, deflate, zstd"


class DecompressionBomb(TooLarge):
    default_code = "decompression-bomb"


class MalformedContentCoding(InvalidInput):
    default_code = "malformed-content-coding"

    def __init__(self) -> None:
        super().__init__(
            "The request's body is not compressed as its Content-Encoding says, or ends early.",
            remedy="Send it again, or send it uncompressed.",
        )


class UnsupportedContentCoding(UnsupportedMediaType):
    def __init__(self) -> None:
        super().__init__(
            "The request's Content-Encoding is not one that is read here.",
            remedy=f"Send one of: {_CODINGS}; or no Content-Encoding.",
        )
        self.headers = {"Accept-Encoding": _CODINGS}  # RFC 9110 §15.5.16


class _Decoder(Protocol):
    @property
    def complete(self) -> bool: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


def decoded(body: AsyncIterator[bytes], content_encoding: str, limits: HttpLimits) -> AsyncIterator[bytes]:
    """``body`` without its coding. Raises UnsupportedContentCoding at once; while it is read
    MalformedContentCoding, DecompressionBomb."""
    coding = content_encoding.strip().lower()
    match coding:
        case "" | "identity":
            return body
        case "gzip" | "x-gzip" | "deflate":
            return _bounded(body, _Zlib(gzip=coding != "deflate"), limits)
        case "zstd":
            return _bounded(body, _Zstd(), limits)
        case _:
            raise UnsupportedContentCoding


async def _bounded(body: AsyncIterator[bytes], decoder: _Decoder, limits: HttpLimits) -> AsyncIterator[bytes]:
    fed = produced = 0
    bytes_max = limits.decoded_body_bytes_max
    if limits.object_body_bytes_max is not None:
        bytes_max = min(bytes_max, limits.object_body_bytes_max)
    async for chunk in body:
        fed += len(chunk)
        for piece in decoder.feed(chunk):
            produced += len(piece)
            if produced > bytes_max:
                raise _bomb(f"is larger than the {format_bytes(bytes_max)} that are taken here")
            if produced > _RATIO_FROM_BYTES and produced > _RATIO_MAX * fed:
                raise _bomb(f"becomes more than {_RATIO_MAX} times as large")
            yield piece
    if not decoder.complete:
        raise MalformedContentCoding


def _bomb(what: str) -> DecompressionBomb:
    return DecompressionBomb(
        f"The request's body {what} when it is decompressed.",
        remedy="Send less in one request, uncompressed.",
    )


class _Zlib:
    """gzip (RFC 1952, several members too) and deflate: in zlib's format (RFC 1950) as RFC 9110 has it, or
    bare, as some clients send it."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._zlib: zlib._Decompress | None = None
        self._begun = b""

    @property
    def complete(self) -> bool:
        return self._zlib is not None and self._zlib.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        data = self._begun + data
        self._begun = b""
        more = bool(data)
        try:
            while more:
                if self._zlib is None or self._zlib.eof:
                    if self._zlib is not None and not self._gzip:
                        raise MalformedContentCoding  # something follows the end
                    if len(data) < 2:
                        self._begun, self._zlib = data, None
                        return
                    self._zlib = zlib.decompressobj(self._wbits(data))
                piece = self._zlib.decompress(data, _PIECE_BYTES)
                data = self._zlib.unconsumed_tail or self._zlib.unused_data
                if piece:
                    yield piece
                # A full piece may have left some of its output behind, with nothing left to read.
                more = bool(data) or (len(piece) == _PIECE_BYTES and not self._zlib.eof)
        except zlib.error:
            raise MalformedContentCoding from None

    def _wbits(self, data: bytes) -> int:
        if self._gzip:
            return _GZIP_WBITS
        with_header = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS


class _Zstd:
    """zstd (RFC 8878). Fed a little at a time: what comes out of one step cannot be bounded otherwise."""

    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
        self._frame = self._context.decompressobj()
        self._begun = False

    @property
    def complete(self) -> bool:
        return self._begun and self._frame.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            for start in range(0, len(data), _ZSTD_SLICE_BYTES):
                rest = data[start : start + _ZSTD_SLICE_BYTES]
                while rest:
                    if self._frame.eof:
                        self._frame = self._context.decompressobj()
                    self._begun = True
                    piece = self._frame.decompress(rest)
                    rest = self._frame.unused_data if self._frame.eof else b""
                    if piece:
                        yield piece
        except zstandard.ZstdError:
            raise MalformedContentCoding from None
