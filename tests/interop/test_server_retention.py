"""A running server removes what its organisation keeps no longer, and fills no quota beyond its end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import orjson

from services.dcmtk import Dcmtk
from services.isocenter import Isocenter
from services.series import new_series, write_files

DAY_US = 86_400 * 1_000_000


def make_older(server: Isocenter, study: str, days: int) -> None:
    """As if the study had come in that many days ago."""
    then = time.time_ns() // 1000 - days * DAY_US
    with closing(sqlite3.connect(server.data_folder / "isocenter.db")) as database, database:
        database.execute(
            "UPDATE study SET created_at_us = ? WHERE study_instance_uid = ?",
            (then, study),
        )
        database.execute(
            "UPDATE instance SET received_at_us = ? WHERE series_pk IN (SELECT series.id FROM series "
            "JOIN study ON study.id = series.study_pk WHERE study_instance_uid = ?)",
            (then, study),
        )


def test_old_studies_go_with_objects_and_are_told(start_isocenter: Callable[..., Isocenter]) -> None:
    server = start_isocenter("--sweep-interval-s", "0.2", "--sweep-grace-s", "1")
    old, new = new_series(3), new_series(2)
    server.store([*old, *new])
    make_older(server, old[0].study, 8)
    for_ever = server.run("org", "retention", "default")
    assert for_ever.stdout == "default keeps its studies for ever (retention_days is not set).\n", for_ever
    tried = server.run("org", "retention", "default", "--days", "7", "--json")
    [one] = map(orjson.loads, tried.stdout.splitlines())
    assert (one["study_instance_uid"], one["instances"]) == (old[0].study, 3)
    assert server.run("org", "retention", "default", "--days", "9").stdout == "No study is due.\n"
    assert len(server.found("/studies")) == 2

    changed = server.run("org", "set", "default", "retention_days=7")
    assert "retention_days               7\n" in changed.stdout, changed
    # A round may have come between the setting and the count.
    assert "due to be removed. See them: isocenter org retention default" in changed.stdout
    server.wait_until(lambda: len(server.found("/studies")) == 1, "remove the study")
    assert [found["0020000D"] for found in server.found("/studies")] == [[new[0].study]]
    [waiting] = server.json("/api/v1/deletions")["deletions"]
    assert (waiting["deleted_by"], waiting["objects"]) == ("retention", 3)
    assert len(server.objects()) == 5, "it can be taken back"
    assert server.run("deletion", "purge", waiting["id"]).returncode == 0
    server.wait_until(lambda: len(server.objects()) == 2, "sweep its objects")
    assert server.json("/api/v1/organization")["due_studies"] == 0
    changes = server.json("/api/v1/changes?after=5")["changes"]
    assert [(one["kind"], one["detail"]) for one in changes] == [
        ("deleted", {"instances": 3, "reason": "retention", "deletion": waiting["id"]})
    ]
    listed = server.run("audit", "list", "--action", "delete", "--json")
    events = [orjson.loads(line) for line in listed.stdout.splitlines()]
    assert ("retention", old[0].study) in {(one["subject_id"], one["resource_id"]) for one in events}
    assert server.run("audit", "verify").returncode == 0
    assert server.run("storage", "check").returncode == 0
    assert server.terminate() == 0
    assert "Retention removed" in server.log.read_text()


def test_a_quota_set_beside_a_running_server(start_isocenter: Callable[..., Isocenter], dcmtk: Dcmtk) -> None:
    """It holds within seconds; storescu hears A700 and ends its association in peace."""
    server = start_isocenter()
    folder = server.data_folder.parent / "files"

    def sent() -> bool:
        """Whether one more object was taken."""
        told = dcmtk.run("storescu", "-d", *server.called, *write_files(folder, new_series(1)))
        refused = "0xa700" in told.stdout.lower()
        assert (told.returncode == 0) is not refused, told
        assert "Releasing Association" in told.stdout, told
        return not refused

    assert sent()
    size = server.json("/api/v1/organization")["usage"]["bytes"]
    server.run("org", "set", "default", f"quota_bytes={size}")
    assert server.json("/api/v1/organization")["usage"]["percent_of_quota"] == 100.0
    server.wait_until(lambda: not sent(), "refusal")
    assert "quota-reached" in server.log.read_text()
    server.run("org", "set", "default", "quota_bytes=")
    server.wait_until(sent, "acceptance")
    assert server.run("storage", "check").returncode == 0
