"""The server as it is started by default: nobody gets in before the first administrator was made."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from services.accounts import PASSWORD
from services.dcmtk import Dcmtk
from services.isocenter import Isocenter
from services.series import new_series, write_files


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Isocenter]:
    made = Isocenter(tmp_path / "server", auth="required", migrated=False)
    yield made
    made.stop()


def post(
    server: Isocenter, path: str, asked: object, authorization: str = ""
) -> tuple[int, dict[str, object]]:
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": authorization} if authorization else {}
    )
    status, body = server.request("POST", f"/api/v1{path}", orjson.dumps(asked), headers)
    return status, orjson.loads(body)


def get(server: Isocenter, path: str, authorization: str) -> int:
    return server.request("GET", path, headers={"Authorization": authorization})[0]


def test_from_the_first_start_to_a_program_that_reads(server: Isocenter) -> None:
    assert server.request("GET", "/dicom-web/studies")[0] == 401
    found = re.search(r'"token": "([\w-]{43})"', server.log.read_text())
    assert found is not None
    asked = {"token": found[1], "login": "chief", "password": PASSWORD}
    assert post(server, "/auth/setup", asked)[0] == 201
    assert post(server, "/auth/setup", asked | {"login": "second"})[0] == 403
    status, tokens = post(server, "/auth/login", {"login": "chief", "password": PASSWORD})
    assert status == 200
    bearer = f"Bearer {tokens['access_token']}"
    assert get(server, "/dicom-web/studies", bearer) == 200
    status, made = post(server, "/api-keys", {"name": "viewer", "role": "clinician"}, bearer)
    assert status == 201
    key = f"Api-Key {made['secret']}"
    assert get(server, "/dicom-web/studies", key) == 200
    assert get(server, "/api/v1/changes", key) == 403
    log = server.log.read_text()
    assert PASSWORD not in log and str(made["secret"]) not in log and str(tokens["access_token"]) not in log


def test_what_the_command_line_does_counts_in_the_running_server(server: Isocenter) -> None:
    created = subprocess.run(
        [
            *(sys.executable, "-m", "isocenter", "admin", "create", "chief", "--password-stdin", "--json"),
            *("--data-dir", str(server.data_folder)),
        ],
        input=PASSWORD + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert created.returncode == 0, created.stderr
    assert orjson.loads(created.stdout)["operator"] is True
    assert post(server, "/auth/login", {"login": "chief", "password": PASSWORD})[0] == 200
    assert server.run("org", "create", "other", "--name", "Other").returncode == 0
    shown = server.run("org", "set", "other", "conflict_policy=replace", "registration_open=true", "--json")
    assert orjson.loads(shown.stdout)["settings"]["conflict_policy"] == "replace"
    invited = orjson.loads(server.run("user", "invite", "jane", "--org", "other", "--json").stdout)
    token = invited["link"]["token"]
    assert post(server, "/auth/invitations/accept", {"token": token, "password": PASSWORD})[0] == 200
    listed = server.run("user", "list", "--org", "other")
    assert "jane" in listed.stdout and "chief" not in listed.stdout
    changed = server.run("user", "change", "jane", "--role", "radiologist", "--org", "other")
    assert changed.stdout == "jane is radiologist, active.\n"
    elsewhere = server.run("user", "reset", "jane")
    assert (elsewhere.returncode, elsewhere.stderr.splitlines()[0]) == (
        1,
        "isocenter: There is no such user.",
    )
    key = orjson.loads(server.run("key", "create", "viewer", "--org", "other", "--json").stdout)
    assert get(server, "/dicom-web/studies", f"Api-Key {key['secret']}") == 200
    assert server.run("key", "revoke", key["key"]["id"], "--org", "other").returncode == 0
    assert "revoked" in server.run("key", "list", "--org", "other").stdout


def test_logins_are_not_switched_off_for_the_network(tmp_path: Path) -> None:
    refused = subprocess.run(
        [
            *(sys.executable, "-m", "isocenter", "serve", "--auth", "off", "--bind", "0.0.0.0"),
            *("--data-dir", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert refused.returncode == 1
    assert "auth = off lets everybody do everything" in refused.stderr


def test_a_person_behind_an_association(tmp_path: Path, dcmtk: Dcmtk) -> None:
    """A workstation's user is checked by name and passcode; a wrong one ends the association."""
    server = Isocenter(tmp_path / "server", "--dimse-user-identity", "verify", auth="required")
    try:
        created = server.run("admin", "create", "chief", "--password-stdin", input_text=PASSWORD + "\n")
        assert created.returncode == 0, created.stderr
        [path] = write_files(tmp_path / "files", new_series(1))
        named = ("-usr", "chief", "-pwd")
        assert dcmtk.run("storescu", *named, "not the password", *server.called, path).returncode != 0
        assert dcmtk.run("storescu", "-usr", "nobody", "-pwd", PASSWORD, *server.called, path).returncode != 0
        sent = dcmtk.run("storescu", *named, PASSWORD, *server.called, path)
        assert sent.returncode == 0, sent.stdout
        assert dcmtk.run("echoscu", *server.called).returncode == 0  # an AE title alone is as good as before
    finally:
        server.stop()
