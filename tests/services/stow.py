"""STOW-RS bodies of metadata and bulk data (PS3.18 §8.6.1.2.1), and what an archive says of an instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import orjson

from services.dicomweb import BOUNDARY, HttpServer
from services.multipart import contents

JSON, XML, OCTETS = "application/dicom+json", "application/dicom+xml", "application/octet-stream"

Part = tuple[str, str, bytes]
"""Content-Type, Content-Location, content."""


def message(
    metadata: Sequence[bytes], bulk: Sequence[Part] = (), kind: str = JSON
) -> tuple[bytes, dict[str, str]]:
    """A body with its headers; each of ``metadata`` is a part."""
    pieces = [
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), kind.encode(), one)
        for one in metadata
    ]
    for content_type, location, content in bulk:
        head = f"--{BOUNDARY}\r\nContent-Type: {content_type}\r\nContent-Location: {location}\r\n\r\n"
        pieces.append(head.encode() + content + b"\r\n")
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary={BOUNDARY}'}
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode(), headers


async def send(
    server: HttpServer, data_sets: Sequence[Mapping[str, Any]], bulk: Sequence[Part] = (), **headers: str
) -> httpx2.Response:
    """The data sets (DICOM JSON) in one part."""
    body, own = message([orjson.dumps([*data_sets])], bulk)
    return await server.client.post(f"{server.dicomweb}/studies", content=body, headers=own | headers)


async def passed_on(source: HttpServer, path: str, kind: str, target: HttpServer) -> httpx2.Response:
    """What ``source`` answers as metadata and bulk data, sent to ``target`` as it is."""
    if kind == JSON:
        metadata = [(await source.get(path + "/metadata")).content]
    else:
        metadata = contents(await source.get(path + "/metadata", Accept=f'multipart/related; type="{XML}"'))
    wanted = f'multipart/related; type="{OCTETS}"; transfer-syntax=*'
    values = await source.get(path + "/bulkdata", Accept=wanted)
    assert values.status_code == 200, values.text
    boundary = values.headers["content-type"].rpartition("boundary=")[2]
    before, _ = message(metadata, kind=kind)
    before = before.removesuffix(f"--{BOUNDARY}--\r\n".encode()).replace(BOUNDARY.encode(), boundary.encode())
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary={boundary}'}
    return await target.client.post(
        f"{target.dicomweb}/studies", content=before + values.content, headers=headers
    )


async def everything(server: HttpServer, path: str) -> dict[str, Any]:
    """An instance's metadata with each value that lies elsewhere in its place; without the character set."""
    response = await server.get(path + "/metadata")
    assert response.status_code == 200, response.text
    [data_set] = response.json()
    await _fill_in(server, data_set)
    if "7FE00010" in data_set:
        del data_set["7FE00010"][
            "vr"
        ]  # files with compressed pixels have OW at times; OB is right (PS3.5 A.4)
    return dict(data_set)


async def _fill_in(server: HttpServer, data_set: dict[str, Any]) -> None:
    data_set.pop("00080005", None)
    for attribute in data_set.values():
        if uri := attribute.pop("BulkDataURI", None):
            wanted = f'multipart/related; type="{OCTETS}"; transfer-syntax=*'
            response = await server.client.get(uri, headers={"Accept": wanted})
            assert response.status_code == 200, response.text
            attribute["Bulk"] = contents(response)
        if attribute["vr"] == "SQ":
            for item in attribute.get("Value", ()):
                await _fill_in(server, item)
