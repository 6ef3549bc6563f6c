"""What deploy/ gives an operator: dashboards and alert rules, and the queries in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
RULES = DEPLOY / "prometheus" / "alerts.yml"
RULE_TESTS = DEPLOY / "prometheus" / "alerts_test.yml"

_NAME = re.compile(r"\b(?:isocenter|process)_[a-z_]+\b")


def dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def queries_of(path: Path) -> Iterator[str]:
    """The queries of a dashboard, with a value for each of Grafana's variables."""
    for panel in dashboard(path)["panels"]:
        for target in panel["targets"]:
            query: str = target["expr"]
            yield re.sub(r"\$[a-z]+", ".*", query.replace("$__rate_interval", "5m"))


def metrics_in(text: str) -> set[str]:
    return set(_NAME.findall(text))
