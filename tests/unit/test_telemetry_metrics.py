"""Plain measures, and how Prometheus reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from isocenter.platform.telemetry.exposition import Exposition, Metric, MetricType, Sample
from isocenter.platform.telemetry.loop_lag import LoopLag
from isocenter.platform.telemetry.measures import Distribution

SEEN = Metric("t_seen_total", MetricType.COUNTER, "How often.", ("what",))
LEVEL = Metric("t_level", MetricType.GAUGE, "How high.")
TOOK = Metric("t_took_seconds", MetricType.HISTOGRAM, "How long.")


async def values(samples: Iterable[Sample]) -> dict[str, float]:
    """Each line of the answer: name with labels, value."""
    text = (await Exposition((SEEN, LEVEL, TOOK), lambda: samples).text()).decode()
    assert "# HELP t_seen_total How often." in text
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("value", "counts"), [(0.1, [1, 0, 0]), (0.11, [0, 1, 0]), (2.0, [0, 1, 0]), (9, [0, 0, 1])]
)
def test_a_value_that_equals_a_bound_is_below_it(value: float, counts: list[int]) -> None:
    distribution = Distribution((0.1, 2.0))
    distribution.add(value)
    assert distribution.counts == counts


async def test_what_prometheus_reads() -> None:
    took = Distribution((0.5, 2.0))
    for value in (0.25, 0.5, 1.0, 8.0):
        took.add(value)

    found = await values(
        [Sample(SEEN, 3, ("a",)), Sample(SEEN, 4, ("b",)), Sample(LEVEL, 7), Sample(TOOK, took)]
    )

    assert found["t_seen_total|a"] == 3 and found["t_seen_total|b"] == 4
    assert found["t_level"] == 7
    buckets = {name.partition("|")[2]: value for name, value in found.items() if "_bucket" in name}
    assert buckets == {"0.5": 2, "2": 3, "+Inf": 4}
    assert found["t_took_seconds_count"] == 4 and found["t_took_seconds_sum"] == 9.75
    assert found["process_cpu_seconds_total"] > 0


async def test_each_server_of_a_process_tells_its_own() -> None:
    first = Exposition((LEVEL,), lambda: [Sample(LEVEL, 1)])
    second = Exposition((LEVEL,), lambda: [Sample(LEVEL, 2)])
    assert b"t_level 1.0" in await first.text()
    assert b"t_level 2.0" in await second.text()


async def test_what_is_told_is_of_one_moment() -> None:
    took = Distribution((1.0,))
    exposition = Exposition((TOOK,), lambda: [Sample(TOOK, took)])
    written = asyncio.create_task(exposition.text())
    await asyncio.sleep(0)  # read; a thread writes
    took.add(0.5)
    assert b"t_took_seconds_count 0.0" in await written


async def test_who_holds_up_the_event_loop_is_seen() -> None:
    lag = LoopLag(every_s=0.001)
    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0)  # it waits now
    loop = asyncio.get_running_loop()
    until_s = loop.time() + 0.06
    while loop.time() < until_s:
        pass
    for _ in range(3):  # its timer, its future, itself
        await asyncio.sleep(0)
    watching.cancel()
    assert sum(lag.lag_s.counts) == 1
    assert lag.lag_s.sum >= 0.05
    assert not sum(lag.lag_s.counts[:5]), "later than 0.05 s"
