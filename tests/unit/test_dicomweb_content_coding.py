"""Decoding of compressed bodies at the edges of its pieces."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from isocenter.doors.dicomweb.content_coding import decoded
from isocenter.doors.http.services import HttpLimits

PIECE_BYTES = 256 << 10


def read(chunks: list[bytes], coding: str) -> bytes:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def whole() -> bytes:
        return b"".join([piece async for piece in decoded(body(), coding, HttpLimits())])

    return asyncio.run(whole())


@pytest.mark.parametrize("wbits", [31, 15, -15])
def test_output_that_fills_a_piece_is_not_left_behind(wbits: int) -> None:
    """What zlib has in its window when the room ends and nothing is left to read."""
    for length in range(PIECE_BYTES - 3, PIECE_BYTES + 262):
        compressor = zlib.compressobj(9, wbits=wbits)
        content = compressor.compress(bytes(length)) + compressor.flush()
        assert len(read([content], "deflate" if wbits < 31 else "gzip")) == length


@given(
    st.binary(max_size=5000), st.lists(st.integers(1, 400), max_size=20), st.sampled_from(["gzip", "zstd"])
)
def test_however_the_network_cuts_it(content: bytes, cuts: list[int], coding: str) -> None:
    compressor = zlib.compressobj(wbits=31)
    coded = (
        zstandard.compress(content) if coding == "zstd" else compressor.compress(content) + compressor.flush()
    )
    chunks = []
    for cut in cuts:
        chunks.append(coded[:cut])
        coded = coded[cut:]
    assert read([*chunks, coded], coding) == content
