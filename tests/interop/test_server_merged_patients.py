"""At every door of a running server the objects of a merged patient are the survivor's, and their own again
after the undo."""

from __future__ import annotations

import io
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset

from services.dcmtk import Dcmtk, StoreScp
from services.isocenter import Isocenter
from services.series import new_series

DICOM = {"Accept": "application/dicom"}
XML = 'multipart/related; type="application/dicom+xml"'


def api(server: Isocenter, path: str, **asked: object) -> None:
    status, body = server.request(
        "POST", f"/api/v1/patients/{path}", orjson.dumps(asked), {"Content-Type": "application/json"}
    )
    assert status == 200, body


def dataset(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def parts(server: Isocenter, path: str, **headers: str) -> list[bytes]:
    asked = urllib.request.Request(server.dicom_web_url + path, headers=headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
        body = answer.read()
        assert len(body) == int(answer.headers.get("Content-Length", len(body)))
    message = BytesParser().parsebytes(head + body)
    return [part.get_payload(decode=True) for part in message.get_payload()]  # type: ignore[union-attr,misc]


def _xml_patient_id(document: bytes) -> str | None:
    found = ElementTree.fromstring(document).find("{*}DicomAttribute[@tag='00100020']/{*}Value")
    return None if found is None else found.text


def doors(server: Isocenter, dcmtk: Dcmtk, there: StoreScp, folder: Path, study: str) -> dict[str, set[str]]:
    """Which Patient IDs each door gives for the study's objects."""
    given: dict[str, set[str]] = {}
    instances = server.found(f"/studies/{study}/instances")
    series, sop = instances[0]["0020000E"][0], instances[0]["00080018"][0]
    path = f"/studies/{study}/series/{series}/instances/{sop}"
    given["QIDO-RS"] = {one["00100020"][0] for one in server.found(f"/studies?StudyInstanceUID={study}")}
    given["WADO-RS study"] = {dataset(one).PatientID for one in parts(server, f"/studies/{study}")}
    for name, accept in (
        ("WADO-RS", "application/dicom"),
        ("WADO-RS implicit", "application/dicom; transfer-syntax=1.2.840.10008.1.2"),
        ("WADO-RS JPEG-LS", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80"),
    ):
        status, body = server.request("GET", f"/dicom-web{path}", headers={"Accept": accept})
        assert status == 200, (name, body[:300])
        given[name] = {dataset(body).PatientID}
    status, archive = server.request(
        "GET", f"/dicom-web/studies/{study}", headers={"Accept": "application/zip"}
    )
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(archive)) as unpacked:
        assert unpacked.testzip() is None
        given["zip"] = {dataset(unpacked.read(name)).PatientID for name in unpacked.namelist()}
    metadata = server.json(f"/dicom-web/studies/{study}/metadata")
    given["metadata"] = {one["00100020"]["Value"][0] for one in metadata}
    documents = parts(server, f"/studies/{study}/metadata", Accept=XML)
    given["metadata in XML"] = {_xml_patient_id(one) for one in documents}
    uri = f"/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={sop}"
    status, body = server.request("GET", f"{uri}&contentType=application/dicom")
    if status == 404:
        status, body = server.request("GET", f"/dicom-web{uri}&contentType=application/dicom")
    assert status == 200, body[:200]
    given["WADO-URI"] = {dataset(body).PatientID}
    assert server.request("GET", f"/dicom-web{path}/rendered")[0] == 200
    assert server.request("GET", f"/dicom-web{path}/frames/1", headers={"Accept": "*/*"})[0] == 200
    given["C-GET"] = retrieved(server, dcmtk, folder, study)
    given["C-MOVE"] = moved(server, dcmtk, there, study)
    given["scu send"] = sent(server, there, study)
    return given


def retrieved(server: Isocenter, dcmtk: Dcmtk, folder: Path, study: str) -> set[str]:
    folder.mkdir()
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    told = dcmtk.run("getscu", "-S", "-od", folder, *server.called, *keys)
    assert told.returncode == 0, told
    return {pydicom.dcmread(path).PatientID for path in folder.iterdir()}


def moved(server: Isocenter, dcmtk: Dcmtk, there: StoreScp, study: str) -> set[str]:
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    told = dcmtk.run("movescu", "-S", "-aem", there.ae_title, *server.called, *keys)
    assert told.returncode == 0, told
    return taken(there)


def sent(server: Isocenter, there: StoreScp, study: str) -> set[str]:
    done = server.run("scu", "send", "127.0.0.1", there.port, "--called", there.ae_title, "--study", study)
    assert done.returncode == 0, done.stderr
    return taken(there)


def taken(there: StoreScp) -> set[str]:
    """Which Patient IDs came; the next who asks begins anew."""
    ids = {str(pydicom.dcmread(path).PatientID) for path in there.files()}
    for path in there.files():
        path.unlink()
    return ids


@pytest.fixture
def there(dcmtk: Dcmtk, tmp_path: Path) -> Iterator[StoreScp]:
    running = StoreScp(dcmtk, tmp_path / "there", tmp_path / "storescp.log")
    yield running
    running.stop()


def test_merged_and_unmerged(
    start_isocenter: Callable[..., Isocenter], dcmtk: Dcmtk, there: StoreScp, tmp_path: Path
) -> None:
    server = start_isocenter()
    added = server.run("ae", "destination", "add", there.ae_title, "127.0.0.1", there.port)
    assert added.returncode == 0, added.stderr
    images, kept = new_series(3, patient_id="OLD"), new_series(1, patient_id="NEW", name="ROE^RICHARD")
    server.store([*images, *kept])
    study = images[0].study
    path = f"/dicom-web/studies/{study}/series/{images[0].series}/instances/{images[0].sop}"
    before = server.request("GET", path, headers=DICOM)
    own = doors(server, dcmtk, there, tmp_path / "own", study)
    assert all(ids == {"OLD"} for ids in own.values()), own

    api(server, "merge", source={"patient_id": "OLD"}, target={"patient_id": "NEW"})
    merged = doors(server, dcmtk, there, tmp_path / "merged", study)
    assert all(ids == {"NEW"} for ids in merged.values()), merged
    body = server.request("GET", path, headers=DICOM)[1]
    after = dataset(body)
    assert str(after.PatientName) == "ROE^RICHARD"
    assert after.PixelData == dataset(before[1]).PixelData
    ranged = server.request("GET", path, headers={**DICOM, "Range": "bytes=100-900"})
    assert ranged == (206, body[100:901])

    api(server, "unmerge", patient={"patient_id": "OLD"})
    assert server.request("GET", path, headers=DICOM) == before
    own = doors(server, dcmtk, there, tmp_path / "again", study)
    assert all(ids == {"OLD"} for ids in own.values()), own

    api(server, "correct", patient={"patient_id": "OLD"}, name="MOE^JANE", note="passport")
    assert str(dataset(server.request("GET", path, headers=DICOM)[1]).PatientName) == "MOE^JANE"
    assert server.run("storage", "check").returncode == 0
    assert server.terminate() == 0
