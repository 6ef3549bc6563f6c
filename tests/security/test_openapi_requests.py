"""Whatever the OpenAPI document allows, and much that it does not: no 500, no answer it does not tell of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocenter.app.archive import open_archive
from isocenter.app.server import Server
from isocenter.platform.settings import Settings
from services.openapi_requests import Call, Operation, operations

Ask = Callable[[Call], httpx2.Response]
_EXAMPLES = 40


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the very application that `isocenter serve` composes."""
    folder: Path = tmp_path_factory.mktemp("openapi")
    values = {"data_dir": folder, "min_free_disk": 0, "http_port": 0, "dicom_port": 0}
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()

        async def open_client() -> httpx2.AsyncClient:
            archive = await stack.enter_async_context(open_archive(Settings.model_validate(values)))
            transport = httpx2.ASGITransport(app=Server(archive).application, raise_app_exceptions=False)
            client = httpx2.AsyncClient(transport=transport, base_url="http://localhost")
            return await stack.enter_async_context(client)

        client = runner.run(open_client())

        def send(call: Call) -> httpx2.Response:
            body = call.body
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode("utf-8", "replace")
            headers = {} if body is None else {"Content-Type": "application/json"}
            return runner.run(client.request(call.method, call.target, content=body, headers=headers))

        yield send
        runner.run(stack.aclose())


@pytest.fixture(scope="module")
def document(ask: Ask) -> dict[str, Any]:
    found: dict[str, Any] = ask(Call("GET", "/api/openapi.json")).json()
    return found


def looked_at(operation: Operation, call: Call, answer: httpx2.Response) -> None:
    assert answer.status_code < 500 or answer.status_code in {501, 503}, (call, answer.text)
    if answer.headers.get("content-type") == "application/problem+json":
        told = answer.json()
        assert told["status"] == answer.status_code and told["trace_id"] and told["code"]
    else:
        assert answer.status_code in operation.statuses, (call, answer.status_code)


@given(data=st.data())
@settings(
    max_examples=_EXAMPLES * 8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_request_breaks_an_operation(ask: Ask, document: dict[str, Any], data: st.DataObject) -> None:
    operation = data.draw(st.sampled_from(operations(document)))
    call = data.draw(operation.calls())
    looked_at(operation, call, ask(call))


def test_odd_values_of_every_parameter(ask: Ask, document: dict[str, Any]) -> None:
    asked = 0
    for operation in operations(document):
        for call in operation.odd_calls():
            looked_at(operation, call, ask(call))
            asked += 1
    assert asked > 100


NO_JSON = [b"", b"{", b"[" * 5000, b"\xff\xfe", b"nul", b'{"a":' * 5000, b"1e999999"]


@pytest.mark.parametrize("content", NO_JSON, ids=range(len(NO_JSON)))
def test_bodies_that_are_no_json(ask: Ask, document: dict[str, Any], content: bytes) -> None:
    for operation in operations(document):
        if "requestBody" in operation.declared:
            target = operation.path.replace("{entry_id}", "1" * 32)
            call = Call(operation.method.upper(), target, content)
            looked_at(operation, call, ask(call))


def test_a_method_that_is_not_there_is_told_all_that_are(ask: Ask, document: dict[str, Any]) -> None:
    """RFC 9110 §10.2.1, §15.5.6."""
    for path, declared in document["paths"].items():
        there = {method.upper() for method in declared}
        if path == "/api/v1/destinations/notices":
            there |= {"PUT", "DELETE"}  # one's title may be 'notices'
        answer = ask(Call("TRACE", re.sub(r"\{\w+\}", "1", path)))
        assert answer.status_code == 405, path
        assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == there, path


def test_there_is_something_to_ask(document: dict[str, Any]) -> None:
    assert len(operations(document)) >= 9
