"""Composing the program: from settings to an open archive, and from an archive to a running server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import uvicorn

from isocenter.dicom.validation import Strictness
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
from isocenter.doors.http.patient_routes import patient_router
from isocenter.doors.http.protocol import BoundedHttpProtocol
from isocenter.doors.http.quarantine_routes import quarantine_router
from isocenter.doors.http.services import HttpServices
from isocenter.doors.http.statistics_routes import statistics_router
from isocenter.doors.http.worklist_routes import worklist_router
from isocenter.doors.scp.committing import commitment_worker
from isocenter.doors.scp.notifying import availability_notifier
from isocenter.doors.scp.outgoing import Outgoing, OutgoingSettings
from isocenter.doors.scp.server import DicomServices, DicomSettings, create_dicom_server
from isocenter.doors.web.viewer import viewer_routes
from isocenter.features.accounts.associations import AssociationIdentities
from isocenter.features.accounts.ceremonies import RelyingParty
from isocenter.features.accounts.opening import Accounts, open_accounts
from isocenter.features.ae_titles.destinations import Destinations
from isocenter.features.ae_titles.service import AeTitles
from isocenter.features.archive.check import StorageCheck
from isocenter.features.archive.committer import GroupCommitter
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.deletion.purging import Purging
from isocenter.features.archive.deletion.restoring import Restoring
from isocenter.features.archive.holdings import Holdings
from isocenter.features.archive.housekeeping import Housekeeping
from isocenter.features.archive.images import PRELOADED, Images, open_images
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.patients.services import Patients, patients_of
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy, Policies, PolicyBook
from isocenter.features.archive.presented import PresentingStore
from isocenter.features.archive.quarantine import Quarantine
from isocenter.features.archive.recompressing import Recompression
from isocenter.features.archive.retention import Retention
from isocenter.features.archive.series_metadata import SeriesMetadata
from isocenter.features.archive.spare_time import SpareTime
from isocenter.features.archive.spool import Spool
from isocenter.features.archive.sweep import OrphanSweep
from isocenter.features.archive.thumbnails import Thumbnails
from isocenter.features.archive.transcode_cache import TranscodeCache
from isocenter.features.audit.delivery import Delivery
from isocenter.features.audit.syslog import SyslogReceiver, client_tls
from isocenter.features.audit.trail import AuditTrail
from isocenter.features.encryption.keyring import KeyRing
from isocenter.imaging.rendering import work
from isocenter.kit.clock import Clock, SystemClock
from isocenter.kit.errors import IsocenterError, Unavailable
from isocenter.platform.cache import open_redis
from isocenter.platform.db import Database, open_database
from isocenter.platform.security import anybody
from isocenter.platform.security.installation_key import InstallationKey
from isocenter.platform.security.keys import MasterKey, load_master_key, open_to_others
from isocenter.platform.settings import Settings
from isocenter.platform.storage.encrypted import EncryptedStore
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.storage.open import open_store
from isocenter.platform.telemetry import get_logger
from isocenter.platform.tls import (
    CallingTls,
    DicomProfile,
    TlsEndpoint,
    TlsFiles,
    dicom_profile,
    https_profile,
)
from isocenter.platform.workers.pool import WorkerLimits, WorkerPool

DEFAULT_ORGANIZATION = 1
_FINISH_S = 7.0
"""What begun work may take after SIGTERM; with closing up it stays below the 10 s that are promised."""
_CERTIFICATES_LOOKED_AT_S = 60.0
_RECOMPRESSED_EVERY_S = 5.0
_CHANNEL_MESSAGE_BYTES_MAX = 64 << 10
"""Of what subscribers say, which is nothing."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Archive:
    """Everything that keeps and finds objects; the server and the command line share it."""

    settings: Settings
    clock: Clock
    database: Database
    store: ObjectStore
    leaving: PresentingStore
    ingest: Ingest
    policies: PolicyBook
    quarantine: Quarantine
    deletions: Deletions
    restoring: Restoring
    patients: Patients
    retention: Retention
    sweep: OrphanSweep
    check: StorageCheck
    ae_titles: AeTitles
    trail: AuditTrail
    keys: KeyRing | None
    accounts: Accounts
    images: Images
    thumbnails: Thumbnails
    series_metadata: SeriesMetadata


