"""The real server speaking TLS: DCMTK and ``isocenter scu`` call it, others are told why not."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from services.certificates import (
    certificate,
    client_context,
    connected,
    der_of,
    put_in_place,
    shown_certificate,
)
from services.dcmtk import Dcmtk
from services.isocenter import Isocenter
from services.packages import missing
from services.series import new_series, write_files


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``server``, ``client`` and ``stranger``: ``….key`` and ``….crt``, self-signed, for a day."""
    openssl = shutil.which("openssl") or missing("openssl", "openssl")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "client", "stranger"):
        command = (
            f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={name} "
            f"-addext subjectAltName=DNS:{name}.example -keyout {name}.key -out {name}.crt"
        )
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def server(start_isocenter: Callable[..., Isocenter], certificates: Path) -> Isocenter:
    """It speaks TLS and wants to see the client's certificate."""
    return start_isocenter(
        *("--dicom-tls-cert", str(certificates / "server.crt")),
        *("--dicom-tls-key", str(certificates / "server.key")),
        *("--dicom-tls-ca", str(certificates / "client.crt")),
    )


def test_tls_both_ways(server: Isocenter, certificates: Path, dcmtk: Dcmtk, tmp_path: Path) -> None:
    images = new_series(2)
    paths = write_files(tmp_path / "files", images)
    keys = (certificates / "client.key", certificates / "client.crt")
    tls = ("+tls", *keys, "+cf", certificates / "server.crt")
    sent = dcmtk.run("storescu", *tls, *server.called, paths[0])
    assert sent.returncode == 0, sent.stdout
    stranger = ("+tls", certificates / "stranger.key", certificates / "stranger.crt")
    refused = dcmtk.run("storescu", *stranger, "+cf", certificates / "server.crt", *server.called, paths[1])
    assert refused.returncode != 0
    assert dcmtk.run("echoscu", "-to", 5, *server.called).returncode != 0  # without TLS

    def scu(*words: str | Path, identity: str, authority: str, name: str) -> subprocess.CompletedProcess[str]:
        own = ("--tls-cert", certificates / f"{identity}.crt", "--tls-key", certificates / f"{identity}.key")
        other = ("--tls-ca", certificates / f"{authority}.crt", "--tls-name", name)
        where = ("127.0.0.1", server.dicom_port)
        command, *rest = words
        return server.run("scu", command, *where, *rest, "--called", server.ae_title, *own, *other)

    trusted = {"authority": "server", "name": "server.example"}
    done = scu("send", paths[1], identity="client", **trusted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(server.found(f"/studies/{images[0].study}/instances")) == 2
    for wrong in (
        {"identity": "client", "authority": "stranger", "name": "server.example"},
        {"identity": "client", "authority": "server", "name": "another.example"},
        {"identity": "stranger", **trusted},
    ):
        failed = scu("echo", **wrong)
        assert failed.returncode == 1, wrong
        assert failed.stderr.startswith("isocenter: "), failed.stderr
        assert "Traceback" not in failed.stderr
    assert server.request("GET", "/health/ready")[0] == 200


def test_a_title_bound_to_a_certificate(server: Isocenter, certificates: Path, dcmtk: Dcmtk) -> None:
    """Whoever has another one is refused, seen in the list, and let in by the command that stands there."""

    def register(**entry: object) -> None:
        body = orjson.dumps({"title": "CT1", **entry})
        status, told = server.request("POST", "/api/v1/ae-titles", body, {"Content-Type": "application/json"})
        assert status == 201, told

    def may_call() -> bool:
        keys = (certificates / "client.key", certificates / "client.crt", "+cf", certificates / "server.crt")
        return dcmtk.run("echoscu", "+tls", *keys, "-aet", "CT1", *server.called).returncode == 0

    def refused() -> list[dict[str, str]]:
        return list(server.json("/api/v1/ae-titles")["refused"])

    register(certificate="CLIENT.example", services=["store"])
    assert may_call()
    register(certificate="somebody.else.example")
    assert not may_call()
    server.wait_until(lambda: len(refused()) == 1, "note of the refusal")
    assert refused()[0]["reason"] == "certificate-differs"

    listed = server.run("ae", "list").stdout
    command = next(line for line in listed.splitlines() if "let it in:" in line).split("let it in:")[1]
    assert "--host 127.0.0.1 --cert sha256:" in command
    done = server.run(*shlex.split(command)[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    server.wait_until(may_call, "admission")
    told = orjson.loads(server.run("ae", "list", "--json").stdout)
    assert [(one["host"], one["services"]) for one in told["ae_titles"]] == [
        ("", ["store"]),
        ("127.0.0.1", ["store", "find", "move", "get", "commit", "worklist"]),
    ]
    assert told["refused"] == []
    unknown = server.run("ae", "list", "--org", "nowhere")
    assert unknown.returncode == 1 and "no organisation called 'nowhere'" in unknown.stderr


async def test_a_renewed_certificate_on_sighup(
    start_isocenter: Callable[..., Isocenter], tmp_path: Path, dcmtk: Dcmtk
) -> None:
    files, renewed = certificate(tmp_path, "first"), certificate(tmp_path, "renewed")
    flags = ("--dicom-tls-cert", str(files.certificate), "--dicom-tls-key", str(files.key))
    server = start_isocenter(*flags)
    async with connected(server.dicom_port, client_context()) as (_, open_before):
        put_in_place(renewed, files)
        server.ask_to_reload()
        async with connected(server.dicom_port, client_context()) as (_, writer):
            assert shown_certificate(writer) == der_of(renewed)
        assert not open_before.is_closing()
    echo = dcmtk.run("echoscu", "+tla", "+cf", renewed.certificate, *server.called)
    assert echo.returncode == 0, echo.stdout
