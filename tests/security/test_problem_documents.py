"""Every class of error as HTTP tells it: one shape, a page, a trace that the log line has too, no value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from structlog.testing import capture_logs

import isocenter.app.server
import isocenter.cli.tls
from isocenter.doors.http.application import create_app
from isocenter.doors.http.problems import http_status
from isocenter.doors.http.refusals import MethodNotAllowed
from isocenter.doors.http.services import HttpServices
from isocenter.kit.errors import IsocenterError, Kind
from services.dicomweb import HttpServer, http_server, open_gate, served

SECRET = "DOE^JOHN"
_BY_NAME = {
    "MethodNotAllowed": lambda: MethodNotAllowed("PUT", "GET"),
}
assert isocenter.app.server and isocenter.cli.tls  # whatever they import declares its errors


def every_class() -> list[type[IsocenterError]]:
    found: list[type[IsocenterError]] = [IsocenterError]
    for one in found:
        found += [child for child in one.__subclasses__() if child not in found]
    return [one for one in found if hasattr(one, "default_code") and one.__module__.startswith("isocenter")]


def example_of(kind: type[IsocenterError]) -> IsocenterError:
    """One of the class, whatever its constructor asks for."""
    if kind.__name__ in _BY_NAME:
        return _BY_NAME[kind.__name__]()
    error = kind.__new__(kind)
    IsocenterError.__init__(error, "Something happened.", remedy="Do something.")
    return error


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int
    colour: Literal["red"] = "red"
    deep: dict[str, dict[str, int]] = {}
    short: Annotated[str, Field(max_length=3)] = ""


def routes() -> APIRouter:
    router = APIRouter(prefix="/api")
    kinds = {kind.__name__: kind for kind in every_class()}

    @router.get("/fault")
    async def fault() -> None:
        raise KeyError(SECRET)

    @router.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise example_of(kinds[name])

    @router.post("/fields")
    async def fields(body: Body, limit: Annotated[int, Query(le=5)] = 1) -> int:
        return body.number + limit

    return router


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


@pytest.fixture
async def failing(server: HttpServer) -> AsyncIterator[str]:
    held = server.archive
    services = HttpServices(held.database, held.store, held.ingest, open_gate())
    async with served(create_app(services, routers=[routes()])) as url:
        yield url


async def told(server: HttpServer, method: str, url: str, **request: object) -> dict[str, object]:
    """The document; its shape, its page and its log line are looked at too."""
    with capture_logs() as logs:
        response = await server.client.request(method, url, **request)
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    required = {"type", "title", "status", "detail", "code", "trace_id"}
    assert required <= set(document) <= required | {"remedy", "errors"}
    assert document["status"] == response.status_code
    assert document["type"] == f"/problems/{document['code']}"
    (line,) = (one for one in logs if one["event"] in {"http.problem", "http.fault"})
    assert line["trace_id"] == document["trace_id"] == response.headers["x-trace-id"]
    page = await server.client.get(server.url + document["type"])
    assert page.status_code == 200 and page.text.startswith(f"# {document['code']}\n")
    assert page.headers["content-type"].startswith("text/plain")
    assert SECRET not in response.text and SECRET not in str(logs)
    found: dict[str, object] = document
    return found


async def test_every_class_of_error(server: HttpServer, failing: str) -> None:
    kinds = every_class()
    assert len(kinds) > 30
    assert {kind.kind for kind in kinds} == set(Kind)
    for kind in kinds:
        document = await told(server, "GET", f"{failing}/api/raise/{kind.__name__}")
        if kind.__module__ == "isocenter.kit.errors":
            assert document["status"] == http_status(kind.kind)


async def test_faults_and_what_the_framework_refuses(server: HttpServer, failing: str) -> None:
    assert (await told(server, "GET", f"{failing}/api/fault"))["code"] == "internal"
    assert (await told(server, "GET", f"{failing}/api/nowhere"))["code"] == "no-such-page"
    assert (await told(server, "PUT", f"{failing}/api/fields"))["code"] == "method-not-allowed"
    large = b"9" * (2 << 20)
    assert (await told(server, "POST", f"{failing}/api/fields", content=large))["code"] == "body-too-large"


FIELDS = [
    ({"number": SECRET}, "", [{"pointer": "/number"}]),
    ({}, "?limit=9", [{"parameter": "limit"}, {"pointer": "/number"}]),
    ({"number": 1, "colour": SECRET}, "", [{"pointer": "/colour"}]),
    ({"number": 1, "short": SECRET}, "", [{"pointer": "/short"}]),
    ({"number": 1, "deep": {"a/b~c": {"d": SECRET}}}, "", [{"pointer": "/deep/a~1b~0c/d"}]),
    ({"number": 1, "other": SECRET}, "", [{"pointer": "/other"}]),
    ([SECRET], "", [{"pointer": ""}]),
]


@pytest.mark.parametrize(("body", "query", "expected"), FIELDS, ids=range(len(FIELDS)))
async def test_fields_are_pointed_at(
    server: HttpServer, failing: str, body: object, query: str, expected: list[dict[str, str]]
) -> None:
    document = await told(server, "POST", f"{failing}/api/fields{query}", json=body)
    assert (document["status"], document["code"]) == (400, "invalid-parameters")
    errors = document["errors"]
    assert isinstance(errors, list)
    assert all(one.pop("detail") for one in errors)
    assert errors == expected


async def test_a_body_that_is_no_json(server: HttpServer, failing: str) -> None:
    request = {"content": f'{{"number": "{SECRET}', "headers": {"Content-Type": "application/json"}}
    document = await told(server, "POST", f"{failing}/api/fields", **request)
    assert document["errors"] == [{"pointer": "", "detail": "The body is not JSON."}]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=-1", "limit"),
        (f"offset={SECRET}", "offset"),
        ("fuzzymatching=perhaps", "fuzzymatching"),
        ("includefield=NoSuchThing", "includefield"),
    ],
)
async def test_parameters_of_searches_are_named(server: HttpServer, query: str, parameter: str) -> None:
    document = await told(server, "GET", f"{server.dicomweb}/studies?{query}")
    errors = document["errors"]
    assert isinstance(errors, list) and [one["parameter"] for one in errors] == [parameter]


@pytest.mark.parametrize(
    "code", ["..%2f..%2fREADME", "../decisions/README", "internal.md", "Internal", "a" * 300, "%00", "nosuch"]
)
async def test_pages_lead_nowhere_else(server: HttpServer, code: str) -> None:
    response = await server.client.get(f"{server.url}/problems/{code}")
    assert response.status_code == 404
    assert response.json()["code"] == "no-such-page"


async def test_the_list_of_pages(server: HttpServer) -> None:
    response = await server.client.get(f"{server.url}/problems")
    lines = response.text.splitlines()
    assert "/problems/internal" in lines and len(lines) > 90
    for line in lines[:3]:
        assert (await server.client.get(server.url + line)).status_code == 200


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "malformed-request"),
        (b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "malformed-request"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 66_000, "headers-too-large"),
    ],
    ids=["TLS", "two lengths", "long head"],
)
async def test_what_is_refused_before_there_is_a_request(server: HttpServer, words: bytes, code: str) -> None:
    """The same shape, the same headers and a log line with the same trace, even here."""
    with capture_logs() as logs:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(words)
        async with asyncio.timeout(20):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.transport.abort()
    document = json.loads(body)
    assert document["code"] == code and document["type"] == f"/problems/{code}"
    assert head.startswith(b"HTTP/1.1 %d " % document["status"])
    for header in (b"nosniff", b"no-store", b"frame-ancestors 'none'", document["trace_id"].encode()):
        assert header in head
    (line,) = (one for one in logs if one["event"] == "http.problem")
    assert line["trace_id"] == document["trace_id"]
