"""A running server: what is deleted is at no door, comes back as it was, or is gone; API, CLI, audit."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from services.dcmtk import Dcmtk
from services.isocenter import Isocenter
from services.series import new_series


def doors(server: Isocenter, dcmtk: Dcmtk, study: str, series: str, instance: str) -> dict[str, bool]:
    """At which doors the instance is to be found."""
    path = f"/dicom-web/studies/{study}"
    of_instance = f"{path}/series/{series}/instances/{instance}"
    found = {
        "QIDO-RS": bool(server.found(f"/studies?StudyInstanceUID={study}")),
        "QIDO-RS instances": bool(server.found(f"/instances?SOPInstanceUID={instance}")),
    }
    for what in ("", "/metadata", "/rendered", "/thumbnail"):
        found[f"series{what}"] = server.request("GET", f"{path}/series/{series}{what}")[0] == 200
    for what in ("", "/metadata", "/frames/1", "/rendered", "/bulkdata/7FE00010"):
        accept = {"Accept": "*/*"}
        found[f"instance{what}"] = server.request("GET", of_instance + what, headers=accept)[0] == 200
    query = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    told = dcmtk.run("findscu", "-v", "-S", *server.called, *query)
    found["C-FIND"] = f"[{study}]" in told.stdout and "Pending" in told.stdout
    return found


def test_deleted_restored_purged(start_isocenter: Callable[..., Isocenter], dcmtk: Dcmtk) -> None:
    server = start_isocenter("--sweep-interval-s", "0.2", "--sweep-grace-s", "1")
    images = new_series(3)
    server.store(images)
    where = (images[0].study, images[0].series, images[0].sop)
    assert all(doors(server, dcmtk, *where).values()), doors(server, dcmtk, *where)
    before = server.request("GET", f"/dicom-web/studies/{where[0]}")

    asked = orjson.dumps({"study_instance_uid": where[0], "reason": "a test"})
    status, body = server.request("POST", "/api/v1/deletions", asked, {"Content-Type": "application/json"})
    deleted = orjson.loads(body)
    assert (status, deleted["instances"]) == (201, 3), body
    assert not any(doors(server, dcmtk, *where).values()), doors(server, dcmtk, *where)
    [waiting] = server.json("/api/v1/deletions")["deletions"]
    assert (waiting["id"], waiting["objects"], waiting["reason"]) == (deleted["deletion"], 3, "a test")
    listed = server.run("deletion", "list")
    assert deleted["deletion"] in listed.stdout and "3 objects" in listed.stdout, listed
    assert "can be restored until" in server.run("deletion", "show", deleted["deletion"]).stdout

    restored = server.run("deletion", "restore", deleted["deletion"])
    assert restored.stdout == "3 objects restored.\n", restored
    assert server.request("GET", f"/dicom-web/studies/{where[0]}") == before
    assert all(doors(server, dcmtk, *where).values())

    assert server.request("DELETE", f"/dicom-web/studies/{where[0]}")[0] == 204
    [waiting] = orjson.loads(server.run("deletion", "list", "--json").stdout)["deletions"]
    assert server.run("storage", "check").returncode == 0
    status, body = server.request("POST", f"/api/v1/deletions/{waiting['id']}/purge")
    assert (status, orjson.loads(body)["state"]) == (200, "purged")
    status, body = server.request("POST", f"/api/v1/deletions/{waiting['id']}/restore")
    assert (status, orjson.loads(body)["code"]) == (409, "already-settled")
    server.wait_until(lambda: not server.objects(), "sweep its objects")
    events = [
        orjson.loads(line)
        for line in server.run("audit", "list", "--action", "delete", "--json").stdout.splitlines()
    ]
    assert {event["resource_kind"] for event in events} == {"deletion", "study"}
    assert server.run("audit", "verify").returncode == 0
    assert server.terminate() == 0


def test_a_whole_patient_by_command_and_what_is_wrong_is_said(
    start_isocenter: Callable[..., Isocenter],
) -> None:
    server = start_isocenter()
    images = new_series(2)
    server.store(images)
    patient_id = server.found("/studies")[0]["00100020"][0]
    deleted = server.run("deletion", "patient", patient_id, "--reason", "asked for by the patient")
    assert (
        deleted.returncode == 0 and "2 instances deleted. Undo: isocenter deletion restore" in deleted.stdout
    )
    assert server.found("/studies") == []
    nobody = server.run("deletion", "patient", "nobody")
    assert nobody.returncode != 0 and "no such patient" in nobody.stderr, nobody
    for wrong in (
        {},
        {"study_instance_uid": "1.2", "patient": {"patient_id": "A"}},
        {"series_instance_uid": "1.2"},
        {"study_instance_uid": "1.2", "sop_instance_uid": "1.3"},
    ):
        status, body = server.request(
            "POST", "/api/v1/deletions", orjson.dumps(wrong), {"Content-Type": "application/json"}
        )
        assert status == 400, (wrong, body)
    assert server.request("GET", f"/api/v1/deletions/{'0' * 32}")[0] == 404
    assert server.terminate() == 0
