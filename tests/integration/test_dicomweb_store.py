"""STOW-RS over HTTP (PS3.18 §10.5): what is stored, what is not, and what the sender is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.native_model_reader import read_native_xml
from isocenter.dicom.validation import Strictness
from isocenter.doors.http.services import HttpLimits
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy
from isocenter.kit.errors import IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.storage.faults import FaultyStore, Moment, Operation
from isocenter.platform.storage.local import LocalStore
from services.archive import Image, broken_promises
from services.dicomweb import BOUNDARY, HttpServer, http_server, multipart
from services.schema import fresh_url

IMAGES = [Image(sop=f"1.2.3.1.1.{number}", pixels=bytes([number]) * 600) for number in range(1, 6)]


@pytest.fixture(params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpServer]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with http_server(tmp_path, database_url=url) as running:
            yield running
            assert await broken_promises(running.archive) == []


DISPOSITIONS = {
    ConflictPolicy.REPLACE: "REPLACED",
    ConflictPolicy.KEEP_BOTH: "KEPT BOTH",
    ConflictPolicy.KEEP_FIRST: "KEPT FIRST",
}


async def instances(server: HttpServer) -> int:
    return len(await server.found("/instances"))


def reason(item: dict[str, Any]) -> int:
    value: int = item["00081197"]["Value"][0]
    return value


def words(item: dict[str, Any]) -> str:
    return " ".join(one["00000902"]["Value"][0] for one in item["00741048"]["Value"])


async def test_stored_objects_are_named_with_their_address(server: HttpServer) -> None:
    response = await server.store(*IMAGES)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    answer = response.json()
    assert set(answer) == {"00081190", "00081199"}
    assert answer["00081190"]["Value"] == [f"{server.dicomweb}/studies/1.2.3.1"]
    assert [one["00081155"]["Value"][0] for one in answer["00081199"]["Value"]] == [i.sop for i in IMAGES]
    for one in answer["00081199"]["Value"]:
        assert (await server.client.get(one["00081190"]["Value"][0])).status_code == 200
    again = await server.store(*IMAGES)
    assert again.status_code == 200, "what is kept already is a success (duplicates)"
    for answered, kind in ((response, "STORED"), (again, "IDENTICAL")):
        assert {one["00091001"]["Value"][0] for one in answered.json()["00081199"]["Value"]} == {kind}
    assert await instances(server) == len(IMAGES)


async def test_some_stored_some_not(server: HttpServer) -> None:
    broken = Image(sop="1.2.3.1.1.99", modality=None)
    response = await server.store(IMAGES[0], broken, b"no DICOM at all", b"", IMAGES[1])
    assert response.status_code == 202
    answer = response.json()
    assert len(answer["00081199"]["Value"]) == 2
    (failed,) = answer["00081198"]["Value"]
    assert failed["00081155"]["Value"] == ["1.2.3.1.1.99"]
    assert reason(failed) == 0xA900
    assert "Modality" in words(failed)
    assert all(len(one["00000902"]["Value"][0]) <= 64 for one in failed["00741048"]["Value"])
    nameless = answer["0008119A"]["Value"]
    assert {reason(one) for one in nameless} == {0xC000}
    assert len(nameless) == 2
    assert await instances(server) == 2
    waiting = await server.archive.one("SELECT count(*) AS n FROM quarantine WHERE state = 'waiting'")
    assert waiting == 2, "what cannot be filed waits for a person; an empty part is not worth one"


async def test_none_stored(server: HttpServer) -> None:
    response = await server.store(b"no DICOM at all")
    assert response.status_code == 409
    assert "00081199" not in response.json()
    await server.store(IMAGES[0])
    response = await server.store(IMAGES[0].but(pixels=b"\0\0\1\1"))
    assert response.status_code == 409
    (failed,) = response.json()["00081198"]["Value"]
    assert reason(failed) == 0x0111


async def test_an_object_of_another_study_stays_out(server: HttpServer) -> None:
    other = Image(sop="1.2.3.2.1.1", series="1.2.3.2.1", study="1.2.3.2")
    response = await server.store(IMAGES[0], other, study="1.2.3.1")
    assert response.status_code == 202
    (failed,) = response.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [other.sop]
    assert reason(failed) == 0xC409
    assert await instances(server) == 1
    assert (await server.store(other, study="1.2.3.1")).status_code == 409


async def test_one_object_as_the_whole_body(server: HttpServer) -> None:
    response = await server.client.post(
        f"{server.dicomweb}/studies",
        content=IMAGES[0].file,
        headers={"Content-Type": "application/dicom"},
    )
    assert response.status_code == 200
    assert await instances(server) == 1


async def test_media_types(server: HttpServer) -> None:
    url = f"{server.dicomweb}/studies"
    for content_type in (
        "",
        "application/dicom+json",
        "multipart/form-data; boundary=x",
        'multipart/related; type="application/json"; boundary=x',
    ):
        response = await server.client.post(url, content=b"x", headers={"Content-Type": content_type})
        assert response.status_code == 415, content_type
    body, headers = multipart([IMAGES[0].file], content_type="image/jpeg")
    assert (await server.client.post(url, content=body, headers=headers)).status_code == 415
    body, headers = multipart([IMAGES[0].file])
    response = await server.client.post(url, content=body, headers={**headers, "Accept": "text/html"})
    assert response.status_code == 406
    assert await instances(server) == 0
    unquoted = {"Content-Type": f"multipart/related;boundary={BOUNDARY};type=application/dicom"}
    assert (await server.client.post(url, content=body, headers=unquoted)).status_code == 200


async def test_byte_by_byte(server: HttpServer) -> None:
    """However the network cuts the body, it is the same request."""
    body, headers = multipart([image.file for image in IMAGES[:2]])

    async def drops() -> AsyncIterator[bytes]:
        for start in range(len(body)):
            yield body[start : start + 1]

    response = await server.client.post(f"{server.dicomweb}/studies", content=drops(), headers=headers)
    assert response.status_code == 200
    for image in IMAGES[:2]:
        single = await server.get(
            f"/studies/{image.study}/series/{image.series}/instances/{image.sop}", Accept="application/dicom"
        )
        assert single.content == image.file


async def test_all_or_nothing(tmp_path: Path) -> None:
    async with http_server(tmp_path, batch=BatchPolicy.ALL_OR_NOTHING) as server:
        for bad in (Image(sop="1.2.3.1.1.99", modality=None), b""):
            response = await server.store(IMAGES[0], bad, IMAGES[1])
            assert response.status_code == 409
            assert await instances(server) == 0
        other = Image(sop="1.2.3.2.1.1", series="1.2.3.2.1", study="1.2.3.2")
        response = await server.store(IMAGES[0], other, study="1.2.3.1")
        assert response.status_code == 409
        assert [reason(one) for one in response.json()["00081198"]["Value"]] == [0xC409, 0x0110]
        assert await instances(server) == 0
        assert (await server.store(*IMAGES)).status_code == 200
        assert await broken_promises(server.archive) == []


@pytest.mark.parametrize(
    "policy", [ConflictPolicy.REPLACE, ConflictPolicy.KEEP_BOTH, ConflictPolicy.KEEP_FIRST]
)
async def test_conflicting_objects_follow_the_policy(tmp_path: Path, policy: ConflictPolicy) -> None:
    async with http_server(tmp_path, conflict=policy) as server:
        newer = IMAGES[0].but(pixels=b"\7\7\7\7")
        assert (await server.store(IMAGES[0])).status_code == 200
        response = await server.store(newer)
        [item] = response.json()["00081199"]["Value"]
        assert item["00090010"]["Value"] == ["ISOCENTER STORE"]
        assert item["00091001"]["Value"] == [DISPOSITIONS[policy]]
        if policy is ConflictPolicy.KEEP_FIRST:
            assert response.status_code == 202, "what is kept is not what was sent"
            assert item["00081196"]["Value"] == [0xB111]
        else:
            assert response.status_code == 200
            assert "00081196" not in item
        given = await server.get(
            f"/studies/{newer.study}/series/{newer.series}/instances/{newer.sop}", Accept="application/dicom"
        )
        kept = IMAGES[0] if policy is ConflictPolicy.KEEP_FIRST else newer
        assert given.content == kept.file


async def test_a_cut_request_leaves_no_trace(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        body, headers = multipart([image.file for image in IMAGES])
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = [f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        writer.write("".join(lines).encode() + b"\r\n" + body[: len(body) * 3 // 4])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        # Another request on another connection is served, and finds nothing.
        assert await instances(server) == 0
        assert (await server.store(*IMAGES)).status_code == 200
        assert await broken_promises(server.archive) == []
        assert list((tmp_path / "spool").iterdir()) == []
        assert server.archive.spool.budget.used_bytes == 0


@pytest.mark.parametrize("error", [OutOfSpace, Unavailable])
@pytest.mark.parametrize("moment", list(Moment))
async def test_a_store_that_fails_is_said_and_nothing_is_half_stored(
    tmp_path: Path, error: type[IsocenterError], moment: Moment
) -> None:
    store = FaultyStore(LocalStore(tmp_path / "objects"))
    async with http_server(tmp_path, store=store) as server:
        store.fail(Operation.PUT, lambda: error("The store does not work."), nth=3, moment=moment)
        response = await server.store(*IMAGES)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert response.headers["content-type"] == "application/problem+json"
        assert await instances(server) == 0
        assert (await server.store(*IMAGES)).status_code == 200, "back to work by itself"
        assert await broken_promises(server.archive) == []


async def test_a_body_over_the_limit(tmp_path: Path) -> None:
    async with http_server(tmp_path, limits=HttpLimits(object_body_bytes_max=4000)) as server:
        assert (await server.store(IMAGES[0])).status_code == 200
        assert (await server.store(*IMAGES)).status_code == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(1000):
                yield bytes(1000)

        response = await server.client.post(
            f"{server.dicomweb}/studies", content=chunks(), headers={"Content-Type": "application/dicom"}
        )
        assert response.status_code == 413
        assert await instances(server) == 1


async def test_the_answer_as_xml(server: HttpServer) -> None:
    broken = Image(sop="1.2.3.1.1.99", modality=None)
    response = await server.store(IMAGES[0], broken, b"", Accept="application/dicom+xml")
    assert response.status_code == 202
    assert response.headers["content-type"] == "application/dicom+xml"
    module = read_native_xml(response.content)
    assert module["00081190"]["Value"] == [f"{server.dicomweb}/studies/1.2.3.1"]
    [stored] = module["00081199"]["Value"]
    assert stored["00081155"]["Value"] == [IMAGES[0].sop]
    assert stored["00091001"]["Value"] == ["STORED"]
    [failed] = module["00081198"]["Value"]
    assert failed["00081197"]["Value"] == [0xA900]
    assert len(module["0008119A"]["Value"]) == 1
    preferred = await server.store(IMAGES[0], Accept="application/dicom+json;q=0.5, application/dicom+xml")
    assert preferred.headers["content-type"] == "application/dicom+xml"


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_one_instance_at_its_own_address(server: HttpServer, method: str) -> None:
    image = IMAGES[0]
    place = f"/studies/{image.study}/series/{image.series}/instances/"
    headers = {"Content-Type": "application/dicom"}
    for wrong in (
        place + IMAGES[1].sop,
        place.replace(image.series, "1.2.3.1.9") + image.sop,
        place.replace(f"studies/{image.study}/", "studies/1.2.3.9/") + image.sop,
    ):
        response = await server.client.request(
            method, server.dicomweb + wrong, content=image.file, headers=headers
        )
        assert response.status_code == 409, wrong
        [failed] = response.json()["00081198"]["Value"]
        assert reason(failed) == 0xC409
    assert await instances(server) == 0
    address = server.dicomweb + place + image.sop
    response = await server.client.request(method, address, content=image.file, headers=headers)
    assert response.status_code == 200
    [item] = response.json()["00081199"]["Value"]
    assert item["00081190"]["Value"] == [address]
    body, headers = multipart([image.file])
    response = await server.client.request(method, address, content=body, headers=headers)
    assert response.status_code == 200
    assert await instances(server) == 1


async def test_what_is_stored_although_it_breaks_a_rule_is_said(tmp_path: Path) -> None:
    async with http_server(tmp_path, strictness=Strictness.LENIENT) as server:
        response = await server.store(IMAGES[0], Image(sop="1.2.3.1.1.99", modality=None))
        assert response.status_code == 202
        good, tolerated = response.json()["00081199"]["Value"]
        assert "00081196" not in good
        assert tolerated["00081196"]["Value"] == [0xB007]
        assert "Modality" in words(tolerated)
