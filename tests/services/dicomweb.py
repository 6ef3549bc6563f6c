"""The HTTP doors on a real uvicorn and a free port, over a real archive in a private folder."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn

from isocenter.doors.dicomweb.routes import MOUNT, dicomweb_door
from isocenter.doors.http.application import create_app
from isocenter.doors.http.services import HttpLimits, HttpServices
from isocenter.features.archive.committer import GroupCommitter
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.policies import Policies, PolicyBook
from isocenter.features.archive.spool import Spool
from isocenter.kit.clock import ManualClock
from isocenter.platform.db import Database, open_database
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.storage.local import LocalStore

BOUNDARY = "a-boundary-of-the-tests"


@dataclass
class HttpServer:
    """``url`` without a trailing slash; ``dicomweb`` the base of DICOM's services."""

    url: str
    services: HttpServices
    database: Database
    store: ObjectStore
    clock: ManualClock

    @property
    def dicomweb(self) -> str:
        return self.url + MOUNT


@contextlib.asynccontextmanager
async def http_server(
    folder: Path,
    *,
    database_url: str = "",
    policies: Policies | None = None,
    limits: HttpLimits | None = None,
    store: ObjectStore | None = None,
    **services: Any,
) -> AsyncIterator[HttpServer]:
    clock = ManualClock()
    database = await open_database(database_url or f"sqlite:///{folder / 'isocenter.db'}")
    store = store or LocalStore(folder / "objects")
    spool = Spool(folder / "spool", memory_budget_bytes=64 << 20, threshold_bytes=4 << 20)
    spool.prepare()
    committer = GroupCommitter(database, clock)
    ingest = Ingest(store, spool, committer, PolicyBook(database, policies or Policies()))
    held = HttpServices(
        database=database,
        store=store,
        ingest=ingest,
        clock=clock,
        limits=limits or HttpLimits(),
    )
    held = replace(held, **services)
    app = create_app(held, mounts={MOUNT: dicomweb_door(held)})
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign] - pytest's own
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        port = listener.getsockname()[1]
        yield HttpServer(f"http://127.0.0.1:{port}", held, database, store, clock)
    finally:
        server.should_exit = True
        await serving
        listener.close()
        await committer.close()
        spool.close()
        await store.close()
        await database.close()


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
