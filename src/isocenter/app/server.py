"""From an archive to a running server: both doors, and what is done regularly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from datetime import timedelta

import uvicorn

from isocenter.app.archive import Archive
from isocenter.app.metrics import METRICS, Parts, read
from isocenter.app.outgoing import outgoing_of
from isocenter.app.spanning import retrievals_of, spanning_of, workstations_of
from isocenter.doors.dicomweb.routes import MOUNT, dicomweb_door
from isocenter.doors.http.account_routes import account_routers
from isocenter.doors.http.ae_title_routes import ae_title_router
from isocenter.doors.http.application import create_app
from isocenter.doors.http.audit_routes import audit_router
from isocenter.doors.http.changes_routes import changes_router
from isocenter.doors.http.commitment_routes import commitment_router
from isocenter.doors.http.deletion_routes import deletion_router
from isocenter.doors.http.destination_routes import destination_router
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.guards import HttpPolicy
from isocenter.doors.http.metrics_routes import metrics_route
from isocenter.doors.http.patient_routes import patient_router
from isocenter.doors.http.protocol import BoundedHttpProtocol
from isocenter.doors.http.quarantine_routes import quarantine_router
from isocenter.doors.http.services import HttpServices
from isocenter.doors.http.statistics_routes import statistics_router
from isocenter.doors.http.worklist_routes import worklist_router
from isocenter.doors.scp.committing import commitment_worker
from isocenter.doors.scp.notifying import availability_notifier
from isocenter.doors.scp.server import DicomServices, DicomSettings, create_dicom_server
from isocenter.doors.spanning.configuration_routes import configuration_router
from isocenter.doors.spanning.qido_routes import qido_router
from isocenter.doors.spanning.query_log_routes import query_log_router
from isocenter.doors.spanning.retrieve_routes import retrieve_routes
from isocenter.doors.spanning.source_routes import source_router
from isocenter.doors.web.viewer import viewer_routes
from isocenter.features.accounts.associations import AssociationIdentities
from isocenter.features.archive.deletion.purging import Purging
from isocenter.features.archive.holdings import Holdings
from isocenter.features.archive.housekeeping import Housekeeping
from isocenter.features.archive.recompressing import Recompression
from isocenter.features.archive.series_metadata import SeriesMetadata
from isocenter.features.archive.spare_time import SpareTime
from isocenter.features.archive.thumbnails import Thumbnails
from isocenter.features.audit.delivery import Delivery
from isocenter.features.audit.syslog import SyslogReceiver, client_tls
from isocenter.kit.clock import Clock
from isocenter.kit.errors import IsocenterError, Unavailable
from isocenter.platform.security import anybody
from isocenter.platform.settings import Settings
from isocenter.platform.storage.encrypted import EncryptedStore
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.telemetry import get_logger
from isocenter.platform.telemetry.exposition import Exposition
from isocenter.platform.telemetry.loop_lag import LoopLag
from isocenter.platform.tls import (
    DicomProfile,
    TlsEndpoint,
    TlsFiles,
    dicom_profile,
    https_profile,
)

DEFAULT_ORGANIZATION = 1
_FINISH_S = 7.0
"""What begun work may take after SIGTERM; with closing up it stays below the 10 s that are promised."""
_CERTIFICATES_LOOKED_AT_S = 60.0
_RECOMPRESSED_EVERY_S = 5.0
_CHANNEL_MESSAGE_BYTES_MAX = 64 << 10
"""Of what subscribers say, which is nothing."""

log = get_logger(__name__)


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to us: both doors close together."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


class Server:
    """Both doors open over one archive. ``await start()``, then ``await stop()``."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._spare_time = SpareTime()
        settings = archive.settings
        self._http_tls, self._dicom_tls = http_tls, dicom_tls = _tls(settings, archive.clock)
        if settings.auth == "off":
            gate = Gate(None, anybody=anybody(DEFAULT_ORGANIZATION), recorder=archive.trail)
        else:
            gate = Gate(archive.accounts.authentication, recorder=archive.trail)
        services = HttpServices(
            database=archive.database,
            store=archive.leaving,
            ingest=archive.ingest,
            gate=gate,
            public_url=settings.public_url.rstrip("/"),
            retrieve_ae_title=settings.ae_title,
            clock=archive.clock,
            recorder=archive.trail,
            policy=HttpPolicy(frozenset(settings.cors_origin_list), frozenset(settings.allowed_host_list)),
            trusted_proxies=settings.trusted_proxy_networks,
            workers=archive.images.workers,
            images=archive.images,
            thumbnails=archive.thumbnails,
            series_metadata=archive.series_metadata,
        )
        self._outgoing = outgoing_of(archive)
        self._spanning = spanning = spanning_of(settings, archive.database, archive.clock)
        self._retrievals = retrievals_of(spanning, archive)
        self._commitments = commitment_worker(archive.database, archive.store, archive.clock, self._outgoing)
        self._availability = availability_notifier(
            archive.database, archive.clock, self._outgoing, archive.trail
        )
        routers = (
            quarantine_router(archive.quarantine, gate, archive.trail),
            deletion_router(archive.deletions, archive.restoring, gate, archive.trail),
            patient_router(archive.patients, gate, archive.trail),
            changes_router(archive.database, gate, archive.trail),
            statistics_router(archive.database, archive.clock, gate, archive.trail),
            ae_title_router(archive.ae_titles, gate, archive.trail),
            destination_router(self._outgoing.destinations, self._availability.notices, gate, archive.trail),
            commitment_router(
                self._commitments.ledger,
                archive.database,
                gate,
                archive.trail,
                nudge=self._commitments.nudge,
                own_ae_title=settings.ae_title,
            ),
            audit_router(archive.database, gate, archive.trail),
            worklist_router(archive.database, archive.clock, gate, archive.trail),
            source_router(spanning.sources, spanning.spanner, gate, archive.trail),
            configuration_router(spanning.configurations, spanning.spanner, gate, archive.trail),
            query_log_router(spanning.query_log, gate, archive.trail),
            qido_router(
                spanning.spanner,
                spanning.running,
                gate,
                services.limits,
                archive.trail,
                public_url=services.public_url,
            ),
            *account_routers(
                archive.accounts,
                gate,
                Holdings(archive.database, archive.clock),
                https=settings.public_url_or_default.startswith("https:"),
            ),
        )
        self._loop_lag = LoopLag()
        self._http_measures = services.measures
        metrics = metrics_route(
            Exposition(METRICS, lambda: read(self._parts())),
            gate,
            from_this_machine=settings.metrics_from_this_machine,
        )
        pages = [
            *viewer_routes(settings.viewer_folder, dicom_web=MOUNT, sign_in=settings.auth != "off"),
            *retrieve_routes(services, self._retrievals),
            metrics,
        ]
        app = create_app(services, routers=routers, mounts={MOUNT: dicomweb_door(services)}, pages=pages)
        self.application = app
        self._http = _Uvicorn(
            uvicorn.Config(
                app,
                http=BoundedHttpProtocol,
                ws="websockets-sansio",
                ws_max_size=_CHANNEL_MESSAGE_BYTES_MAX,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # uvicorn would believe whoever calls from this machine
                timeout_graceful_shutdown=int(_FINISH_S),
                ssl_context_factory=(lambda *_: http_tls.context) if http_tls else None,
            )
        )
        self._dicom = create_dicom_server(
            DicomServices(
                archive.database,
                archive.ingest,
                archive.leaving,
                archive.ae_titles,
                archive.clock,
                self._outgoing,
                self._commitments,
                archive.images.transcoder,
                spanned=workstations_of(spanning, archive, self._retrievals),
                verifier=_identities(archive) if settings.dimse_user_identity == "verify" else None,
                recorder=archive.trail,
            ),
            DicomSettings(
                ae_title=settings.ae_title,
                max_pdu=settings.dimse_max_pdu,
                artim_s=settings.dimse_artim_timeout_s,
                idle_s=settings.dimse_idle_timeout_s,
                associations_max=settings.dimse_max_associations,
                move_associations=settings.dimse_move_associations,
                accept_unknown_sop_classes=settings.accept_unknown_sop_classes,
            ),
            tls=dicom_tls.context if dicom_tls else None,
        )
        self._delivery = _audit_delivery(archive)
        self._housekeeping = Housekeeping(
            archive.retention,
            Purging(archive.database, archive.deletions, archive.clock, archive.trail),
            archive.sweep,
            self._tidy,
            interval_s=settings.sweep_interval_s,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.http_port = 0

    @property
    def dicom_port(self) -> int:
        return self._dicom.port

    def _parts(self) -> Parts:
        archive = self._archive
        return Parts(
            self._spanning.spanner,
            archive.ingest,
            archive.images.workers,
            self._http_measures,
            self._dicom,
            self._loop_lag,
        )

    async def start(self) -> None:
        """Listen on both ports. Raises Unavailable, naming the port, when one is taken."""
        settings = self._archive.settings
        await self._clear_incoming()
        listener = _listen(settings.bind, settings.http_port)
        self.http_port = listener.getsockname()[1]
        self._archive.accounts.ceremonies.listen_at(self.http_port)
        try:
            await self._dicom.start(settings.bind, settings.dicom_port)
        except Unavailable:
            listener.close()
            raise
        await self._warn_of_sick_store()
        self._commitments.start()
        self._availability.start()
        if self._delivery is not None:
            self._delivery.start()
        self._tasks = [
            asyncio.create_task(self._http.serve(sockets=[listener]), name="http"),
            asyncio.create_task(self._housekeeping.run(), name="housekeeping"),
            asyncio.create_task(self._watch_certificates(), name="certificates"),
            asyncio.create_task(self._loop_lag.watch(), name="loop lag"),
            asyncio.create_task(self._recompress_regularly(), name="recompression"),
            asyncio.create_task(
                self._derive_regularly("Thumbnails", self._archive.thumbnails), name="thumbnails"
            ),
            asyncio.create_task(
                self._derive_regularly("Metadata", self._archive.series_metadata), name="metadata"
            ),
        ]

    async def stop(self) -> None:
        """Stop listening, finish what was begun, for at most some seconds."""
        self._http.should_exit = True
        for regular in self._tasks[1:]:
            regular.cancel()
        await asyncio.gather(self._dicom.shutdown(_FINISH_S), *self._tasks, return_exceptions=True)
        await self._availability.stop()
        await self._commitments.stop()
        await self._outgoing.close()
        self._retrievals.close()
        await self._spanning.close()
        if self._delivery is not None:
            await self._delivery.stop()

    def reload_certificates(self) -> None:
        """Take the certificates as they are on disk now; open connections live on."""
        for endpoint in (self._http_tls, self._dicom_tls):
            if endpoint is not None:
                endpoint.reload()

    async def _watch_certificates(self) -> None:
        endpoints = [one for one in (self._http_tls, self._dicom_tls) if one is not None]
        while endpoints:
            await asyncio.sleep(_CERTIFICATES_LOOKED_AT_S)
            for endpoint in endpoints:
                await asyncio.to_thread(endpoint.reload_if_changed)

    async def _clear_incoming(self) -> None:
        """What crashes left half-written. Other processes (an import) may be writing too, but nobody takes a
        day for one object."""
        store = self._archive.store
        if isinstance(store, EncryptedStore):
            store = store.inner
        if isinstance(store, LocalStore):
            await store.recover(older_than=self._archive.clock.now() - timedelta(days=1))

    async def _warn_of_sick_store(self) -> None:
        """Start all the same: the store may come back, and until then senders are told to try later."""
        health = await self._archive.store.health()
        if not health.ok:
            log.warning("The object store cannot be used", reason=health.problem)

    async def _recompress_regularly(self) -> None:
        archive = self._archive
        if archive.settings.store_as != "htj2k":
            return
        recompression = Recompression(
            archive.database,
            archive.store,
            archive.ingest,
            archive.images.verifying(archive.store),
            archive.clock,
        )
        while True:
            await asyncio.sleep(_RECOMPRESSED_EVERY_S)
            try:
                report = await recompression.run(self._spare_time)
            except IsocenterError as error:
                log.warning("Compressing put off", reason=error.detail, remedy=error.remedy)
                continue
            if report.examined:
                log.info("Compressed", examined=report.examined, compressed=report.compressed)

    async def _tidy(self) -> None:
        await self._clear_incoming()
        await self._archive.images.transcoder.expire()
        await self._spanning.query_log.forget_of_all(days=self._archive.settings.query_log_days)

    async def _derive_regularly(self, what: str, derived: Thumbnails | SeriesMetadata) -> None:
        while True:
            await asyncio.sleep(self._archive.settings.thumbnail_after_s)
            try:
                report = await derived.make_settled(self._spare_time)
            except IsocenterError as error:
                log.warning(f"{what} put off", reason=error.detail, remedy=error.remedy)
            else:
                if report.made or report.failed:
                    log.info(f"{what} made", made=report.made, without=report.failed)


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


def _identities(archive: Archive) -> AssociationIdentities:
    return AssociationIdentities(archive.accounts.login, archive.accounts.authentication)


def _audit_delivery(archive: Archive) -> Delivery | None:
    settings = archive.settings
    if not settings.audit_syslog:
        return None
    host, _, port = settings.audit_syslog.rpartition(":")
    try:
        tls = client_tls(
            str(settings.audit_syslog_ca), str(settings.audit_syslog_cert), str(settings.audit_syslog_key)
        )
    except OSError as error:
        raise Unavailable(
            f"The certificates for the audit repository cannot be read ({type(error).__name__}).",
            remedy="Check audit_syslog_ca, audit_syslog_cert and audit_syslog_key.",
        ) from error
    receiver = SyslogReceiver(host.strip("[]"), int(port), tls, source=settings.ae_title)
    return Delivery(archive.database, receiver)


def _tls(settings: Settings, clock: Clock) -> tuple[TlsEndpoint | None, TlsEndpoint | None]:
    """HTTP's and DIMSE's, where they speak TLS. Raises InvalidInput where a certificate cannot be used."""
    http, dicom = settings.http_tls_files, settings.dicom_tls_files
    dicom_tls_profile = dicom_profile(DicomProfile(settings.dicom_tls_profile))
    return (
        TlsEndpoint("HTTP", TlsFiles(*http), https_profile(settings.http_tls_min), clock) if http else None,
        TlsEndpoint("DICOM", TlsFiles(*dicom), dicom_tls_profile, clock) if dicom else None,
    )
