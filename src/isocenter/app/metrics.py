"""What ``/metrics`` tells: the table of metrics, and how each is read from the parts that measure.

The table makes docs/metrics.md (``isocenter config metrics``); dashboards and alert rules are in deploy/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isocenter import __version__
from isocenter.dimse.net.server import DimseServer
from isocenter.doors.http.measures import HttpMeasures
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.ingest import Ingest
from isocenter.features.spanner.asking import QueryOutcome
from isocenter.features.spanner.flights import CacheResult
from isocenter.features.spanner.service import Spanner
from isocenter.platform.telemetry.exposition import Metric, MetricType, Sample
from isocenter.platform.telemetry.loop_lag import LoopLag
from isocenter.platform.workers.pool import WorkerPool

_COUNTER, _GAUGE, _HISTOGRAM = MetricType.COUNTER, MetricType.GAUGE, MetricType.HISTOGRAM
_SOURCE = ("organization", "source")

BUILD_INFO = Metric("isocenter_build_info", _GAUGE, "Always 1; which version runs.", ("version",))
EVENT_LOOP_LAG = Metric(
    "isocenter_event_loop_lag_seconds", _HISTOGRAM, "How late the event loop came to what was due."
)

SPANNER_QUERIES = Metric(
    "isocenter_spanner_queries_total",
    _COUNTER,
    "Queries as whoever asked saw them end: complete, partial (sources missing), failed, cancelled.",
    ("outcome",),
)
SPANNER_QUERY_SECONDS = Metric(
    "isocenter_spanner_query_seconds",
    _HISTOGRAM,
    "From query to answer, those from the cache included and those that were cancelled not.",
)
SPANNER_CACHE = Metric(
    "isocenter_spanner_cache_total",
    _COUNTER,
    "Queries by whether sources had to be asked: hit (it was kept), joined (the same was under way), miss.",
    ("result",),
)
SPANNER_PENDING = Metric(
    "isocenter_spanner_pending",
    _GAUGE,
    "Questions that sources owe an answer to: under way, in line, and waiting to be tried again.",
)
SPANNER_SOURCE_QUESTIONS = Metric(
    "isocenter_spanner_source_questions_total",
    _COUNTER,
    "Questions to a source, all attempts as one: answered, timed-out, refused, failed, not-asked, cancelled.",
    (*_SOURCE, "ended"),
)
SPANNER_SOURCE_SECONDS = Metric(
    "isocenter_spanner_source_seconds", _HISTOGRAM, "How long a source took, all attempts together.", _SOURCE
)
SPANNER_SOURCE_UP = Metric(
    "isocenter_spanner_source_up",
    _GAUGE,
    "1: the source is asked; 0: it failed again and again. Told for an hour after it was last asked.",
    _SOURCE,
)
SPANNER_SOURCE_WAITING = Metric(
    "isocenter_spanner_source_waiting", _GAUGE, "Questions in line for a source.", _SOURCE
)
SPANNER_SOURCE_OBJECTS = Metric(
    "isocenter_spanner_source_objects_total", _COUNTER, "Objects that a source gave for retrievals.", _SOURCE
)

INGEST_OBJECTS = Metric(
    "isocenter_ingest_objects_total",
    _COUNTER,
    "Objects that came in and were answered for, by the door they came by and what became of them.",
    ("door", "outcome"),
)
INGEST_BYTES = Metric("isocenter_ingest_bytes_total", _COUNTER, "Bytes of objects that were filed anew.")
INGEST_FAILURES = Metric(
    "isocenter_ingest_failures_total",
    _COUNTER,
    "Objects that could be neither filed nor quarantined, by the problem's code.",
    ("code",),
)

WORKERS = Metric("isocenter_workers", _GAUGE, "Worker processes that pixels may be given to, at most.")
WORKERS_BUSY = Metric("isocenter_workers_busy", _GAUGE, "Worker processes that have something to do.")
WORKERS_WAITING = Metric("isocenter_workers_waiting", _GAUGE, "Calls in line for a worker process.")
WORKER_BUSY_SECONDS = Metric(
    "isocenter_worker_busy_seconds_total", _COUNTER, "Seconds that worker processes worked, all together."
)

HTTP_REQUESTS = Metric(
    "isocenter_http_requests_total",
    _COUNTER,
    "HTTP requests by method and class of status; none: the client was gone before there was one.",
    ("method", "status"),
)
HTTP_REQUEST_SECONDS = Metric(
    "isocenter_http_request_seconds",
    _HISTOGRAM,
    "From an HTTP request to the end of its answer.",
    ("method",),
)

DIMSE_ASSOCIATIONS = Metric("isocenter_dimse_associations", _GAUGE, "Associations that peers have open.")
DIMSE_OPERATIONS = Metric(
    "isocenter_dimse_operations_total",
    _COUNTER,
    "Operations that peers asked for, by command and family of the last status (PS3.7 Annex C).",
    ("operation", "status"),
)

METRICS = (
    BUILD_INFO,
    EVENT_LOOP_LAG,
    SPANNER_QUERIES,
    SPANNER_QUERY_SECONDS,
    SPANNER_CACHE,
    SPANNER_PENDING,
    SPANNER_SOURCE_QUESTIONS,
    SPANNER_SOURCE_SECONDS,
    SPANNER_SOURCE_UP,
    SPANNER_SOURCE_WAITING,
    SPANNER_SOURCE_OBJECTS,
    INGEST_OBJECTS,
    INGEST_BYTES,
    INGEST_FAILURES,
    WORKERS,
    WORKERS_BUSY,
    WORKERS_WAITING,
    WORKER_BUSY_SECONDS,
    HTTP_REQUESTS,
    HTTP_REQUEST_SECONDS,
    DIMSE_ASSOCIATIONS,
    DIMSE_OPERATIONS,
)


_NOTHING_CAME_IN = {(door, OutcomeKind.STORED): 0 for door in ("dimse", "stow")}
"""Told from the beginning: a share of failures is a share of something."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a server that measure."""

    spanner: Spanner
    ingest: Ingest
    workers: WorkerPool
    http: HttpMeasures
    dimse: DimseServer
    loop_lag: LoopLag


