"""dicomweb-client, written by others, stores, searches, fetches and deletes here."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from services.archive import Image
from services.dicomweb import HttpServer, http_server
from services.sequences import items, request

T = TypeVar("T")
IMAGES = [Image(sop=f"1.2.3.1.1.{number}", pixels=bytes([number]) * 300) for number in range(1, 4)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


async def ask(server: HttpServer, question: Callable[[DICOMwebClient], T]) -> T:
    """The client is synchronous: it works in a thread."""

    def work() -> T:
        client = DICOMwebClient(url=server.dicomweb)
        try:
            return question(client)
        finally:
            client._session.close()

    return await asyncio.to_thread(work)


def datasets(*images: Image) -> list[Dataset]:
    return [pydicom.dcmread(io.BytesIO(image.file)) for image in images]


async def test_store_search_retrieve(server: HttpServer) -> None:
    sent = datasets(*IMAGES)
    answer = await ask(server, lambda client: client.store_instances(sent))
    assert len(answer.ReferencedSOPSequence) == 3
    assert "FailedSOPSequence" not in answer

    studies = await ask(server, lambda c: c.search_for_studies(search_filters={"PatientID": "P1"}))
    assert [one["0020000D"]["Value"] for one in studies] == [["1.2.3.1"]]
    series = await ask(server, lambda c: c.search_for_series("1.2.3.1", fields=["Modality"]))
    assert [one["0020000E"]["Value"] for one in series] == [["1.2.3.1.1"]]
    some = await ask(server, lambda c: c.search_for_instances("1.2.3.1", limit=2, offset=1))
    assert len(some) == 2
    nothing = await ask(server, lambda c: c.search_for_studies(search_filters={"PatientID": "nobody"}))
    assert nothing == []

    received = await ask(server, lambda client: client.retrieve_study("1.2.3.1"))
    assert sorted(one.SOPInstanceUID for one in received) == [image.sop for image in IMAGES]
    assert received == sorted(sent, key=lambda one: one.SOPInstanceUID)
    one = await ask(server, lambda client: client.retrieve_instance("1.2.3.1", "1.2.3.1.1", "1.2.3.1.1.2"))
    assert one == sent[1]
    assert one.file_meta.TransferSyntaxUID == sent[1].file_meta.TransferSyntaxUID


async def test_searching_as_the_client_can(server: HttpServer) -> None:
    images = [
        Image(
            sop=f"1.2.{number}.1.1",
            series=f"1.2.{number}.1",
            study=f"1.2.{number}",
            patient_id=f"P{number}",
            name=name,
            more=((0x00400275, "SQ", items(request(f"S{number}", "R1"))), (0x00181151, "IS", "120")),
        )
        for number, name in enumerate(("Meyer^Ann", "Maier^Anne", "Jones^Bob"), 1)
    ]
    await server.store(*images)

    def numbers(found: list[dict[str, dict[str, Any]]]) -> list[str]:
        return sorted(one["0020000D"]["Value"][0].rpartition(".")[2] for one in found)

    filters = {"PatientName": "mayer^an"}
    fuzzy = await ask(server, lambda c: c.search_for_studies(fuzzymatching=True, search_filters=filters))
    assert numbers(fuzzy) == ["1", "2"]
    assert await ask(server, lambda c: c.search_for_studies(search_filters=filters)) == []
    within = {"00400275.00400009": "S3"}
    found = await ask(server, lambda c: c.search_for_series(search_filters=within))
    assert numbers(found) == ["3"]
    remaining = await ask(server, lambda c: c.search_for_studies(limit=1, get_remaining=True))
    assert numbers(remaining) == ["1", "2", "3"]
    told = await ask(server, lambda c: c.search_for_instances(fields=["XRayTubeCurrent", "StudyDescription"]))
    assert [one["00181151"]["Value"] for one in told] == [[120]] * 3
    data_sets = [Dataset.from_json(one) for one in told]
    assert {str(data_set.PatientName) for data_set in data_sets} == {"Meyer^Ann", "Maier^Anne", "Jones^Bob"}


async def test_metadata_and_bulk_data(server: HttpServer) -> None:
    (sent,) = datasets(IMAGES[0])
    await ask(server, lambda client: client.store_instances([sent]))
    (found,) = await ask(server, lambda client: client.retrieve_study_metadata("1.2.3.1"))
    received = Dataset.from_json(found, bulk_data_uri_handler=lambda *_: None)
    assert received.PatientName == sent.PatientName
    uri: str = found["7FE00010"]["BulkDataURI"]
    (pixels,) = await ask(server, lambda client: client.retrieve_bulkdata(uri))
    assert pixels == sent.PixelData


async def test_deleting(server: HttpServer) -> None:
    await ask(server, lambda client: client.store_instances(datasets(*IMAGES)))

    def delete(client: DICOMwebClient) -> None:
        client.set_http_retry_params(retry=False)
        client.delete_instance("1.2.3.1", "1.2.3.1.1", "1.2.3.1.1.1")
        client.delete_series("1.2.3.1", "1.2.3.1.1")

    await ask(server, delete)
    assert await server.found("/studies") == []


async def test_failures_reach_the_client(server: HttpServer) -> None:
    (sent,) = datasets(IMAGES[0])
    del sent.Modality

    def store(client: DICOMwebClient) -> Any:
        client.set_http_retry_params(retry=False)
        with pytest.raises(Exception, match="409"):
            client.store_instances([sent])
        return True

    assert await ask(server, store)
    (kept,) = datasets(IMAGES[1])
    answer = await ask(server, lambda client: client.store_instances([sent, kept]))
    assert answer.FailedSOPSequence[0][Tag(0x0008, 0x1197)].value == 0xA900
    assert len(answer.ReferencedSOPSequence) == 1
