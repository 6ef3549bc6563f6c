"""Prometheus' own judge of rules, and what a server tells Prometheus."""

from __future__ import annotations

import subprocess
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from services.packages import find_program

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""By name and labels."""


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Does not raise for its exit code."""
    command = [find_program("promtool", "prometheus"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def samples_of(text: str) -> Samples:
    """Raises ValueError for what Prometheus could not read."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value_of(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all samples of that name with those labels."""
    wanted = set(labels.items())
    return sum(value for (found, pairs), value in samples.items() if found == name and wanted <= pairs)
