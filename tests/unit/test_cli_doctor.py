"""The doctor: each illness once, with what to do about it."""

import errno
import os
import resource
import socket
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from isocenter.cli import doctor
from isocenter.cli.doctor import certificates, clock, machine, passkeys, ports, services
from isocenter.cli.doctor.findings import Check, Finding, Verdict
from isocenter.platform.settings import Settings


def settings_in(folder: Path, **values: object) -> Settings:
    return Settings.model_validate(
        {"data_dir": folder, "min_free_disk": 0, "http_port": 0, "dicom_port": 0, **values}
    )


def bad_of(check: Check, settings: Settings) -> list[Finding]:
    return [finding for finding in check(settings) if finding.verdict is Verdict.BAD]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_healthy_place_has_nothing_bad(tmp_path: Path) -> None:
    assert [f for f in doctor.examine(settings_in(tmp_path)) if f.verdict is Verdict.BAD] == []
    assert list(tmp_path.iterdir()) == [], "the doctor leaves no trace"


def test_a_taken_port_names_the_process_and_another_port(tmp_path: Path, taken_port: int) -> None:
    (finding,) = bad_of(ports.ports, settings_in(tmp_path, dicom_port=taken_port))
    assert finding.name == "DICOM port"
    assert f"127.0.0.1:{taken_port} is taken by process {os.getpid()}" in finding.says
    assert f"--dicom-port {taken_port + 1}" in finding.remedy


def test_our_own_server_on_its_port_is_no_illness(
    tmp_path: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_listener", lambda _port: (42, "python -m isocenter serve"))
    assert bad_of(ports.ports, settings_in(tmp_path, http_port=taken_port)) == []


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    (finding,) = bad_of(ports.ports, settings_in(tmp_path, bind="192.0.2.1", http_port=8080))
    assert "192.0.2.1" in finding.says and "--bind" in finding.remedy


def test_a_port_below_1024_without_the_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_host: str, _port: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ports, "_try_to_listen", refuse)
    (finding,) = bad_of(ports.ports, settings_in(tmp_path, dicom_port=104))
    assert "104" in finding.says and "CAP_NET_BIND_SERVICE" in finding.remedy


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    findings = bad_of(machine.folders, settings_in(tmp_path / "data"))
    assert [finding.name for finding in findings] == ["data folder", "spool folder"]
    assert "is a file" in findings[0].says


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    findings = bad_of(machine.folders, settings_in(tmp_path))
    assert f"{tmp_path} cannot be written to (Permission denied)" in findings[0].says
    assert "chown" in findings[0].remedy


def test_a_disk_below_its_floor(tmp_path: Path) -> None:
    (finding,) = bad_of(machine.disk_space, settings_in(tmp_path, min_free_disk="900TB"))
    assert "min_free_disk (900.0 TB)" in finding.says


@pytest.mark.parametrize(("free", "sick"), [(3 << 30, True), (60 << 30, False)])
def test_a_disk_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, sick: bool) -> None:
    usage = type("Usage", (), {"total": 2000 << 30, "free": free})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _place: usage)
    findings = bad_of(machine.disk_space, settings_in(tmp_path, min_free_disk="1GB"))
    assert [("nearly full" in finding.says) for finding in findings] == [True] * sick


def test_too_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 4096))
    (finding,) = bad_of(machine.open_files, settings_in(tmp_path))
    assert "Only 256 files" in finding.says and "ulimit -n 912" in finding.remedy


def test_a_database_that_does_not_exist_yet_is_not_made(tmp_path: Path) -> None:
    assert bad_of(services.database, settings_in(tmp_path)) == []
    assert not (tmp_path / "isocenter.db").exists()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "isocenter.db").write_text("hello " * 1000)
    (finding,) = bad_of(services.database, settings_in(tmp_path))
    assert finding.remedy


def test_a_database_that_is_behind(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "isocenter.db").close()
    (tmp_path / "isocenter.db").touch()
    (finding,) = bad_of(services.database, settings_in(tmp_path))
    assert "behind" in finding.says and "isocenter serve" in finding.remedy


def test_a_database_from_the_future(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "isocenter.db")
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    connection.execute("INSERT INTO alembic_version VALUES ('9999_later')")
    connection.commit()
    connection.close()
    (finding,) = bad_of(services.database, settings_in(tmp_path))
    assert "newer Isocenter" in finding.says


def test_a_database_server_that_is_down_without_its_password(tmp_path: Path, free_port: int) -> None:
    url = f"postgresql://anna:pa55@127.0.0.1:{free_port}/isocenter"
    (finding,) = bad_of(services.database, settings_in(tmp_path, database_url=url))
    assert f"Nothing answers at 127.0.0.1:{free_port}" in finding.says
    assert "pa55" not in finding.says + finding.remedy