def read(parts: Parts) -> Iterator[Sample]:
    """What they say now; on the event loop, so that nothing changes meanwhile."""
    yield Sample(BUILD_INFO, 1, (__version__,))
    yield Sample(EVENT_LOOP_LAG, parts.loop_lag.lag_s)
    yield from _of_spanner(parts.spanner)
    yield from _of_sources(parts.spanner)
    yield from _of_ingest(parts.ingest)
    yield from _of_workers(parts.workers)
    yield from _of_http(parts.http)
    yield from _of_dimse(parts.dimse)


def _of_spanner(spanner: Spanner) -> Iterator[Sample]:
    """Every outcome from the beginning: a rate is seen from the second value on, the first failure too."""
    measures = spanner.measures
    for outcome in QueryOutcome:
        yield Sample(SPANNER_QUERIES, measures.queries[outcome], (outcome,))
    yield Sample(SPANNER_QUERY_SECONDS, measures.query_s)
    for result in CacheResult:
        yield Sample(SPANNER_CACHE, spanner.cache_results[result], (result,))
    yield Sample(SPANNER_PENDING, spanner.pending)


def _of_sources(spanner: Spanner) -> Iterator[Sample]:
    measures = spanner.measures
    for ((organization_id, source_id), ended), count in measures.questions.items():
        yield Sample(SPANNER_SOURCE_QUESTIONS, count, (str(organization_id), str(source_id), ended))
    for (organization_id, source_id), took_s in measures.source_s.items():
        yield Sample(SPANNER_SOURCE_SECONDS, took_s, (str(organization_id), str(source_id)))
    for (organization_id, source_id), count in measures.objects.items():
        yield Sample(SPANNER_SOURCE_OBJECTS, count, (str(organization_id), str(source_id)))
    for (organization_id, source_id), state in spanner.source_states():
        labels = str(organization_id), str(source_id)
        yield Sample(SPANNER_SOURCE_UP, int(state.is_up), labels)
        yield Sample(SPANNER_SOURCE_WAITING, state.waiting, labels)


def _of_ingest(ingest: Ingest) -> Iterator[Sample]:
    measures = ingest.measures
    for (door, outcome), count in (_NOTHING_CAME_IN | measures.objects).items():
        yield Sample(INGEST_OBJECTS, count, (door, outcome))
    yield Sample(INGEST_BYTES, measures.new_bytes)
    for code, count in measures.failures.items():
        yield Sample(INGEST_FAILURES, count, (code,))


def _of_workers(workers: WorkerPool) -> Iterator[Sample]:
    yield Sample(WORKERS, workers.count)
    yield Sample(WORKERS_BUSY, workers.busy)
    yield Sample(WORKERS_WAITING, workers.waiting)
    yield Sample(WORKER_BUSY_SECONDS, workers.busy_s)


def _of_http(http: HttpMeasures) -> Iterator[Sample]:
    for labels, count in http.requests.items():
        yield Sample(HTTP_REQUESTS, count, labels)
    for method, took_s in http.took_s.items():
        yield Sample(HTTP_REQUEST_SECONDS, took_s, (method,))


def _of_dimse(dimse: DimseServer) -> Iterator[Sample]:
    yield Sample(DIMSE_ASSOCIATIONS, dimse.open_associations)
    for labels, count in dimse.answered.items():
        yield Sample(DIMSE_OPERATIONS, count, labels)
