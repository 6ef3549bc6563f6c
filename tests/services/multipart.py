"""Multipart answers taken apart."""

from __future__ import annotations

import httpx2


def contents(response: httpx2.Response) -> list[bytes]:
    return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in _pieces(response)]


def part_types(response: httpx2.Response) -> list[str]:
    """The Content-Type of each part."""
    types = []
    for piece in _pieces(response):
        lines = piece.partition(b"\r\n\r\n")[0].decode().splitlines()
        types.extend(line.partition(": ")[2] for line in lines if line.lower().startswith("content-type"))
    return types


def _pieces(response: httpx2.Response) -> list[bytes]:
    boundary = response.headers["content-type"].rpartition("boundary=")[2].encode()
    pieces = response.content.split(b"--" + boundary)
    assert pieces[0] == b"" and pieces[-1] == b"--\r\n"
    return pieces[1:-1]


def locations(response: httpx2.Response) -> list[str]:
    """The Content-Location of each part."""
    found = []
    for piece in _pieces(response):
        lines = piece.partition(b"\r\n\r\n")[0].decode().splitlines()
        found.extend(line.partition(": ")[2] for line in lines if line.lower().startswith("content-location"))
    return found
