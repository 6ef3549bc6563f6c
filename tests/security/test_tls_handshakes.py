"""Real handshakes with both doors: which versions and suites, and certificates that change meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from isocenter.app.archive import open_archive
from isocenter.app.server import Server
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import Settings
from isocenter.platform.tls import TlsFiles
from services.certificates import (
    certificate,
    client_context,
    connected,
    der_of,
    put_in_place,
    shown_certificate,
)
from services.dcmtk import Dcmtk
from services.packages import missing

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
OLD = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")  # openssl alone still speaks it
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(folder: Path, files: TlsFiles, **more: object) -> AsyncIterator[Server]:
    given = {
        "data_dir": folder / "data",
        "min_free_disk": 0,
        "http_port": 0,
        "dicom_port": 0,
        "http_tls_cert": files.certificate,
        "http_tls_key": files.key,
        "dicom_tls_cert": files.certificate,
        "dicom_tls_key": files.key,
        **more,
    }
    async with open_archive(Settings.model_validate(given)) as archive:
        server = Server(archive)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return certificate(tmp_path, "first")


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"}")
    assert b"strict-transport-security: max-age=" in head
    return head.startswith(b"HTTP/1.1 200")


async def version_spoken(port: int, context: ssl.SSLContext) -> str:
    async with connected(port, context) as (_, writer):
        return str(writer.get_extra_info("ssl_object").version())


async def refused(port: int, context: ssl.SSLContext) -> bool:
    try:
        async with asyncio.timeout(10), connected(port, context) as (reader, writer):
            writer.write(GET)  # TLS 1.3 clients are done before the server has seen their certificate
            return not await reader.read(1)
    except (ssl.SSLError, ConnectionError):
        return True


async def openssl(*words: str | int) -> str:
    program = shutil.which("openssl") or missing("openssl", "openssl")
    done = await asyncio.to_thread(
        subprocess.run,
        [program, "s_client", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    return (done.stdout + done.stderr).decode(errors="replace")


async def test_https_speaks_1_3_only(tmp_path: Path, files: TlsFiles) -> None:
    async with serving(tmp_path, files) as server:
        assert await version_spoken(server.http_port, client_context()) == "TLSv1.3"
        assert await refused(server.http_port, client_context(maximum=TLS12))
        target = ("-connect", f"127.0.0.1:{server.http_port}")
        assert "New, TLSv1.3" in await openssl(*target, "-tls1_3")
        assert "Cipher is (NONE)" in await openssl(*target, "-tls1_2")
        assert "ALPN protocol: http/1.1" in await openssl(*target, "-alpn", "h2,http/1.1")
        async with connected(server.http_port, client_context()) as streams:
            assert await answered(*streams)


async def test_https_speaks_1_2_where_the_operator_says_so(tmp_path: Path, files: TlsFiles) -> None:
    async with serving(tmp_path, files, http_tls_min="1.2") as server:
        assert await version_spoken(server.http_port, client_context(maximum=TLS12)) == "TLSv1.2"
        assert await version_spoken(server.http_port, client_context()) == "TLSv1.3"
        assert "Cipher is (NONE)" in await openssl(*OLD, "-connect", f"127.0.0.1:{server.http_port}")


OLD_SUITES = [
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA384",
    "NULL-SHA256",
    "AECDH-AES256-SHA",
]


@pytest.mark.parametrize("profile", ["bcp195", "bcp195-modified", "bcp195-nd"])
async def test_dicom_speaks_what_its_profile_lists(tmp_path: Path, files: TlsFiles, profile: str) -> None:
    async with serving(tmp_path, files, dicom_tls_profile=profile) as server:
        port = server.dicom_port
        assert await version_spoken(port, client_context()) == "TLSv1.3"
        good = client_context(maximum=TLS12, suites="ECDHE-ECDSA-AES128-GCM-SHA256")
        assert await version_spoken(port, good) == "TLSv1.2"
        for suite in OLD_SUITES:
            assert await refused(port, client_context(maximum=TLS12, suites=f"{suite}:@SECLEVEL=0")), suite
        chacha = client_context(maximum=TLS12, suites="ECDHE-ECDSA-CHACHA20-POLY1305")
        assert await refused(port, chacha) == (profile != "bcp195-modified")
        assert "Cipher is (NONE)" in await openssl(*OLD, "-connect", f"127.0.0.1:{port}")


@pytest.mark.parametrize(("option", "heard"), [("+py", True), ("+px", True), ("+pz", True), ("+pn", False)])
async def test_dcmtk_profiles(
    tmp_path: Path, files: TlsFiles, dcmtk: Dcmtk, option: str, heard: bool
) -> None:
    async with serving(tmp_path, files) as server:
        echo = await asyncio.to_thread(
            dcmtk.run,
            *("echoscu", "+tla", option, "+cf", files.certificate, "-aec", "ISOCENTER"),
            *("127.0.0.1", server.dicom_port),
        )
        assert (echo.returncode == 0) is heard, echo.stdout


async def test_a_new_certificate_reaches_the_next_handshake(tmp_path: Path, files: TlsFiles) -> None:
    old, second = der_of(files), certificate(tmp_path, "second")
    async with serving(tmp_path, files) as server, connected(server.http_port, client_context()) as first:
        assert shown_certificate(first[1]) == old
        assert await answered(*first)
        put_in_place(second, files)
        server.reload_certificates()
        for port in (server.http_port, server.dicom_port):
            for name in (None, "first.example"):
                for version in (TLS12, TLS13) if port == server.dicom_port else (TLS13,):
                    async with connected(port, client_context(maximum=version), name) as (_, writer):
                        assert shown_certificate(writer) == der_of(second)
        assert await answered(*first), "what was open lives on"


async def test_a_broken_certificate_leaves_the_old_one(tmp_path: Path, files: TlsFiles) -> None:
    old, second = der_of(files), certificate(tmp_path, "second")
    async with serving(tmp_path, files) as server:
        for broken in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None):
            if broken is None:
                files.key.write_bytes(second.key.read_bytes())  # half of the renewal: they do not fit
            else:
                files.certificate.write_bytes(broken)
            with capture_logs() as logs:
                server.reload_certificates()
            said = [one for one in logs if one["log_level"] == "error"]
            assert len(said) == 2 and "cannot be used" in said[0]["reason"], logs
            async with connected(server.http_port, client_context()) as (_, writer):
                assert shown_certificate(writer) == old
        put_in_place(second, files)
        server.reload_certificates()
        async with connected(server.http_port, client_context()) as (_, writer):
            assert shown_certificate(writer) == der_of(second)


async def test_callers_show_a_certificate_of_an_authority_of_now(tmp_path: Path, files: TlsFiles) -> None:
    """An authority that is taken away counts no longer, not even for those who were here before."""
    known, other = certificate(tmp_path, "known"), certificate(tmp_path, "other")
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(known.certificate.read_bytes())
    async with serving(tmp_path, files, http_tls_ca=authorities, dicom_tls_ca=authorities) as server:
        welcome, stranger = client_context(identity=known), client_context(identity=other)
        assert not await refused(server.http_port, welcome)
        assert await refused(server.http_port, stranger)
        assert await refused(server.http_port, client_context())
        authorities.write_bytes(other.certificate.read_bytes())
        server.reload_certificates()
        assert await refused(server.http_port, welcome)
        assert not await refused(server.http_port, stranger)


async def test_no_start_with_a_certificate_that_is_none(tmp_path: Path, files: TlsFiles) -> None:
    files.certificate.write_text("no certificate")
    with pytest.raises(InvalidInput, match="cannot be used"):
        async with serving(tmp_path, files):
            pass


def resumed(port: int, context: ssl.SSLContext) -> bool:
    """Whether a second connection goes on with the session of a first."""
    session = None
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, session=session) as wrapped,
        ):
            wrapped.sendall(GET)
            wrapped.recv(1)  # whatever it is: TLS 1.3's tickets come with it
            session, again = wrapped.session, wrapped.session_reused
    return bool(again)


async def test_who_shows_a_certificate_shows_it_each_time(tmp_path: Path, files: TlsFiles) -> None:
    """A resumed session would outlive the authority that vouched for it."""
    known = certificate(tmp_path, "known")
    asking = {"http_tls_ca": known.certificate}
    context = client_context(maximum=TLS13, identity=known)
    async with serving(tmp_path, files, **asking) as server:
        assert not await asyncio.to_thread(resumed, server.http_port, context)
