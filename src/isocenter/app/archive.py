"""From settings to an open archive, which the server and the command line share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from isocenter.dicom.validation import Strictness
from isocenter.features.accounts.ceremonies import RelyingParty
from isocenter.features.accounts.opening import Accounts, open_accounts
from isocenter.features.ae_titles.service import AeTitles
from isocenter.features.archive.check import StorageCheck
from isocenter.features.archive.committer import GroupCommitter
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.deletion.restoring import Restoring
from isocenter.features.archive.images import PRELOADED, Images, open_images
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.patients.services import Patients, patients_of
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy, Policies, PolicyBook
from isocenter.features.archive.presented import PresentingStore
from isocenter.features.archive.quarantine import Quarantine
from isocenter.features.archive.retention import Retention
from isocenter.features.archive.series_metadata import SeriesMetadata
from isocenter.features.archive.spool import Spool
from isocenter.features.archive.sweep import OrphanSweep
from isocenter.features.archive.thumbnails import Thumbnails
from isocenter.features.archive.transcode_cache import TranscodeCache
from isocenter.features.audit.trail import AuditTrail
from isocenter.features.encryption.keyring import KeyRing
from isocenter.imaging.rendering import work
from isocenter.kit.clock import Clock, SystemClock
from isocenter.kit.errors import IsocenterError, Unavailable
from isocenter.platform.cache import open_redis
from isocenter.platform.db import Database, open_database
from isocenter.platform.security.installation_key import InstallationKey
from isocenter.platform.security.keys import MasterKey, load_master_key, open_to_others
from isocenter.platform.settings import Settings
from isocenter.platform.storage.encrypted import EncryptedStore
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.storage.open import open_store
from isocenter.platform.telemetry import get_logger
from isocenter.platform.workers.pool import WorkerLimits, WorkerPool

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
