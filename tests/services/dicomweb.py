"""The HTTP doors on a real uvicorn and a free port, over an archive in a private folder."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from isocenter.doors.dicomweb.routes import MOUNT, dicomweb_door
from isocenter.doors.http.application import create_app
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.guards import HttpPolicy
from isocenter.doors.http.protocol import BoundedHttpProtocol
from isocenter.doors.http.services import HttpLimits, HttpServices
from isocenter.features.archive.images import Images, open_images
from isocenter.features.archive.transcode_cache import TranscodeCache
from isocenter.features.audit.trail import AuditTrail
from isocenter.kit.clock import ManualClock
from isocenter.platform.security import NoRecorder, anybody
from isocenter.platform.workers.pool import WorkerPool
from services.archive import ORGANIZATION, Image, TestArchive, opened
from services.schema import sqlite_with_schema

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A client of its own would read the machine's certificates, which takes longer than most tests."""

BOUNDARY = "a-boundary-of-the-tests"


@dataclass
class HttpServer:
    """``url`` has no trailing slash; ``dicomweb`` is the base of DICOM's services."""

    url: str
    archive: TestArchive
    clock: ManualClock
    client: httpx2.AsyncClient
    trail: AuditTrail
    images: Images

    @property
    def dicomweb(self) -> str:
        return self.url + MOUNT

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        """``path`` below the base of DICOM's services."""
        return await self.client.get(self.dicomweb + path, headers=headers)

    async def transcoded(self) -> None:
        """Until copies of what was asked for are kept."""
        await self.images.transcoder.settled()

    async def found(self, path: str) -> list[dict[str, Any]]:
        """What a search that must succeed finds."""
        response = await self.get(path)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()
        return found

    async def store(self, *objects: Image | bytes, study: str = "", **headers: str) -> httpx2.Response:
        contents = [one.file if isinstance(one, Image) else one for one in objects]
        body, own = multipart(contents)
        url = f"{self.dicomweb}/studies" + (f"/{study}" if study else "")
        return await self.client.post(url, content=body, headers=own | headers)


def open_gate() -> Gate:
    """Logins switched off: whoever asks may do everything in the one organisation."""
    return Gate(None, anybody=anybody(ORGANIZATION))


@contextlib.asynccontextmanager
async def http_server(
    folder: Path,
    *,
    database_url: str = "",
    limits: HttpLimits | None = None,
    public_url: str = "",
    retrieve_ae_title: str = "",
    policy: HttpPolicy | None = None,
    trusted_proxies: Sequence[str] = (),
    protocol: type[BoundedHttpProtocol] = BoundedHttpProtocol,
    audited: bool = False,
    cache: TranscodeCache | None = None,
    workers: WorkerPool | None = None,
    **archive: Any,
) -> AsyncIterator[HttpServer]:
    """``audited``: what is done is recorded. ``archive``: what ``services.archive.opened`` takes."""
    clock = ManualClock()
    database_url = database_url or sqlite_with_schema(folder / "isocenter.db")
    async with opened(database_url, folder, clock=clock, **archive) as held:
        trail = AuditTrail(held.database, clock)
        images = open_images(held.leaving, workers=workers or WorkerPool(2), cache=cache)
        services = HttpServices(
            database=held.database,
            store=held.leaving,
            ingest=held.ingest,
            gate=open_gate(),
            public_url=public_url,
            retrieve_ae_title=retrieve_ae_title,
            clock=clock,
            limits=limits or HttpLimits(),
            recorder=trail if audited else NoRecorder(),
            policy=policy or HttpPolicy(),
            trusted_proxies=tuple(map(ipaddress.ip_network, trusted_proxies)),
            workers=images.workers,
            images=images,
        )
        app = create_app(services, mounts={MOUNT: dicomweb_door(services)})
        async with served(app, protocol) as url, httpx2.AsyncClient(timeout=60, verify=_NO_TLS) as client:
            yield HttpServer(url, held, clock, client, trail, images)
        await images.close()
        await trail.close()


@contextlib.asynccontextmanager
async def served(app: Any, protocol: type[BoundedHttpProtocol] = BoundedHttpProtocol) -> AsyncIterator[str]:
    """The URL under which uvicorn serves the application."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="websockets-sansio",
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
        )
    )
    server.capture_signals = contextlib.nullcontext  # the signals stay pytest's
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()


def multipart(
    objects: Sequence[bytes], content_type: str = "application/dicom"
) -> tuple[bytes, dict[str, str]]:
    """A STOW body and its headers."""
    body = b"".join(
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), content_type.encode(), one)
        for one in objects
    )
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}
    return body + f"--{BOUNDARY}--\r\n".encode(), headers
