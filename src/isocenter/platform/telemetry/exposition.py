"""Metrics as Prometheus reads them: the only place that knows Prometheus.

Nothing is copied while the program works: whoever scrapes has the plain measures of its parts read at that
moment. One `Exposition` for each server, and no registry that they share: a process may run several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from isocenter.platform.telemetry.measures import Distribution

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text format that every Prometheus reads."""

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class MetricType(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """``name`` ends with its unit, a counter's with ``_total``. ``labels``: names; nothing of patients."""

    name: str
    type: MetricType
    says: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """``labels``: a value for each of the metric's."""

    metric: Metric
    value: float | Distribution
    labels: tuple[str, ...] = ()


class Exposition:
    """``metrics``: all there are; one without a sample is named all the same. ``read``: what they say now."""

    def __init__(self, metrics: Iterable[Metric], read: Callable[[], Iterable[Sample]]) -> None:
        self._metrics = tuple(metrics)
        self._read = read
        self._process = ProcessCollector(registry=None)

    async def text(self) -> bytes:
        """To be sent as `CONTENT_TYPE`. Read at one moment; written in a thread, since many sources take as
        many milliseconds."""
        samples = [_as_it_stands(sample) for sample in self._read()]
        return await asyncio.to_thread(self._written, samples)

    def _written(self, samples: Iterable[Sample]) -> bytes:
        registry = CollectorRegistry()
        registry.register(_Moment(self._metrics, samples))
        registry.register(self._process)
        return generate_latest(registry)


class _Moment(Collector):
    def __init__(self, metrics: Iterable[Metric], samples: Iterable[Sample]) -> None:
        self._metrics = metrics
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        families = {metric: _family(metric) for metric in self._metrics}
        for sample in self._samples:
            _add(families[sample.metric], sample)
        yield from families.values()


def _as_it_stands(sample: Sample) -> Sample:
    if isinstance(sample.value, Distribution):
        return Sample(sample.metric, sample.value.copy(), sample.labels)
    return sample


def _family(metric: Metric) -> Family:
    match metric.type:
        case MetricType.COUNTER:
            return CounterMetricFamily(metric.name, metric.says, labels=metric.labels)
        case MetricType.GAUGE:
            return GaugeMetricFamily(metric.name, metric.says, labels=metric.labels)
        case MetricType.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.says, labels=metric.labels)


def _add(family: Family, sample: Sample) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(sample.value, Distribution)
        buckets = [(_bound(bound), count) for bound, count in sample.value.up_to()]
        family.add_metric(sample.labels, buckets, sample.value.sum)
    else:
        assert not isinstance(sample.value, Distribution)
        family.add_metric(sample.labels, sample.value)


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else f"{bound:g}"