@contextlib.asynccontextmanager
async def open_archive(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Archive]:
    """Open database and store, bring the schema up to date; close both at the end, after what was begun.

    Raises Unavailable or InvalidInput with what to do about it.
    """
    clock = clock or SystemClock()
    database = await open_database(
        settings.database_url_or_default, migration_url=settings.database_migration_url
    )
    try:
        keys = await open_keys(settings, database, clock)
    except IsocenterError:
        await database.close()
        raise
    store = _sealed(open_store_of(settings), keys, settings)
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
    key = installation_key_of(settings)
    redis = open_redis(settings.redis_url, clock) if settings.redis_url else None
    committer = GroupCommitter(database, clock)
    policies = PolicyBook(database, _default_policies(settings), clock)
    ingest = Ingest(store, spool, committer, policies, object_bytes_max=settings.max_object_size)
    ae_titles = AeTitles(database, clock, admit_any=settings.calling_ae_titles == "any")
    trail = AuditTrail(database, clock)
    leaving = PresentingStore(store)
    images = open_images(leaving, workers=_workers(settings), cache=_transcode_cache(settings, keys, clock))
    accounts = open_accounts(
        database,
        clock,
        key,
        trail,
        relying_party=_relying_party(settings),
        redis=redis,
        on_settings_change=policies.forget,
        public_url=settings.public_url_or_default,
    )
    settled_s = settings.thumbnail_after_s
    thumbnails = Thumbnails(database, leaving, images, clock, settled_s=settled_s)
    try:
        yield Archive(
            settings=settings,
            clock=clock,
            database=database,
            store=store,
            leaving=leaving,
            ingest=ingest,
            policies=policies,
            quarantine=Quarantine(database, ingest, clock),
            patients=patients_of(database, clock),
            deletions=Deletions(database, clock),
            restoring=Restoring(database, ingest, clock),
            retention=Retention(database, clock, trail),
            sweep=OrphanSweep(database, store, clock, grace=timedelta(seconds=settings.sweep_grace_s)),
            check=StorageCheck(database, store, ingest, clock),
            ae_titles=ae_titles,
            trail=trail,
            keys=keys,
            accounts=accounts,
            images=images,
            thumbnails=thumbnails,
            series_metadata=SeriesMetadata(database, leaving, clock, settled_s=settled_s),
        )
    finally:
        await images.close()
        await accounts.close()
        if redis is not None:
            await redis.close()
        await ae_titles.close()
        await committer.close()
        await trail.close()
        spool.close()
        await store.close()
        await database.close()


def installation_key_of(settings: Settings) -> InstallationKey:
    """Raises InvalidInput, Unavailable."""
    if given := settings.installation_key.get_secret_value():
        return InstallationKey(given)
    return InstallationKey.of_folder(settings.data_folder / "secrets")


def _relying_party(settings: Settings) -> RelyingParty | None:
    domain, origins = settings.relying_party
    return RelyingParty(domain, origins) if domain else None


def _sealed(store: ObjectStore, keys: KeyRing | None, settings: Settings) -> ObjectStore:
    """With encryption over it, where there are keys."""
    if keys is None:
        return store
    return EncryptedStore(store, keys, seal_new=settings.encryption == "on")


def _workers(settings: Settings) -> WorkerPool:
    limits = WorkerLimits(memory_bytes=settings.pixel_memory, time_s=settings.pixel_time_s)
    return WorkerPool(settings.pixel_workers, limits, preload=(*PRELOADED, work.PRELOADED))


def _transcode_cache(settings: Settings, keys: KeyRing | None, clock: Clock) -> TranscodeCache | None:
    if not settings.transcode_cache:
        return None
    store = _sealed(LocalStore(settings.data_folder / "cache"), keys, settings)
    return TranscodeCache(store, clock, bytes_max=settings.transcode_cache)


def open_store_of(settings: Settings) -> ObjectStore:
    return open_store(
        settings.storage_url_or_default,
        endpoint=settings.storage_endpoint,
        public_endpoint=settings.storage_public_endpoint,
        region=settings.storage_region,
        access_key=settings.storage_access_key,
        secret_key=settings.storage_secret_key.get_secret_value(),
    )


async def open_keys(settings: Settings, database: Database, clock: Clock) -> KeyRing | None:
    """The data keys, all of them seen to open; None for an archive that neither is nor ever was encrypted.

    Where encryption was switched off again, encrypted objects go on being read. Raises what
    `KeyRing.check` and `load_master_key` raise.
    """
    if settings.encryption == "off" and not await KeyRing(database, None, clock).status():
        return None
    keys = KeyRing(database, await load_master_key_of(settings), clock)
    await keys.check()
    return keys


async def load_master_key_of(settings: Settings) -> MasterKey | None:
    file = Path(settings.encryption_master_key_file) if settings.encryption_master_key_file else None
    master = await asyncio.to_thread(
        load_master_key,
        file=file,
        value=settings.encryption_master_key.get_secret_value(),
        command=settings.encryption_master_key_command,
    )
    if file is not None and open_to_others(file):
        log.warning("Others may read the master key's file", file=str(file), remedy=f"chmod 600 {file}")
    return master


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
            *account_routers(
                archive.accounts,
                gate,
                Holdings(archive.database, archive.clock),
                https=settings.public_url_or_default.startswith("https:"),
            ),
        )
        pages = viewer_routes(settings.viewer_folder, dicom_web=MOUNT, sign_in=settings.auth != "off")
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


def outgoing_of(archive: Archive) -> Outgoing:
    """How the archive's organisations call their destinations; close it."""
    settings = archive.settings
    files = settings.dicom_tls_files
    tls = CallingTls(
        dicom_profile(DicomProfile(settings.dicom_tls_profile)),
        authorities=settings.dicom_tls_peers_ca_file,
        certificate=files[0] if files else None,
        key=files[1] if files else None,
    )
    return Outgoing(
        Destinations(archive.database, archive.clock),
        OutgoingSettings(settings.ae_title, settings.dimse_response_timeout_s),
        tls=tls.context,
    )


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
