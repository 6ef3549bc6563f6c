"""What leaves over HTTP of a merged patient, and what cannot: objects too damaged to be given another one."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pydicom
import pytest

from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from services.archive import ORGANIZATION, Image
from services.dicomweb import HttpServer, http_server

IMAGES = [Image(sop=f"1.2.3.1.1.{number}", pixels=bytes([number]) * 3000) for number in (1, 2, 3)]
SOUND, DAMAGED, _ = IMAGES
PDF = b"%PDF-1.7 a small document of a page"
DOCUMENT = Image(
    sop="1.2.3.1.3.1",
    series="1.2.3.1.3",
    sop_class="1.2.840.10008.5.1.4.1.1.104.1",
    modality="DOC",
    more=(
        (0x00420011, "OB", PDF + b"\0" * (len(PDF) % 2)),
        (0x00420012, "LO", "application/pdf"),
        (0x7FE00010, "OW", None),
    ),  # type: ignore[arg-type]
)
STUDY = f"/studies/{SOUND.study}"


def path_of(image: Image) -> str:
    return f"/studies/{image.study}/series/{image.series}/instances/{image.sop}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


async def merge(server: HttpServer) -> None:
    archive = server.archive
    await archive.send(Image(study="1.2.9", series="1.2.9.1", sop="1.2.9.1.1", patient_id="SURVIVOR"))
    merges = PatientMerges(archive.database, archive.clock)
    await merges.merge(ORGANIZATION, PatientIdentity("P1"), PatientIdentity("SURVIVOR"))


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (STUDY, 'multipart/related; type="application/dicom"; transfer-syntax=*'),
        (STUDY, "application/zip"),
        (f"{STUDY}/series/{DAMAGED.series}", 'multipart/related; type="application/dicom"'),
        (path_of(DAMAGED), "application/dicom; transfer-syntax=*"),
        (path_of(DAMAGED), "application/dicom; transfer-syntax=1.2.840.10008.1.2"),
        (f"{path_of(DAMAGED)}/frames/1", "*/*"),
        (f"{path_of(DAMAGED)}/bulkdata", "*/*"),
        (f"{path_of(DAMAGED)}/rendered", "image/jpeg"),
        (f"{STUDY}/metadata", "application/dicom+json"),
        (f"{STUDY}/metadata", 'multipart/related; type="application/dicom+xml"'),
        (f"{path_of(DAMAGED)}/metadata", "application/dicom+json"),
    ],
)
async def test_all_of_it_or_a_refusal(server: HttpServer, path: str, accept: str) -> None:
    """Never a broken-off answer, nor one without the object that could not be given the patient."""
    assert (await server.store(*IMAGES)).status_code == 200
    await server.archive.damage(DAMAGED)
    await merge(server)
    refused = await server.get(path, Accept=accept)
    assert (refused.status_code, refused.json()["code"]) == (409, "patient-not-replaced")
    assert DAMAGED.sop in refused.json()["detail"]
    given = await server.get(path_of(SOUND), Accept="application/dicom")
    assert pydicom.dcmread(io.BytesIO(given.content)).PatientID == "SURVIVOR"


async def test_what_breaks_our_own_code_is_a_refusal_too(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await server.store(*IMAGES)).status_code == 200
    await merge(server)

    def broken(*_: object, **__: object) -> None:
        raise LookupError("of no item")

    with monkeypatch.context() as planted:
        planted.setattr("isocenter.features.archive.presented.reconciled", broken)
        refused = await server.get(STUDY)
        assert (refused.status_code, refused.json()["code"]) == (409, "patient-not-replaced")
    assert (await server.get(STUDY)).status_code == 200


async def test_a_document(server: HttpServer) -> None:
    assert (await server.store(DOCUMENT)).status_code == 200
    await merge(server)
    given = await server.get(path_of(DOCUMENT), Accept="application/dicom")
    dataset = pydicom.dcmread(io.BytesIO(given.content))
    assert (dataset.PatientID, dataset.EncapsulatedDocument.rstrip(b"\0")) == ("SURVIVOR", PDF)
    shown = await server.get(f"{path_of(DOCUMENT)}/rendered", Accept="application/pdf")
    assert (shown.status_code, shown.content.rstrip(b"\0")) == (200, PDF)
    [metadata] = (await server.get(f"{path_of(DOCUMENT)}/metadata")).json()
    assert metadata["00100020"]["Value"] == ["SURVIVOR"]


async def test_attributes_that_a_search_reads_from_objects(server: HttpServer) -> None:
    image = SOUND.but(more=((0x00101005, "PN", "MAIDEN^ANN"), (0x00081080, "LO", "a diagnosis")))
    assert (await server.store(image)).status_code == 200
    asked = f"{STUDY}/instances?includefield=00101005&includefield=00081080&includefield=04000563"
    [own] = await server.found(asked)
    assert own["00101005"]["Value"] == [{"Alphabetic": "MAIDEN^ANN"}]
    await merge(server)
    [merged] = await server.found(asked)
    assert "00101005" not in merged
    assert merged["00081080"]["Value"] == ["a diagnosis"]
