"""``isocenter audit``, and what other commands tell the trail."""

from __future__ import annotations

import csv
import getpass
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from xml.etree.ElementTree import fromstring

import orjson
import pytest

from isocenter.features.audit.trail import AuditTrail
from isocenter.kit.clock import SystemClock
from isocenter.platform.db import Database, open_database
from services.archive import Image
from services.audit import disarm, event, execute
from services.schema import fresh_url


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLite, unless a test asks for both: each command is a process of its own and takes its time."""
    with fresh_url(request, getattr(request, "param", "sqlite"), tmp_path) as found:
        yield found


on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url, migrate=False)
    trail = AuditTrail(opened, SystemClock())
    for number in range(1, 4):
        trail.record(event(number, subject_name="=cmd\x1b[31m"))
    await trail.close()
    yield opened
    await opened.close()


def isocenter(url: str, folder: Path, *words: str | Path, status: int = 0) -> str:
    """What the command printed."""
    environ = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "COLUMNS": "200",
        "ISOCENTER_DATA_DIR": str(folder),
        "ISOCENTER_DATABASE_URL": url,
        "ISOCENTER_MIN_FREE_DISK": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "isocenter", *map(str, words)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@on_both
async def test_proving(url: str, database: Database, tmp_path: Path) -> None:
    noted = isocenter(url, tmp_path, "audit", "head").strip()
    assert noted.startswith("3:") and len(noted) == 66
    [verdict] = orjson.loads(isocenter(url, tmp_path, "audit", "verify", "--json", "--expect", noted))
    assert verdict["organization"] == "default" and verdict["intact"] and verdict["entries"] == 3
    assert "4 entries" in isocenter(url, tmp_path, "audit", "verify", "--org", "default")  # the first look
    isocenter(url, tmp_path, "audit", "verify", "--org", "nobody", status=1)
    await disarm(database)
    await execute(database, "UPDATE audit_event SET address = 'elsewhere' WHERE sequence = 2")
    told = isocenter(url, tmp_path, "audit", "verify", status=1)
    assert "changed at entry 2" in told and "1 entries before it" in told


async def test_listing_and_exporting(url: str, database: Database, tmp_path: Path) -> None:
    listed = isocenter(url, tmp_path, "audit", "list", "--resource", "1.2.3.2")
    assert len(listed.splitlines()) == 1 and "=cmd?[31m" in listed and "1.2.3.2" in listed
    lines = isocenter(url, tmp_path, "audit", "list", "--json", "--limit", "1").splitlines()
    newest = orjson.loads(lines[0])
    assert (newest["action"], newest["resource_kind"], newest["subject_kind"]) == ("read", "audit", "service")
    assert newest["subject_name"] == getpass.getuser()

    rows = list(csv.DictReader(io.StringIO(isocenter(url, tmp_path, "audit", "export"))))
    assert [row["sequence"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0]["subject_name"].startswith("'=cmd")
    for form, parsed in (("json", orjson.loads), ("fhir", orjson.loads), ("dicom-xml", fromstring)):
        exported = isocenter(url, tmp_path, "audit", "export", "--format", form, "--to", "2999-01-01")
        assert len([parsed(line) for line in exported.splitlines()]) >= 6
    isocenter(url, tmp_path, "audit", "export", "--from", "yesterday", status=1)


async def test_other_commands_are_recorded(url: str, database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.dcm").write_bytes(Image().file)
    (folder / "bad.dcm").write_bytes(Image(sop="1.2.3.4", modality=None).file)
    isocenter(url, tmp_path, "import", folder, status=1)
    entry = orjson.loads(isocenter(url, tmp_path, "quarantine", "list", "--json"))["entries"][0]["id"]
    isocenter(url, tmp_path, "ae", "add", "CT1", "--host", "192.0.2.1")
    isocenter(url, tmp_path, "ae", "remove", "CT9", status=1)
    isocenter(url, tmp_path, "quarantine", "discard", entry, "--reason", "no modality")
    lines = isocenter(url, tmp_path, "audit", "list", "--json", "--limit", "5").splitlines()
    found = [orjson.loads(line) for line in reversed(lines)]
    assert [
        (one["action"], one["outcome"], one["resource_kind"], one["resource_id"], one["details"])
        for one in found
    ] == [
        (
            "store",
            "success",
            "folder",
            str(folder),
            {"files": 2, "unreadable": 0, "stored": 1, "quarantined": 1},
        ),
        ("read", "success", "quarantine", "", {"state": "waiting", "limit": 100}),
        (
            "change",
            "success",
            "ae-title",
            "CT1",
            {"host": "192.0.2.1", "description": "", "services": None, "certificate": None},
        ),
        ("delete", "failed", "ae-title", "CT9", {"host": None, "reason": "not-found"}),
        ("change", "success", "quarantine", entry, {"settled": "discarded", "why": "no modality"}),
    ]
    assert {one["subject_kind"] for one in found} == {"service"}
