"""Composing the program: from settings to an open archive, and from an archive to a running server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import uvicorn

from isocenter.dicom.validation import Strictness
from isocenter.doors.dicomweb.routes import MOUNT, dicomweb_door
from isocenter.doors.http.ae_title_routes import ae_title_router
from isocenter.doors.http.application import create_app
from isocenter.doors.http.changes_routes import changes_router
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.protocol import BoundedHttpProtocol
from isocenter.doors.http.quarantine_routes import quarantine_router
from isocenter.doors.http.services import HttpServices
from isocenter.doors.scp.server import DicomServices, DicomSettings, create_dicom_server
from isocenter.features.ae_titles.service import AeTitles
from isocenter.features.archive.check import StorageCheck
from isocenter.features.archive.committer import GroupCommitter
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy, Policies, PolicyBook
from isocenter.features.archive.quarantine import Quarantine
from isocenter.features.archive.spool import Spool
from isocenter.features.archive.sweep import OrphanSweep
from isocenter.kit.clock import Clock, SystemClock
from isocenter.kit.errors import IsocenterError, Unavailable
from isocenter.platform.db import Database, open_database
from isocenter.platform.security import anybody
from isocenter.platform.settings import Settings
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.storage.open import open_store
from isocenter.platform.telemetry import get_logger

DEFAULT_ORGANIZATION = 1
_FINISH_S = 7.0
"""What begun work may take after SIGTERM; with closing up it stays below the 10 s that are promised."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Archive:
    """Everything that keeps and finds objects; the server and the command line share it."""

    settings: Settings
    clock: Clock
    database: Database
    store: ObjectStore
    ingest: Ingest
    policies: PolicyBook
    quarantine: Quarantine
    sweep: OrphanSweep
    check: StorageCheck
    ae_titles: AeTitles


@contextlib.asynccontextmanager
async def open_archive(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Archive]:
    """Open database and store, bring the schema up to date; close both at the end, after what was begun.

    Raises Unavailable or InvalidInput with what to do about it.
    """
    clock = clock or SystemClock()
    database = await open_database(settings.database_url_or_default)
    store = open_store_of(settings)
    spool = Spool(
        settings.spool_folder,
        memory_budget_bytes=settings.memory_budget,
        threshold_bytes=settings.spool_threshold,
        min_free_bytes=settings.min_free_disk,
    )
    try:
        spool.prepare()
    except OSError as error:
        raise Unavailable(
            f"The folder for incoming objects, {spool.folder}, cannot be made ({error.strerror}).",
            remedy="Choose another --data-dir or --spool-dir, or make the folder writable.",
        ) from error
    committer = GroupCommitter(database, clock)
    policies = PolicyBook(database, _default_policies(settings))
    ingest = Ingest(store, spool, committer, policies, object_bytes_max=settings.max_object_size)
    ae_titles = AeTitles(database, clock, admit_any=settings.calling_ae_titles == "any")
    try:
        yield Archive(
            settings=settings,
            clock=clock,
            database=database,
            store=store,
            ingest=ingest,
            policies=policies,
            quarantine=Quarantine(database, ingest, clock),
            sweep=OrphanSweep(database, store, clock, grace=timedelta(seconds=settings.sweep_grace_s)),
            check=StorageCheck(database, store, ingest, clock),
            ae_titles=ae_titles,
        )
    finally:
        await ae_titles.close()
        await committer.close()
        spool.close()
        await store.close()
        await database.close()


def open_store_of(settings: Settings) -> ObjectStore:
    return open_store(
        settings.storage_url_or_default,
        endpoint=settings.storage_endpoint,
        public_endpoint=settings.storage_public_endpoint,
        region=settings.storage_region,
        access_key=settings.storage_access_key,
        secret_key=settings.storage_secret_key.get_secret_value(),
    )


def _default_policies(settings: Settings) -> Policies:
    return Policies(
        conflict=ConflictPolicy(settings.conflict_policy),
        batch=BatchPolicy(settings.batch_policy),
        strictness=Strictness(settings.validation),
        accept_unknown_sop_classes=settings.accept_unknown_sop_classes,
    )


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to us: both doors close together."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


