"""What every request gets, whatever it asks for: no traces of the inside, no patient data in the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from structlog.testing import capture_logs

from isocenter.doors.http.application import create_app
from isocenter.doors.http.measures import HttpMeasures
from isocenter.doors.http.problems import http_status, problem
from isocenter.doors.http.services import HttpLimits, HttpServices
from isocenter.kit.errors import IsocenterError, Kind, NotFound, Unavailable
from isocenter.platform.storage.faults import FaultyStore
from isocenter.platform.storage.interface import StoreHealth
from isocenter.platform.storage.local import LocalStore
from services.archive import Image
from services.dicomweb import HttpServer, http_server, open_gate, served

SECRET = "DOE^JOHN"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


class Body(BaseModel):
    number: int


def test_a_client_cannot_make_up_metrics() -> None:
    measures = HttpMeasures()
    for method in ("GET", "MADE-UP", "DOE^JOHN"):
        measures.answered(method, 405, 0.001)
    measures.answered("GET", 0, 0.001)
    assert measures.requests == {("GET", "4xx"): 1, ("other", "4xx"): 2, ("GET", "none"): 1}
    assert set(measures.took_s) == {"GET", "other"}


def failing_routes() -> APIRouter:
    router = APIRouter(prefix="/api")

    @router.get("/fault")
    async def fault() -> None:
        raise KeyError(SECRET)

    @router.get("/halfway")
    async def halfway() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"x"
            raise KeyError(SECRET)

        return StreamingResponse(pieces())

    @router.get("/away")
    async def away() -> None:
        raise Unavailable("The database is away.", remedy="Wait.", retry_after_s=17)

    @router.post("/number")
    async def number(body: Body) -> int:
        return body.number

    return router


@pytest.fixture
async def failing(server: HttpServer) -> AsyncIterator[str]:
    services = HttpServices(server.archive.database, server.archive.store, server.archive.ingest, open_gate())
    async with served(create_app(services, routers=[failing_routes()])) as url:
        yield url


def test_every_kind_has_a_status() -> None:
    statuses = {kind: http_status(kind) for kind in Kind}
    assert all(400 <= status <= 599 for status in statuses.values())
    assert statuses[Kind.OUT_OF_SPACE] == statuses[Kind.BUSY] == statuses[Kind.UNAVAILABLE] == 503
    status, headers, body = problem(NotFound("It is not here.", remedy="Look elsewhere."), "abc")
    assert (status, headers) == (404, {"content-type": "application/problem+json"})
    assert json.loads(body) == {
        "type": "/problems/not-found",
        "title": "Not Found",
        "status": 404,
        "detail": "It is not here.",
        "code": "not-found",
        "trace_id": "abc",
        "remedy": "Look elsewhere.",
    }


def test_every_error_of_the_program_can_be_said() -> None:
    children = [IsocenterError]
    for child in children:
        children += child.__subclasses__()
    assert len(children) > 11
    for child in children[1:]:
        if "__init__" in vars(child) or not hasattr(child, "default_code"):
            continue  # says what it says by itself, or is a family of which only members are raised
        status, headers, _ = problem(child("Something."), "abc")
        assert 400 <= status <= 599, child
        assert ("retry-after" in headers) == (status in {429, 503}), child


async def test_a_fault_of_ours_tells_nothing_of_the_inside(server: HttpServer, failing: str) -> None:
    with capture_logs() as logs:
        response = await server.client.get(f"{failing}/api/fault")
    assert response.status_code == 500
    assert SECRET not in response.text
    assert "Traceback" not in response.text
    assert "KeyError" not in response.text
    (entry,) = (one for one in logs if one["event"] == "http.fault")
    assert entry["trace_id"] == response.json()["trace_id"] == response.headers["x-trace-id"]
    assert entry["error"] == "KeyError"
    assert "in fault" in entry["stack"]
    assert SECRET not in str(logs)


async def test_an_answer_that_fails_halfway_is_cut(server: HttpServer, failing: str) -> None:
    with pytest.raises(Exception, match=r"incomplete|peer closed"):
        await server.client.get(f"{failing}/api/halfway")


async def test_errors_of_routes_and_of_the_framework_have_one_shape(server: HttpServer, failing: str) -> None:
    away = await server.client.get(f"{failing}/api/away")
    assert (away.status_code, away.headers["retry-after"]) == (503, "17")
    wrong = await server.client.post(f"{failing}/api/number", json={"number": SECRET})
    assert wrong.status_code == 400
    assert "number" in wrong.json()["detail"]
    assert SECRET not in wrong.text
    nowhere = await server.client.get(f"{failing}/nowhere")
    assert nowhere.status_code == 404
    method = await server.client.delete(f"{failing}/api/number")
    assert (method.status_code, method.headers["allow"]) == (405, "POST")
    for response in (away, wrong, nowhere, method):
        assert response.headers["content-type"] == "application/problem+json"
        assert set(response.json()) >= {"type", "title", "status", "detail", "code", "trace_id"}
    too_large = await server.client.post(f"{failing}/api/number", content=b"9" * (2 << 20))
    assert too_large.status_code == 413


async def test_methods_are_told_all_at_once(server: HttpServer) -> None:
    response = await server.client.put(f"{server.dicomweb}/studies/1.2.3")
    assert response.status_code == 405
    assert {one.strip() for one in response.headers["allow"].split(",")} == {"GET", "HEAD", "POST", "DELETE"}


async def test_the_log_names_no_patient(server: HttpServer) -> None:
    await server.store(Image(name=SECRET))
    with capture_logs() as logs:
        await server.get(f"/studies?PatientName={SECRET}&limit=x")
        await server.get(f"/studies?PatientName={SECRET}")
        await server.get(f"/studies?StudyDate={SECRET}")
        await server.get("/studies/1.2.3.1/metadata")
    assert len([one for one in logs if one["event"] == "http.request"]) == 4
    assert SECRET not in str(logs)
    assert "DOE" not in str(logs)


async def test_every_answer_is_guarded(server: HttpServer) -> None:
    for path in ("/", "/health/live", "/dicom-web/studies", "/nowhere", "/dicom-web/studies?x=y"):
        response = await server.client.get(server.url + path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert len(response.headers["x-trace-id"]) == 32


async def test_the_callers_trace_goes_on(server: HttpServer) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    response = await server.client.get(
        server.url + "/", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )
    assert response.headers["x-trace-id"] == trace
    response = await server.client.get(server.url + "/", headers={"traceparent": "00-evil-x"})
    assert response.headers["x-trace-id"] != "evil"


async def test_health(server: HttpServer) -> None:
    assert (await server.client.get(server.url + "/health/live")).json() == {"status": "alive"}
    ready = await server.client.get(server.url + "/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_not_ready_says_why_and_recovers(tmp_path: Path) -> None:
    class Sick(FaultyStore):
        ok = False

        async def health(self) -> StoreHealth:
            return StoreHealth(self.ok, "" if self.ok else "The disk is nearly full.")

    store = Sick(LocalStore(tmp_path / "objects"))
    async with http_server(tmp_path, store=store) as server:
        response = await server.client.get(server.url + "/health/ready")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert response.json()["problems"] == {"object store": "The disk is nearly full."}
        store.ok = True
        assert (await server.client.get(server.url + "/health/ready")).status_code == 503, "kept for a moment"
        server.clock.advance(4)
        assert (await server.client.get(server.url + "/health/ready")).status_code == 200
        await server.archive.database.close()
        server.clock.advance(4)
        assert (await server.client.get(server.url + "/health/ready")).status_code == 503


async def test_bodies_of_searches_are_bounded(tmp_path: Path) -> None:
    async with http_server(tmp_path, limits=HttpLimits(body_bytes_max=100)) as server:
        response = await server.client.request("GET", server.url + "/", content=b"x" * 101)
        assert response.status_code == 413


async def test_long_and_odd_addresses(server: HttpServer) -> None:
    for path in (
        "/studies/" + "9" * 5000,
        "/studies/%00",
        "/studies/%ff%fe",
        "/studies/<script>",
        "/studies//series",
    ):
        response = await server.get(path)
        assert response.status_code in {400, 404}, path
        assert "<script>" not in response.text
    response = await server.get("/studies?" + "&".join(f"{n:08X}=x" for n in range(300)))
    assert response.status_code == 400
    response = await server.get("/studies?StudyInstanceUID=" + ",".join(f"1.2.{n}" for n in range(5000)))
    assert response.status_code == 200
    response = await server.get("/studies?PatientID=a%00b")
    assert response.status_code == 400


async def test_many_at_once(server: HttpServer) -> None:
    await server.store(Image())
    answers = await asyncio.gather(*(server.get("/studies") for _ in range(200)))
    assert {one.status_code for one in answers} == {200}
