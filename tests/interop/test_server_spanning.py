"""One question to the archive itself, to Orthanc by DIMSE and by DICOMweb, and to nobody at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from dicomweb_client import DICOMwebClient

from services.archive import Image
from services.dcmtk import Dcmtk, QueryRetrieveScp, StoreScp
from services.isocenter import Isocenter
from services.orthanc import Orthanc
from services.processes import free_ports
from services.series import new_series

_STUDY_UID, _NAME, _INSTANCES = "0020000D", "00100010", "00201208"
_FOUND_IN = "00091001"
_numbers = itertools.count(1)


@dataclass
class Spanning:
    """The archive, with a configuration of its own for each test."""

    server: Isocenter
    orthanc: Orthanc
    config_id: int = 0
    sources: dict[str, int] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, expect: int = 200) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        content = orjson.dumps(body) if body is not None else None
        status, answer = self.server.request(method, path, content, headers)
        assert status == expect, (status, answer)
        return orjson.loads(answer)

    def configure(self, **fields: Any) -> None:
        made = self.call("POST", "/api/v1/config/spanner/", {"name": f"c{next(_numbers)}", **fields}, 201)
        self.config_id = made["id"]

    def add(self, name: str, priority: int = 100, **fields: Any) -> int:
        unique = f"{name} {next(_numbers)}"
        source_id: int = self.call("POST", "/api/v1/sources", {"name": unique, **fields}, 201)["id"]
        mapped = {"source_id": source_id, "priority": priority}
        self.call("POST", f"/api/v1/config/spanner/{self.config_id}/sources/", mapped, 201)
        self.sources[name] = source_id
        return source_id

    def add_own_archive(self) -> int:
        return self.add("own", priority=1, type="local")

    def add_orthanc_by_dimse(self, **fields: Any) -> int:
        place = {"ae_title": self.orthanc.ae_title, "host": "127.0.0.1", "port": self.orthanc.dicom_port}
        return self.add("dimse", type="dimse", **place, **fields)

    def add_orthanc_by_web(self, **fields: Any) -> int:
        return self.add(
            "web", type="dicomweb", url=self.orthanc.dicom_web_url, quirks={"escapes": False}, **fields
        )

    def add_nobody(self, **fields: Any) -> int:
        [port] = free_ports(1)
        return self.add("nobody", type="dimse", ae_title="NOBODY", host="127.0.0.1", port=port, **fields)

    def ask(self, query: str, *, resource: str = "studies", expect: int = 200) -> Any:
        path = f"/api/v1/spanner/qido/{resource}?spanner_config_id={self.config_id}&{query}"
        return self.call("GET", path, expect=expect)

    def ended(self, body: Any) -> dict[str, str]:
        names = {number: name for name, number in self.sources.items()}
        return {names[one["id"]]: one["ended"] for one in body["sources"]}


@pytest.fixture
def spanning(isocenter: Isocenter, orthanc: Orthanc) -> Iterator[Spanning]:
    orthanc.add_modality("iso", ae_title=isocenter.ae_title, port=isocenter.dicom_port)
    made = Spanning(isocenter, orthanc)
    made.configure(timeout_seconds=10)
    yield made


def put(orthanc: Orthanc, images: list[Any]) -> None:
    for image in images:
        orthanc.request("POST", "/instances", image.file)


def value(attributes: Any, tag: str) -> Any:
    return attributes[tag].get("Value", [None])[0]


def test_a_study_of_three_archives_is_one_answer(spanning: Spanning) -> None:
    spanning.add_own_archive()
    spanning.add_orthanc_by_dimse()
    spanning.add_orthanc_by_web()
    both, there = new_series(3, name="BOTH^PLACES"), new_series(2, name="BOTH^THERE")
    spanning.server.store(both[:2])
    put(spanning.orthanc, [*both, *there])

    body = spanning.ask("PatientName=BOTH*&envelope=true")

    assert body["complete"], body
    assert spanning.ended(body) == dict.fromkeys(("own", "dimse", "web"), "answered")
    found = {value(one["dataset"], _STUDY_UID): one for one in body["results"]}
    assert set(found) == {both[0].study, there[0].study}
    assert set(found[both[0].study]["found_in"]) == set(spanning.sources.values()), body["sources"]
    assert spanning.sources["own"] not in found[there[0].study]["found_in"]
    assert value(found[both[0].study]["dataset"], _INSTANCES) == 3
    assert found[both[0].study]["contradictions"] == []

    assert len(spanning.ask("PatientName=BOTH%5ETHERE")[0][_FOUND_IN]["Value"]) == 2
    plain = spanning.ask(f"StudyInstanceUID={both[0].study}")
    assert [value(one, _NAME) for one in plain] == [{"Alphabetic": "BOTH^PLACES"}]
    assert len(plain[0][_FOUND_IN]["Value"]) == 3


@pytest.mark.parametrize("way", ["dimse", "web"])
def test_series_and_instances(spanning: Spanning, way: str) -> None:
    spanning.add_orthanc_by_dimse() if way == "dimse" else spanning.add_orthanc_by_web()
    images = new_series(3, name="LOWER^LEVELS")
    put(spanning.orthanc, images)

    series = spanning.ask(f"StudyInstanceUID={images[0].study}", resource="series")
    assert [value(one, "0020000E") for one in series] == [images[0].series]
    for keys in (
        f"StudyInstanceUID={images[0].study}",
        f"StudyInstanceUID={images[0].study}&SeriesInstanceUID={images[0].series}",
    ):
        found = spanning.ask(keys, resource="instances")
        assert {value(one, "00080018") for one in found} == {image.sop for image in images}
        assert {value(one, _STUDY_UID) for one in found} == {images[0].study}


def test_a_configuration_is_searched_like_an_archive(spanning: Spanning) -> None:
    """What viewers do, one level after the other."""
    spanning.add_own_archive()
    spanning.add_orthanc_by_dimse()
    images = new_series(2, name="LIKE^ANARCHIVE")
    put(spanning.orthanc, images)
    base = f"/api/v1/spanner/{spanning.config_id}/dicom-web/studies"

    [study] = spanning.call("GET", f"{base}?PatientName=LIKE*")
    study_uid = value(study, _STUDY_UID)
    [series] = spanning.call("GET", f"{base}/{study_uid}/series")
    instances = spanning.call("GET", f"{base}/{study_uid}/series/{value(series, '0020000E')}/instances")
    assert {value(one, "00080018") for one in instances} == {image.sop for image in images}
    assert len(spanning.call("GET", f"{base}/{study_uid}/instances")) == 2
    spanning.call("GET", f"{base}/no-uid/series", expect=400)


def test_a_workstation_finds_what_all_archives_have(spanning: Spanning, dcmtk: Dcmtk) -> None:
    spanning.configure(ae_title="EVERYTHING")
    spanning.add_own_archive()
    spanning.add_orthanc_by_dimse()
    here, there = new_series(1, name="FROM^HERE"), new_series(2, name="FROM^THERE")
    spanning.server.store(here)
    put(spanning.orthanc, there)
    called = ("-aec", "EVERYTHING", "127.0.0.1", spanning.server.dicom_port)

    def find(level: str, *keys: str) -> str:
        options = [word for key in (f"QueryRetrieveLevel={level}", *keys) for word in ("-k", key)]
        done = dcmtk.run("findscu", "-S", *options, *called)
        return done.stdout

    studies = find("STUDY", "PatientName=FROM*", "StudyInstanceUID", "NumberOfStudyRelatedInstances")
    for image, count in ((here[0], 1), (there[0], 2)):
        assert image.study in studies
        assert f"[{count}" in studies
    series = find("SERIES", f"StudyInstanceUID={there[0].study}", "SeriesInstanceUID", "Modality")
    assert there[0].series in series
    images = find(
        "IMAGE",
        f"StudyInstanceUID={there[0].study}",
        f"SeriesInstanceUID={there[0].series}",
        "SOPInstanceUID",
    )
    assert all(image.sop in images for image in there)

    others = dcmtk.run("storescu", *called, str(there_file(spanning, there[0])))
    assert "No Acceptable Presentation Contexts" in others.stdout


def there_file(spanning: Spanning, image: Image) -> Path:
    path = spanning.server.data_folder.parent / f"{image.sop}.dcm"
    path.write_bytes(image.file)
    return path


def test_who_does_not_answer_is_told_and_the_others_answers_are_given(spanning: Spanning) -> None:
    spanning.add_own_archive()
    spanning.add_nobody()
    images = new_series(1, name="PARTIAL^ANSWER")
    spanning.server.store(images)

    body = spanning.ask("PatientName=PARTIAL*&envelope=true")

    assert not body["complete"]
    assert spanning.ended(body) == {"own": "answered", "nobody": "failed"}
    assert [value(one["dataset"], _STUDY_UID) for one in body["results"]] == [images[0].study]


def test_nothing_from_nobody_is_no_empty_answer(spanning: Spanning) -> None:
    spanning.add_nobody()
    assert spanning.ask("PatientName=X*", expect=503)["code"] == "spanning-failed"


@pytest.mark.parametrize("strategy", ["all_required", "fail_fast"])
def test_where_all_are_required_one_failure_is_the_answer(spanning: Spanning, strategy: str) -> None:
    spanning.configure(failure_strategy=strategy)
    spanning.add_own_archive()
    spanning.add_nobody()
    problem = spanning.ask("PatientName=X*", expect=503)
    assert problem["code"] == "spanning-failed"
    assert "nobody" in problem["detail"]


def test_a_query_that_is_fetched_later(spanning: Spanning) -> None:
    spanning.add_own_archive()
    spanning.add_orthanc_by_dimse()
    images = new_series(1, name="LATER^FETCHED")
    put(spanning.orthanc, images)
    path = (
        f"/api/v1/spanner/qido/studies?spanner_config_id={spanning.config_id}&PatientName=LATER*&async=true"
    )

    accepted = spanning.call("GET", path, expect=202)
    _, events = spanning.server.request("GET", accepted["events"])
    status = spanning.call("GET", accepted["status"])
    results = spanning.call("GET", accepted["results"])

    told = [line.partition(": ")[2] for line in events.decode().splitlines() if line.startswith("event:")]
    assert sorted(told) == ["end", "rows", "source", "source"]
    assert status["state"] == "finished"
    assert [value(one["dataset"], _STUDY_UID) for one in results["results"]] == [images[0].study]
    spanning.call("DELETE", f"/api/v1/spanner/queries/{accepted['id']}")
    spanning.call("GET", accepted["status"], expect=404)


def test_who_asked_what_is_logged_without_the_values(spanning: Spanning) -> None:
    spanning.configure(cache_seconds=60)
    own, nobody = spanning.add_own_archive(), spanning.add_nobody()
    spanning.ask("PatientName=SECRET*&Modality=CT")

    log = spanning.call("GET", f"/api/v1/spanner/log?spanner_config_id={spanning.config_id}")

    [query] = log["queries"]
    assert query["keywords"] == ["Modality", "PatientName"]
    assert "SECRET" not in orjson.dumps(log).decode()
    assert (query["asker_kind"], query["level"], query["outcome"]) == ("anybody", "study", "partial")
    assert {one["id"]: one["ended"] for one in query["sources"]} == {own: "answered", nobody: "failed"}
    assert spanning.call("GET", "/api/v1/spanner/log?before=2020-01-01T00:00:00Z") == {"queries": []}


def test_how_sources_do(spanning: Spanning) -> None:
    for source_id, supports in (
        (spanning.add_own_archive(), "qido"),
        (spanning.add_orthanc_by_dimse(), "find-study-root"),
        (spanning.add_orthanc_by_web(), "qido"),
    ):
        health = spanning.call("GET", f"/api/v1/sources/{source_id}/health")
        assert health["reachable"], health
        assert supports in health["supports"]
    health = spanning.call("GET", f"/api/v1/sources/{spanning.add_nobody()}/health")
    assert not health["reachable"]
    assert health["problem"]


# --- retrieving


def retrieved(spanning: Spanning, path: str, accept: str = "") -> list[bytes]:
    """The objects of a multipart answer."""
    headers = {"Accept": accept or 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    status, body = spanning.server.request(
        "GET", f"/api/v1/spanner/{spanning.config_id}/dicom-web{path}", None, headers
    )
    assert status == 200, (status, body)
    boundary = body[: body.index(b"\r\n")]
    return [part.split(b"\r\n\r\n", 1)[1][:-2] for part in body.split(boundary)[1:-1]]


def uids_of(files: list[bytes]) -> list[str]:
    return sorted(str(pydicom.dcmread(BytesIO(file)).SOPInstanceUID) for file in files)


@pytest.mark.parametrize("way", ["web", "get", "move"])
@pytest.mark.parametrize("keep", [False, True], ids=["passed on", "kept"])
def test_a_study_is_had_from_whoever_has_it(spanning: Spanning, way: str, keep: bool) -> None:
    spanning.configure(keep_retrieved=keep)
    match way:
        case "web":
            spanning.add_orthanc_by_web()
        case "get":
            spanning.add_orthanc_by_dimse()
        case "move":
            spanning.add_orthanc_by_dimse(quirks={"moves": True})
    images = new_series(5, name="FROM^AFAR")
    put(spanning.orthanc, images)
    study = f"/studies/{images[0].study}"

    files = retrieved(spanning, study)

    assert uids_of(files) == sorted(image.sop for image in images)
    assert {pydicom.dcmread(BytesIO(file)).PixelData for file in files} == {image.pixels for image in images}
    base = f"/api/v1/spanner/{spanning.config_id}/dicom-web"
    metadata = spanning.call("GET", f"{base}{study}/metadata")
    assert len(metadata) == 5
    one = images[2]
    frame = f"{study}/series/{one.series}/instances/{one.sop}/frames/1"
    assert one.pixels in retrieved(spanning, frame, 'multipart/related; type="application/octet-stream"')[0]
    here = spanning.call("GET", f"/dicom-web/instances?StudyInstanceUID={one.study}")
    assert len(here) == (5 if keep or way == "move" else 0)


@pytest.mark.parametrize("way", ["get", "move"])
def test_dcmtks_own_archive_is_one_of_the_sources(
    spanning: Spanning, dcmtk: Dcmtk, tmp_path: Path, way: str
) -> None:
    server = spanning.server
    there = QueryRetrieveScp(dcmtk, tmp_path / "dcmqrscp", {server.ae_title: server.dicom_port})
    try:
        images = new_series(5, name="AT^DCMTK")
        files = [there_file(spanning, image) for image in images]
        called = ("-aec", there.ae_title, "127.0.0.1", there.port)
        assert dcmtk.run("storescu", *called, *files).returncode == 0
        spanning.add_orthanc_by_web()
        spanning.add(
            "dcmqrscp",
            type="dimse",
            ae_title=there.ae_title,
            host="127.0.0.1",
            port=there.port,
            quirks={"moves": way == "move"},
        )
        put(spanning.orthanc, images[:2])

        [found] = spanning.ask("PatientName=AT*&envelope=true")["results"]
        assert len(found["found_in"]) == 2
        assert found["contradictions"] == []
        objects = retrieved(spanning, f"/studies/{images[0].study}")
    finally:
        there.stop()
    assert uids_of(objects) == sorted(image.sop for image in images)


def test_a_client_library_reads_a_configuration_like_an_archive(spanning: Spanning) -> None:
    spanning.add_own_archive()
    spanning.add_orthanc_by_dimse()
    images = new_series(4, name="BY^LIBRARY")
    spanning.server.store(images[:1])
    put(spanning.orthanc, images)
    client = DICOMwebClient(f"{spanning.server.url}/api/v1/spanner/{spanning.config_id}/dicom-web")
    expected = {image.sop: image.pixels for image in images}

    [study] = client.search_for_studies(search_filters={"PatientName": "BY*"})
    study_uid, series_uid = value(study, _STUDY_UID), images[0].series
    assert value(study, "00081190").endswith(f"/{spanning.config_id}/dicom-web/studies/{study_uid}")
    assert {one.SOPInstanceUID: one.PixelData for one in client.retrieve_study(study_uid)} == expected
    metadata = client.retrieve_series_metadata(study_uid, series_uid)
    assert {value(one, "00080018") for one in metadata} == expected.keys()
    one = images[3]
    assert client.retrieve_instance(study_uid, series_uid, one.sop).PixelData == one.pixels
    assert client.retrieve_instance_frames(study_uid, series_uid, one.sop, [1]) == [one.pixels]


def test_what_two_archives_have_of_a_study_is_put_together(spanning: Spanning) -> None:
    spanning.add_own_archive()
    spanning.add_orthanc_by_web()
    images = new_series(6, name="IN^PARTS")
    spanning.server.store(images[:4])
    put(spanning.orthanc, images[2:])
    assert uids_of(retrieved(spanning, f"/studies/{images[0].study}")) == sorted(one.sop for one in images)


def test_a_study_of_two_patients_is_not_given(spanning: Spanning) -> None:
    spanning.add_own_archive()
    spanning.add_orthanc_by_web()
    [ours, theirs] = new_series(2, name="ONE^PATIENT")
    spanning.server.store([ours])
    other = theirs.but(name="OTHER^PATIENT", patient_id="OTHER", birth_date="19600606")
    put(spanning.orthanc, [other])
    base = f"/api/v1/spanner/{spanning.config_id}/dicom-web"
    problem = spanning.call("GET", f"{base}/studies/{ours.study}", expect=409)
    assert problem["code"] == "study-of-two-patients"
    spanning.call("GET", f"{base}/studies/{ours.study}/metadata", expect=409)


@pytest.mark.parametrize("way", ["move", "get"])
def test_a_workstation_gets_what_any_archive_has(
    spanning: Spanning, dcmtk: Dcmtk, tmp_path: Path, way: str
) -> None:
    spanning.configure(ae_title=f"ALL{way.upper()}")
    spanning.add_own_archive()
    spanning.add_orthanc_by_dimse()
    images = new_series(6, name="TO^AWORKSTATION")
    spanning.server.store(images[:2])
    put(spanning.orthanc, images)
    called = ("-aec", f"ALL{way.upper()}", "127.0.0.1", spanning.server.dicom_port)
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={images[0].study}")
    folder = tmp_path / "came"
    folder.mkdir()
    if way == "get":
        done = dcmtk.run("getscu", "-d", "-S", "-od", folder, *called, *keys)
        files = list(folder.iterdir())
    else:
        receiver = StoreScp(dcmtk, folder, tmp_path / "storescp.log", ae_title="WORKSTATION")
        try:
            spanning.server.run("ae", "destination", "add", "WORKSTATION", "127.0.0.1", receiver.port)
            done = dcmtk.run("movescu", "-d", "-S", "-aem", "WORKSTATION", *called, *keys)
        finally:
            receiver.stop()
        files = receiver.files()
    assert done.returncode == 0, done.stdout
    assert "Completed Suboperations       : 6" in done.stdout, done.stdout
    assert uids_of([file.read_bytes() for file in files]) == sorted(image.sop for image in images)


def test_across_archives_patients_are_not_retrieved_whole(spanning: Spanning, dcmtk: Dcmtk) -> None:
    """The same Patient ID may be another patient's there."""
    spanning.configure(ae_title="ALLPATIENTS")
    spanning.add_own_archive()
    called = ("-aec", "ALLPATIENTS", "127.0.0.1", spanning.server.dicom_port)
    done = dcmtk.run("getscu", "-d", "-P", *called, "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=P1")
    assert "study by study" in done.stdout


def test_a_study_that_nobody_has(spanning: Spanning) -> None:
    spanning.add_orthanc_by_web()
    base = f"/api/v1/spanner/{spanning.config_id}/dicom-web"
    assert spanning.call("GET", f"{base}/studies/2.25.404", expect=404)["code"] == "no-such-study"
    spanning.call("GET", "/api/v1/spanner/999999/dicom-web/studies/2.25.404", expect=404)
    spanning.add_nobody()
    unsure = spanning.call("GET", f"{base}/studies/2.25.404", expect=503)
    assert unsure["code"] == "spanning-failed"
    assert "nobody" in unsure["detail"]
    spanning.call("GET", "/api/v1/spanner/x/dicom-web/studies/2.25.404", expect=404)
