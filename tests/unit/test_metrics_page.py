"""docs/metrics.md is the table of metrics."""

from __future__ import annotations

import re
from pathlib import Path

from isocenter.app.metrics import METRICS
from isocenter.cli.config import metrics_reference
from isocenter.platform.telemetry.exposition import MetricType

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_of_metrics_is_the_table_of_metrics() -> None:
    page = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert metrics_reference() in page, "put what `isocenter config metrics` prints into docs/metrics.md"


def test_names_are_as_prometheus_wants_them() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"isocenter_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.type is MetricType.COUNTER), metric.name
        assert metric.name.endswith("_seconds") == (metric.type is MetricType.HISTOGRAM), metric.name