class Server:
    """Both doors open over one archive. ``await start()``, then ``await stop()``."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        settings = archive.settings
        gate = Gate(None, anybody=anybody(DEFAULT_ORGANIZATION))
        services = HttpServices(
            database=archive.database,
            store=archive.store,
            ingest=archive.ingest,
            gate=gate,
            public_url=settings.public_url.rstrip("/"),
            clock=archive.clock,
        )
        routers = (
            quarantine_router(archive.quarantine, gate),
            changes_router(archive.database, gate),
            ae_title_router(archive.ae_titles, gate),
        )
        app = create_app(services, routers=routers, mounts={MOUNT: dicomweb_door(services)})
        self._http = _Uvicorn(
            uvicorn.Config(
                app,
                http=BoundedHttpProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(_FINISH_S),
            )
        )
        self._dicom = create_dicom_server(
            DicomServices(archive.database, archive.ingest, archive.ae_titles, archive.clock),
            DicomSettings(
                ae_title=settings.ae_title,
                max_pdu=settings.dimse_max_pdu,
                artim_s=settings.dimse_artim_timeout_s,
                idle_s=settings.dimse_idle_timeout_s,
                associations_max=settings.dimse_max_associations,
                accept_unknown_sop_classes=settings.accept_unknown_sop_classes,
                organization_id=DEFAULT_ORGANIZATION,
            ),
            tls=_dicom_tls(settings),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.http_port = 0

    @property
    def dicom_port(self) -> int:
        return self._dicom.port

    async def start(self) -> None:
        """Listen on both ports. Raises Unavailable, naming the port, when one is taken."""
        settings = self._archive.settings
        await self._clear_incoming()
        listener = _listen(settings.bind, settings.http_port)
        self.http_port = listener.getsockname()[1]
        try:
            await self._dicom.start(settings.bind, settings.dicom_port)
        except Unavailable:
            listener.close()
            raise
        await self._warn_of_sick_store()
        self._tasks = [
            asyncio.create_task(self._http.serve(sockets=[listener]), name="http"),
            asyncio.create_task(self._sweep_regularly(), name="sweep"),
        ]

    async def stop(self) -> None:
        """Stop listening, finish what was begun, for at most some seconds."""
        self._http.should_exit = True
        _, sweeping = self._tasks
        sweeping.cancel()
        await asyncio.gather(self._dicom.shutdown(_FINISH_S), *self._tasks, return_exceptions=True)

    async def _clear_incoming(self) -> None:
        """What crashes left half-written. Other processes (an import) may be writing too, but nobody takes a
        day for one object."""
        if isinstance(self._archive.store, LocalStore):
            await self._archive.store.recover(older_than=self._archive.clock.now() - timedelta(days=1))

    async def _warn_of_sick_store(self) -> None:
        """Start all the same: the store may come back, and until then senders are told to try later."""
        health = await self._archive.store.health()
        if not health.ok:
            log.warning("The object store cannot be used", reason=health.problem)

    async def _sweep_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._archive.settings.sweep_interval_s)
            try:
                report = await self._archive.sweep.run()
                await self._clear_incoming()
            except IsocenterError as error:
                log.warning("Sweep put off", reason=error.detail, remedy=error.remedy)
            else:
                log.info("Swept", examined=report.examined, removed=report.removed)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what it accepts
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Port {port} for HTTP cannot be opened ({error.strerror}).",
            code="port-taken",
            remedy="Choose another with --http-port, or end what uses it; 'isocenter doctor' names it.",
        ) from error
    listener.setblocking(False)
    return listener


def _dicom_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer for the DIMSE port (BCP 195); with authorities named, callers show a certificate."""
    if not settings.dicom_tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.dicom_tls_cert, settings.dicom_tls_key or None)
    if settings.dicom_tls_ca:
        context.load_verify_locations(settings.dicom_tls_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