def test_sqlite_on_a_network_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_file_system_of", lambda _path: "nfs4")
    (finding,) = bad_of(services.database, settings_in(tmp_path))
    assert "nfs4" in finding.says and "PostgreSQL" in finding.remedy


def test_an_object_store_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (finding,) = services.storage(settings_in(tmp_path))
    assert finding.verdict is Verdict.GOOD


def test_an_object_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    (finding,) = services.storage(settings_in(tmp_path))
    assert finding.verdict is Verdict.GOOD and "not there yet" in finding.says
    assert list(tmp_path.iterdir()) == []


def test_an_object_store_that_is_down(tmp_path: Path, free_port: int) -> None:
    settings = settings_in(
        tmp_path,
        storage_url="s3://bucket",
        storage_endpoint=f"http://127.0.0.1:{free_port}",
        storage_access_key="AKIAXYZ",
        storage_secret_key="s3cr3t",
    )
    (finding,) = bad_of(services.storage, settings)
    assert "s3://bucket cannot be used" in finding.says and finding.remedy
    assert "s3cr3t" not in finding.says


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("not PEM")
    given = {"dicom_tls_cert": tmp_path / "cert.pem", "dicom_tls_key": tmp_path / "gone.pem"}
    (finding,) = bad_of(certificates.certificates, settings_in(tmp_path, **given))
    assert finding.name == "DICOM TLS"


def test_a_clock_behind_the_last_commit(tmp_path: Path) -> None:
    database = tmp_path / "isocenter.db"
    database.touch()
    later = datetime.now(UTC).timestamp() + 3 * 86400 + 60
    os.utime(database, (later, later))
    (finding,) = bad_of(clock.clock, settings_in(tmp_path))
    assert "3 days behind the last change of isocenter.db" in finding.says


def test_a_clock_ahead_of_the_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_http_date", lambda _url: datetime(2020, 1, 1, tzinfo=UTC))
    (finding,) = bad_of(clock.clock, settings_in(tmp_path, storage_endpoint="http://store.example"))
    assert "ahead of the object store" in finding.says


@pytest.mark.parametrize(
    ("kept", "words"), [(True, "kept by"), (False, "no time service"), (None, "cannot be told")]
)
def test_a_clock_that_nobody_contradicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool | None, words: str
) -> None:
    monkeypatch.setattr(clock, "_kept_by_a_time_service", lambda: kept)
    (finding,) = clock.clock(settings_in(tmp_path))
    assert finding.verdict is (Verdict.GOOD if kept else Verdict.UNKNOWN)
    assert words in finding.says


def test_a_check_that_breaks_does_not_silence_the_others(tmp_path: Path) -> None:
    def broken(_settings: Settings) -> Iterator[Finding]:
        raise ZeroDivisionError("by zero")
        yield

    findings = doctor.examine(settings_in(tmp_path), [broken, machine.python_version])
    assert [finding.verdict for finding in findings] == [Verdict.BAD, Verdict.GOOD]
    assert "ZeroDivisionError" in findings[0].says


@pytest.fixture
def run_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        common = ["--http-port", "0", "--min-free-disk", "0"]
        result = CliRunner().invoke(doctor.app, [*common, *arguments])
        return result.exit_code, result.stdout

    return run


def test_the_command_ends_well(run_doctor: Callable[..., tuple[int, str]]) -> None:
    code, output = run_doctor("--dicom-port", "0")
    assert code == 0
    assert "✗" not in output and "All is well." in output


def test_the_command_fails_when_something_is_wrong(
    run_doctor: Callable[..., tuple[int, str]], taken_port: int
) -> None:
    code, output = run_doctor("--dicom-port", str(taken_port))
    assert code == 1
    assert "✗ DICOM port" in output and "→" in output and "One thing is wrong." in output


def test_json_says_the_same(run_doctor: Callable[..., tuple[int, str]], taken_port: int) -> None:
    code, output = run_doctor("--json", "--dicom-port", str(taken_port))
    document = orjson.loads(output)
    assert code == 1 and document["ok"] is False
    (sick,) = [check for check in document["checks"] if check["verdict"] == "bad"]
    assert set(sick) == {"name", "verdict", "says", "remedy"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, ["They belong to localhost and work on pages of http://localhost:0."]),
        ({"bind": "0.0.0.0"}, ["They belong to localhost: only browsers of this machine have any."]),
        (
            {"public_url": "http://pacs.example"},
            ["Browsers offer none for http://pacs.example: they ask for a name and HTTPS."],
        ),
        ({"auth": "off"}, []),
    ],
)
def test_where_passkeys_can_be_used(tmp_path: Path, values: dict[str, object], says: list[str]) -> None:
    found = list(passkeys.passkeys(settings_in(tmp_path, **values)))
    assert [finding.says for finding in found] == says
    assert all(finding.verdict is not Verdict.BAD for finding in found)
    assert all(("public_url" in finding.remedy) == (finding.verdict is Verdict.UNKNOWN) for finding in found)
