"""Where AE titles are reached: each organisation's own list, by feature, HTTP and command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from isocenter.doors.http.application import create_app
from isocenter.doors.http.destination_routes import destination_router
from isocenter.doors.http.services import HttpServices
from isocenter.features.ae_titles.destinations import Destination, Destinations
from isocenter.features.availability.notices import Notices
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import InvalidInput, NotFound
from services.archive import TestArchive, opened
from services.dicomweb import open_gate
from services.schema import fresh_url

OURS, THEIRS = 1, 7
EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
PACS = Destination(
    "PACS",
    "pacs.hospital.example",
    104,
    tls=True,
    tls_name="pacs",
    transfer_syntaxes=(JPEG, EXPLICIT),
    associations_max=8,
    availability_after_s=60,
    description="the big one",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        await made.execute("INSERT INTO organization (id, slug, created_at_us) VALUES (7, 'theirs', 0)")
        yield made


@pytest.fixture
def destinations(archive: TestArchive) -> Destinations:
    return Destinations(archive.database, ManualClock())


async def test_each_organisation_has_its_own(destinations: Destinations) -> None:
    put = await destinations.put(OURS, PACS)
    assert replace(put, created_at_us=0) == PACS and put.created_at_us
    await destinations.put(THEIRS, replace(PACS, address="10.7.0.1", availability_after_s=None))
    await destinations.put(THEIRS, Destination("AAA", "::1", 1))
    assert await destinations.find(OURS, "PACS") == put
    assert await destinations.find(OURS, "AAA") is None
    assert [one.title for one in await destinations.all(THEIRS)] == ["AAA", "PACS"]
    assert (await destinations.find(THEIRS, "PACS")).address == "10.7.0.1"  # type: ignore[union-attr]
    assert [(of, one.title) for of, one in await destinations.told_of_studies()] == [(OURS, "PACS")]

    changed = await destinations.put(OURS, Destination(" PACS ", " 10.0.0.9 ", 11112))
    assert changed == Destination("PACS", "10.0.0.9", 11112, created_at_us=put.created_at_us)
    assert await destinations.all(OURS) == [changed]
    await destinations.remove(OURS, "PACS")
    with pytest.raises(NotFound):
        await destinations.remove(OURS, "AAA")
    assert await destinations.all(OURS) == []
    assert len(await destinations.all(THEIRS)) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": "A\\B"},
        {"title": ""},
        {"address": ""},
        {"address": "http://pacs"},
        {"address": "pa cs"},
        {"address": "a" * 300},
        {"address": "-oProxyCommand"},
        {"port": 0},
        {"port": 65536},
        {"associations_max": 0},
        {"associations_max": 65},
        {"availability_after_s": -1},
        {"availability_after_s": 10**9},
        {"transfer_syntaxes": ("1.2.3",)},
    ],
    ids=str,
)
async def test_what_is_no_destination(destinations: Destinations, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        await destinations.put(OURS, replace(PACS, **wrong))
    assert caught.value.remedy
    assert await destinations.all(OURS) == []


async def test_over_http(archive: TestArchive, destinations: Destinations) -> None:
    gate = open_gate()
    notices = Notices(archive.database, archive.clock)
    services = HttpServices(archive.database, archive.store, archive.ingest, gate)
    app = create_app(services, routers=(destination_router(destinations, notices, gate),))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://isocenter/api/v1") as api:
        wanted = {"address": "10.0.0.9", "port": 104, "transfer_syntaxes": [JPEG]}
        put = (await api.put("/destinations/PACS%201", json=wanted)).json()
        assert (put["title"], put["port"], put["transfer_syntaxes"]) == ("PACS 1", 104, [JPEG])
        assert (put["tls"], put["associations_max"], put["availability_after_s"]) == (False, 4, None)
        assert (await api.get("/destinations")).json() == {"destinations": [put]}
        for wrong, code in (
            ({"port": 0}, "invalid-parameters"),
            ({"address": "http://x"}, "invalid-host"),
            ({"transfer_syntaxes": ["1.2.3"]}, "unknown-transfer-syntax"),
            ({"more": 1}, "invalid-parameters"),
        ):
            refused = await api.put("/destinations/PACS", json=wanted | wrong)
            assert (refused.status_code, refused.json()["code"]) == (400, code), refused.text
        assert (await api.get("/destinations/notices")).json() == {"notices": []}
        assert (await api.delete("/destinations/PACS%201")).json() == {"removed": 1}
        gone = await api.delete("/destinations/PACS%201")
        assert (gone.status_code, gone.json()["code"]) == (404, "no-such-destination")


def test_by_command(tmp_path: Path) -> None:
    def run(*words: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "isocenter", *words, "--data-dir", str(tmp_path)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    run("ae", "add", "CT1", "--host", "10.0.0.5", "--port", "104", "--services", "store,commit")
    [one] = orjson.loads(run("ae", "destination", "list", "--json"))
    assert (one["title"], one["address"], one["port"]) == ("CT1", "10.0.0.5", 104)
    told = run("ae", "destination", "add", "PACS", "pacs.example", "11112", "--tls", "--associations", "2")
    assert "pacs.example:11112" in told and "TLS" in told and "at most 2" in told
    run("ae", "add", "PACS", "--port", "4242", "--address", "pacs2.example", "--services", "none")
    listed = run("ae", "list")
    assert "C-ECHO only" in listed and "pacs2.example:4242" in listed and "TLS; at most 2" in listed
    assert len(orjson.loads(run("ae", "list", "--json"))["destinations"]) == 2
    run("ae", "destination", "remove", "PACS")
    assert "no destination" in run("ae", "destination", "remove", "PACS", status=1)
    assert "needs an address" in run("ae", "add", "X", "--port", "1", status=1)
    assert "needs an address" in run("ae", "add", "X", "--port", "1", "--host", "10.0.0.0/8", status=1)
