"""Prometheus' own promtool on what deploy/ gives an operator."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from services.deployed import DASHBOARDS, RULE_TESTS, RULES, dashboard, queries_of
from services.prometheus import promtool


def test_each_rule_speaks_beyond_its_threshold_and_not_before() -> None:
    done = promtool("test", "rules", RULE_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_has_its_two_tests() -> None:
    rules = re.findall(r"- alert: (\w+)", RULES.read_text())
    tests = re.findall(r"- name: (\w+) (\w+)", RULE_TESTS.read_text())
    assert sorted(tests) == sorted((rule, word) for rule in rules for word in ("silent", "speaks"))


@pytest.mark.parametrize(
    ("said", "otherwise"),
    [
        ("> 0.05", "> 0.06"),
        ("> 0.8", "> 0.9"),
        ("> 1000", "> 2000"),
        ("== 0", "== 2"),
        ("[5m]))) > 2", "[5m]))) > 5"),
    ],
)
def test_a_threshold_that_was_moved_is_found(tmp_path: Path, said: str, otherwise: str) -> None:
    rules = RULES.read_text()
    assert said in rules
    (tmp_path / RULES.name).write_text(rules.replace(said, otherwise))
    shutil.copy(RULE_TESTS, tmp_path)
    assert promtool("test", "rules", tmp_path / RULE_TESTS.name).returncode == 1


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_understands_the_queries_of_a_dashboard(path: Path, tmp_path: Path) -> None:
    rules = "".join(
        f"  - record: q:{number}\n    expr: {query!r}\n" for number, query in enumerate(queries_of(path))
    )
    (tmp_path / "queries.yml").write_text(f"groups:\n- name: queries\n  rules:\n{rules}")
    done = promtool("check", "rules", tmp_path / "queries.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_of_a_dashboard_do_not_lie_on_one_another(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
