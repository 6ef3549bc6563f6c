"""What the HTTP doors need, handed in by whoever composes the program."""

from __future__ import annotations

from dataclasses import dataclass, field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.guards import HttpPolicy
from isocenter.doors.http.measures import HttpMeasures
from isocenter.doors.http.proxies import Network
from isocenter.features.archive.derived import SETTLED_S
from isocenter.features.archive.images import Images, open_images
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.series_metadata import SeriesMetadata
from isocenter.features.archive.thumbnails import Thumbnails
from isocenter.kit.clock import Clock, SystemClock
from isocenter.platform.db.interface import Database
from isocenter.platform.security import NoRecorder, Recorder
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.workers.pool import WorkerPool


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds on one request; the defaults suit a hospital's network.

    ``body_bytes_max`` holds for every route but those that take objects (``object_body_bytes_max``; None:
    unbounded, memory stays flat all the same). ``body_silence_s``: how long a body may pause.
    ``search_results_max``: the most matches in one answer; more are asked for with ``offset``.
    ``search_offset_max``: the most that are skipped; ``search_objects_max``: the most objects that are read
    for one answer because the index lacks what was asked for.
    ``parts_max``: the most objects in one request. ``decoded_body_bytes_max``: what a compressed
    body may become.
    """

    body_bytes_max: int = 1 << 20
    object_body_bytes_max: int | None = None
    body_silence_s: float = 60.0
    search_results_max: int = 10_000
    search_offset_max: int = 100_000
    search_objects_max: int = 200
    parts_max: int = 20_000
    decoded_body_bytes_max: int = 256 << 30


@dataclass(frozen=True, slots=True)
class HttpServices:
    """``public_url`` (no trailing slash) is how the world reaches this server; empty: as the request says.

    ``retrieve_ae_title``: under which AE title it gives objects over DIMSE; empty: under none.
    """

    database: Database
    store: ObjectStore
    ingest: Ingest
    gate: Gate
    public_url: str = ""
    retrieve_ae_title: str = ""
    limits: HttpLimits = field(default_factory=HttpLimits)
    policy: HttpPolicy = field(default_factory=HttpPolicy)
    trusted_proxies: tuple[Network, ...] = ()
    clock: Clock = field(default_factory=SystemClock)
    recorder: Recorder = field(default_factory=NoRecorder)
    workers: WorkerPool = field(default_factory=lambda: WorkerPool(2))
    images: Images | None = None
    thumbnails: Thumbnails | None = None
    series_metadata: SeriesMetadata | None = None
    measures: HttpMeasures = field(default_factory=HttpMeasures)

    def images_or_new(self) -> Images:
        """Those that are handed in, else some of our own over the same store and workers."""
        return self.images or open_images(self.store, workers=self.workers)

    def thumbnails_or_new(self, images: Images) -> Thumbnails:
        """Those that are handed in, else some of our own over the same store."""
        return self.thumbnails or Thumbnails(
            self.database, self.store, images, self.clock, settled_s=SETTLED_S
        )

    def series_metadata_or_new(self) -> SeriesMetadata:
        """As that handed in, else some of our own over the same store."""
        return self.series_metadata or SeriesMetadata(
            self.database, self.store, self.clock, settled_s=SETTLED_S
        )
