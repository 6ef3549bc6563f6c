"""``/metrics`` of a server that has done some of everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.deployed import DASHBOARDS, RULES, metrics_in, queries_of
from services.dicomweb import multipart
from services.isocenter import Isocenter
from services.processes import free_ports
from services.prometheus import Samples, samples_of, value_of
from services.series import new_series, write_files

_PATIENT = "SECRET^PATIENT"


def scraped(server: Isocenter) -> str:
    status, text = server.request("GET", "/metrics")
    assert status == 200, text
    return text.decode()


def call(server: Isocenter, method: str, path: str, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json"}
    status, answer = server.request(method, path, orjson.dumps(body) if body is not None else None, headers)
    assert status < 300, (status, answer)
    return orjson.loads(answer)


def configure(server: Isocenter) -> tuple[int, int, int]:
    """A configuration of this archive and of one that nobody runs."""
    config = call(server, "POST", "/api/v1/config/spanner/", {"name": "all", "retry_attempts": 0})["id"]
    [port] = free_ports(1)
    nobody = {"type": "dimse", "ae_title": "NOBODY", "host": "127.0.0.1", "port": port}
    ids = []
    for source in ({"name": "own", "type": "local"}, {"name": "nobody", **nobody}):
        ids.append(call(server, "POST", "/api/v1/sources", source)["id"])
        call(server, "POST", f"/api/v1/config/spanner/{config}/sources/", {"source_id": ids[-1]})
    return config, *ids


@pytest.fixture
def busy(start_isocenter: Callable[..., Isocenter], tmp_path: Path) -> tuple[Isocenter, str, str]:
    """The server, and the numbers of its two sources."""
    server = start_isocenter("--max-object-size", "64KB")
    images = new_series(3, name=_PATIENT)
    files = write_files(tmp_path / "files", images[1:])
    server.store(images[:2])
    sent = server.run("scu", "send", "127.0.0.1", server.dicom_port, *files, "--called", server.ae_title)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    too_large, headers = multipart([images[0].but(pixels=bytes(100_000)).file])
    assert server.request("POST", "/dicom-web/studies", too_large, headers)[0] >= 400
    config, own, nobody = configure(server)
    for _ in range(6):
        call(server, "GET", f"/api/v1/spanner/qido/studies?spanner_config_id={config}&PatientName={_PATIENT}")
    return server, str(own), str(nobody)


def test_what_is_told_is_what_happened(busy: tuple[Isocenter, str, str]) -> None:
    server, own, nobody = busy
    text = scraped(server)
    samples = samples_of(text)

    _ingest(samples)
    assert value_of(samples, "isocenter_spanner_queries_total", outcome="partial") == 6
    assert value_of(samples, "isocenter_spanner_queries_total") == 6
    assert value_of(samples, "isocenter_spanner_query_seconds_count") == 6
    assert value_of(samples, "isocenter_spanner_cache_total", result="miss") == 6
    questions = "isocenter_spanner_source_questions_total"
    assert value_of(samples, questions, organization="1", source=own, ended="answered") == 6
    assert value_of(samples, questions, source=nobody, ended="failed") == 5
    assert value_of(samples, questions, source=nobody, ended="not-asked") == 1
    assert value_of(samples, "isocenter_spanner_source_up", source=own) == 1
    assert value_of(samples, "isocenter_spanner_source_up", source=nobody) == 0
    assert ("isocenter_spanner_source_up", frozenset({("organization", "1"), ("source", nobody)})) in samples
    assert value_of(samples, "isocenter_spanner_source_seconds_count", source=nobody) == 5
    assert value_of(samples, "isocenter_http_requests_total", method="POST", status="2xx") >= 6
    assert value_of(samples, "isocenter_http_requests_total", method="POST", status="4xx") == 1
    assert value_of(samples, "isocenter_workers") == 2
    assert "SECRET" not in text and "nobody" not in text and "NOBODY" not in text


def _ingest(samples: Samples) -> None:
    objects = "isocenter_ingest_objects_total"
    assert value_of(samples, objects, door="stow", outcome="stored") == 2
    assert value_of(samples, objects, door="dimse", outcome="stored") == 1
    assert value_of(samples, objects, door="dimse", outcome="duplicate") == 1
    assert value_of(samples, "isocenter_ingest_failures_total", code="too-large") == 1
    assert value_of(samples, "isocenter_ingest_bytes_total") > 0
    operations = "isocenter_dimse_operations_total"
    assert value_of(samples, operations, operation="C-STORE", status="success") == 2
    assert value_of(samples, "isocenter_dimse_associations") == 0


def test_dashboards_and_rules_ask_for_nothing_that_is_not_told(busy: tuple[Isocenter, str, str]) -> None:
    told = {name for name, _ in samples_of(scraped(busy[0]))}
    told |= {name.removesuffix("_count") for name in told}
    wanted = {
        RULES.name: metrics_in(RULES.read_text()),
        **{path.name: metrics_in("\n".join(queries_of(path))) for path in DASHBOARDS},
    }
    assert all(wanted.values())
    missing = {name: metrics - told for name, metrics in wanted.items()}
    assert not any(missing.values()), missing


def made_key(server: Isocenter, *words: str) -> dict[str, str]:
    made = server.run("key", "create", *words)
    assert made.returncode == 0, made.stderr
    return {"Authorization": made.stdout.splitlines()[0].removeprefix("Authorization: ")}


def test_a_key_of_the_operator_s_reads_and_no_other(start_isocenter: Callable[..., Isocenter]) -> None:
    server = start_isocenter(auth="required")
    assert server.request("GET", "/metrics")[0] == 401
    assert server.request("GET", "/metrics", headers=made_key(server, "a", "--role", "admin"))[0] == 403
    key = made_key(server, "prometheus", "--permission", "metrics:read")
    assert server.request("GET", "/metrics", headers=key)[0] == 200
    assert server.request("GET", "/api/v1/statistics", headers=key)[0] == 403


def test_this_machine_reads_where_the_operator_lets_it(start_isocenter: Callable[..., Isocenter]) -> None:
    server = start_isocenter("--metrics-from-this-machine", auth="required")
    assert server.request("GET", "/metrics")[0] == 200
    for header in ("X-Forwarded-For", "Forwarded", "Via"):
        told = {header: "127.0.0.1"}
        assert server.request("GET", "/metrics", headers=told)[0] == 401, "a proxy asks for somebody else"
