"""The worklist by command line and HTTP API; files of DCMTK's worklist server; a modality sees all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.dcmtk import Dcmtk
from services.isocenter import Isocenter
from services.workitems import a_workitem, code, dicom_json
from services.worklists import an_item, encoded

_ADD = (
    *("worklist", "add", "--patient-id", "P7", "--patient-name", "DOE^JOHN", "--station", "CT1"),
    *("--modality", "CT", "--start", "2026-01-31T14:30:00", "--json"),
)
_DUMPS = Path("/usr/share/doc/dcmtk/examples/wlistdb/OFFIS")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Isocenter]:
    made = Isocenter(tmp_path_factory.mktemp("worklist"))
    yield made
    made.stop()


def seen(server: Isocenter, dcmtk: Dcmtk, *keys: str) -> str:
    """What a modality is shown."""
    asked = [part for key in ("PatientID", *keys) for part in ("-k", key)]
    done = dcmtk.run("findscu", "-W", *asked, *server.called)
    assert done.returncode == 0, done.stdout
    return done.stdout


def api(server: Isocenter, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    content = None if body is None else orjson.dumps(body)
    status, answer = server.request(
        method, "/api/v1/worklist" + path, body=content, headers={"Content-Type": "application/json"}
    )
    return status, orjson.loads(answer) if answer else None


def test_by_command(server: Isocenter, dcmtk: Dcmtk) -> None:
    done = server.run(*_ADD)
    assert done.returncode == 0, done.stderr
    (item,) = orjson.loads(done.stdout)
    assert item["state"] == "scheduled" and item["step_id"].startswith("S")
    again = server.run(*_ADD, "--study-uid", item["study_instance_uid"], "--description", "changed")
    assert orjson.loads(again.stdout)[0]["id"] == item["id"]
    step = "ScheduledProcedureStepSequence[0]."
    assert "P7" in seen(server, dcmtk, step + "ScheduledStationAETitle=CT1", step + "Modality=CT")
    listed = server.run("worklist", "list", "--station", "CT1", "--date", "20260131")
    assert "DOE^JOHN" in listed.stdout and "20260131143000" in listed.stdout
    assert "empty" in server.run("worklist", "list", "--station", "CT2").stdout
    assert server.run("worklist", "remove", str(item["id"])).returncode == 0
    assert server.run("worklist", "remove", str(item["id"])).returncode == 1
    assert "P7" not in seen(server, dcmtk)
    assert "Nothing" in server.run("worklist", "performed").stdout


def test_by_api(server: Isocenter, dcmtk: Dcmtk) -> None:
    order = {
        "patient_id": "P8",
        "patient_name": "ROE^JANE",
        "station_ae_title": "MR1",
        "modality": "MR",
        "start": "2026-02-01T09:00:00",
        "accession_number": "A8",
    }
    status, answer = api(server, "POST", "", order)
    assert status == 201 and answer["items"][0]["start"] == "20260201090000"
    status, answer = api(server, "POST", "/dicom-json", an_item(PatientID="P9"))
    assert status == 201
    assert {"P8", "P9"} <= set(seen(server, dcmtk).replace("[", " ").replace("]", " ").split())
    status, answer = api(server, "GET", "?station=MR1&date=20260201")
    assert [one["patient_id"] for one in answer["items"]] == ["P8"]
    for bad in ({**order, "start": "soon"}, {**order, "station_ae_title": "A" * 17}, {"patient_id": "x"}, []):
        assert api(server, "POST", "", bad)[0] == 400
    status, answer = api(server, "POST", "/dicom-json", an_item(step={"Modality": None}))
    assert status == 400 and answer["code"] == "worklist-item"
    assert answer["errors"] == [{"pointer": "/00400100/Value/0/00080060", "detail": "It must have a value."}]
    assert api(server, "DELETE", "/99999")[0] == 404
    kinds = [one["kind"] for one in api(server, "GET", "/changes")[1]["changes"]]
    assert "worklist-item" in kinds


def test_a_workitem_that_is_an_acquisition(server: Isocenter, dcmtk: Dcmtk) -> None:
    given = a_workitem(
        PatientID="P10",
        ScheduledStationNameCodeSequence=code("CT5", "99LOCAL"),
        ScheduledStationClassCodeSequence=code("CT", "DCM", "Computed Tomography"),
        ReferencedRequestSequence=dicom_json(AccessionNumber="A10", RequestedProcedureID="RP10"),
    )
    headers = {"Content-Type": "application/dicom+json"}
    status, _ = server.request(
        "POST", "/dicom-web/workitems?workitem=1.2.10", body=orjson.dumps([given]), headers=headers
    )
    assert status == 201
    station = "ScheduledProcedureStepSequence[0].ScheduledStationAETitle=CT5"
    assert "A10" in seen(server, dcmtk, station, "AccessionNumber")
    server.request("POST", "/dicom-web/workitems/1.2.10/cancelrequest")
    assert "A10" not in seen(server, dcmtk, station, "AccessionNumber")
    (item,) = api(server, "GET", "?station=CT5&all_states=true")[1]["items"]
    assert (item["state"], item["source"], item["workitem_uid"]) == ("discontinued", "workitem", "1.2.10")


def test_files_of_dcmtks_worklist_server(server: Isocenter, dcmtk: Dcmtk, tmp_path: Path) -> None:
    dumps = sorted(_DUMPS.glob("wklist*.dump"))
    if not dumps:
        pytest.skip("no examples of DCMTK's worklist server here")
    files = [tmp_path / f"{dump.stem}.wl" for dump in dumps]
    for dump, file in zip(dumps, files, strict=True):
        assert dcmtk.run("dump2dcm", dump, file).returncode == 0
    done = server.run("worklist", "import", *files, "--json")
    assert done.returncode == 0, done.stderr
    assert len(orjson.loads(done.stdout)) == len(files)
    assert all(one["source"] == "file" for one in orjson.loads(done.stdout))
    shown = seen(server, dcmtk, "PatientName=VIVALDI*")
    assert "VIVALDI^ANTONIO" in shown


def test_files_that_are_none(server: Isocenter, tmp_path: Path) -> None:
    bad = {"empty.wl": b"", "noise.wl": b"\xff" * 5000, "bare.wl": encoded({})}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        done = server.run("worklist", "import", tmp_path / name)
        assert done.returncode == 1 and "Traceback" not in done.stderr, (name, done.stderr)
    assert server.run("worklist", "import", tmp_path / "missing.wl").returncode == 1


def test_capabilities(server: Isocenter) -> None:
    status, answer = server.request("OPTIONS", "/dicom-web/")
    assert status == 200 and b"<application xmlns=" in answer
    assert b'<resource path="workitems/{workitem}/state">' in answer
    assert b'<method name="PUT" id="ChangeUPSState">' in answer
    status, answer = server.request("OPTIONS", "/dicom-web/", headers={"Accept": "application/json"})
    resources = {one["path"]: one["methods"] for one in orjson.loads(answer)["resources"]}
    assert {one["id"] for one in resources["/studies"]} == {"SearchForStudies", "StoreInstances"}
    assert "limit" in resources["/workitems"][0]["query"]
    assert server.request("OPTIONS", "/dicom-web/", headers={"Accept": "text/html"})[0] == 406
    assert server.request("POST", "/dicom-web/")[0] == 405
