"""``isocenter serve`` as a process of its own, to be killed, starved and lied to; senders that keep count.

Every object that these senders make carries the same marked patient. The server's log is searched for the
marks whenever a server ends: a log without patient data is a promise to every test that uses this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from isocenter.dimse.net.client import ClientAssociation, Proposal, connect
from isocenter.dimse.net.errors import AssociationAborted, DimseFailure, DimseTimeout
from services.archive import CT, EXPLICIT, Image
from services.processes import Process, ServiceFailed, free_ports
from services.schema import sqlite_with_schema

AE_TITLE = "ISOCENTER"
MARKED_NAME = "MARKEDNAME^QZXJW"
MARKED_ID = "MARKEDID-QZXJW"
_MARKS = re.compile(rb"(?i)markedname|markedid|qzxjw")
RESIDENT_BYTES_MAX = 500_000_000
CONNECTION_ENDED = (AssociationAborted, DimseTimeout, ConnectionError, asyncio.IncompleteReadError, EOFError)


def image(number: int, *, study: int = 1, pixels: bytes = b"\1\2\3\4", **changes: Any) -> Image:
    """An object of the marked patient; another ``number`` is another SOP Instance UID."""
    return Image(
        sop=f"2.25.9{study}.1.{number}",
        series=f"2.25.9{study}.1",
        study=f"2.25.9{study}",
        patient_id=MARKED_ID,
        name=MARKED_NAME,
        pixels=pixels,
    ).but(**changes)


@dataclass
class AttackedServer:
    """One data folder, and the server processes that live on it one after another, on the same ports."""

    folder: Path
    flags: Sequence[str] = ()
    launcher: Sequence[str | Path] = ()
    """What starts the server's command: ``prlimit …``."""
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.folder / "data"
        if "--database-url" not in self.flags:
            sqlite_with_schema(self.data_dir / "isocenter.db")
        self.log = self.folder / "server.log"
        self.http_port, self.dicom_port = free_ports(2)
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *, ready: bool = True) -> AttackedServer:
        """Returns when it answers; with ``ready``, when it says that all is well."""
        command = [
            *(sys.executable, "-m", "isocenter", "serve", "--data-dir", self.data_dir),
            *("--http-port", str(self.http_port), "--dicom-port", str(self.dicom_port)),
            *("--log-format", "json", "--auth", "off", *self.flags),
        ]
        self.process = Process([*self.launcher, *command], log=self.log, env=self.env)
        path = "/health/ready" if ready else "/health/live"
        self.process.wait_until(lambda: self._answers(path), f"answer to {path}")
        return self

    def kill(self) -> None:
        """As a power cut ends it: no code of ours runs any more."""
        os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ends it if it still runs, and looks at what it logged."""
        if self.process is not None:
            self.process.stop(timeout_s=20)
            self.process = None
        found = _MARKS.search(self.log.read_bytes())
        assert found is None, f"patient data in the log: {self.log_line_at(found.start())}"

    def log_line_at(self, position: int) -> str:
        text = self.log.read_bytes()
        start, end = text.rfind(b"\n", 0, position) + 1, text.find(b"\n", position)
        return text[start:end].decode(errors="replace")

    def events(self) -> list[dict[str, Any]]:
        """The log so far, one dictionary a line; lines of other kinds under ``raw``."""
        found = []
        for line in self.log.read_bytes().splitlines():
            try:
                found.append(dict(orjson.loads(line)))
            except ValueError:
                found.append({"raw": line.decode(errors="replace")})
        return found

    def descriptors(self) -> int:
        """Folders do not count: the store keeps up to 256 of them open on purpose."""
        return sum(not entry.is_dir() for entry in Path(f"/proc/{self.pid}/fd").iterdir())

    def forget_resident_bytes_max(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def resident_bytes_max(self) -> int:
        """The most memory that the process held since it was forgotten, as the kernel kept count of it."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def command(
        self, *arguments: str, launcher: Sequence[str] = (), timeout_s: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Another ``isocenter`` command on the same data folder."""
        return subprocess.run(
            [
                *launcher,
                sys.executable,
                "-m",
                "isocenter",
                *arguments,
                "--data-dir",
                self.data_dir,
                *self.flags,
            ],
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **self.env},
        )

    def checked(self) -> dict[str, Any]:
        """What ``isocenter storage check`` says of the only organisation."""
        done = self.command("storage", "check", "--json")
        assert done.stdout, done.stderr.decode()
        [report] = orjson.loads(done.stdout)["organizations"]
        return dict(report)

    async def associate(self, *proposals: Proposal, **options: Any) -> ClientAssociation:
        return await connect(
            "127.0.0.1",
            self.dicom_port,
            calling_ae_title="ATTACKED",
            called_ae_title=AE_TITLE,
            contexts=proposals or (Proposal(CT, (EXPLICIT,)),),
            **options,
        )

    async def c_store(self, one: Image) -> int:
        """The status that a new association gets for the object."""
        async with await self.associate() as association:
            return await store(association, one)

    async def http(
        self,
        method: str,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] | None = None,
        timeout_s: float = 60,
    ) -> HttpAnswer:
        async with asyncio.timeout(timeout_s):
            return await exchange(self.http_port, method, target, headers or {}, body)

    async def stow(self, *images: Image, timeout_s: float = 60) -> HttpAnswer:
        return await self.http(
            "POST",
            "/dicom-web/studies",
            headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'},
            body=multipart([one.file for one in images]),
            timeout_s=timeout_s,
        )

    def ready(self) -> tuple[int, str]:
        """Status and words of /health/ready; blocks."""
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        """Blocks; the server must live meanwhile."""
        assert self.process is not None
        self.process.wait_until(condition, what, timeout_s)

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextlib.contextmanager
def running(folder: Path, *flags: str, **options: Any) -> Iterator[AttackedServer]:
    server = AttackedServer(folder, flags, **options)
    try:
        yield server.start()
    finally:
        server.stop()


async def store(association: ClientAssociation, one: Image) -> int:
    try:
        return (await association.store(one.sop_class or CT, one.sop, EXPLICIT, one.data_set)).status
    except DimseFailure as failure:
        return failure.status


def multipart(files: Sequence[bytes], boundary: bytes = b"B") -> bytes:
    head = b"--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + file + b"\r\n" for file in files) + b"--" + boundary + b"--\r\n"


@dataclass
class HttpAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


async def exchange(
    port: int, method: str, target: str, headers: dict[str, str], body: bytes | AsyncIterable[bytes] | None
) -> HttpAnswer:
    """One request on a connection of its own. Nothing is checked or escaped: that is what it is for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        lines = {"Host": f"127.0.0.1:{port}", "Connection": "close", **headers}
        if isinstance(body, bytes):
            lines.setdefault("Content-Length", str(len(body)))
        elif body is not None:
            lines["Transfer-Encoding"] = "chunked"
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
        writer.write(head.encode("latin-1") + b"\r\n")
        sending = asyncio.create_task(_send(writer, body))
        try:
            answer = await read_answer(reader, has_body=method != "HEAD")
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return answer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter, body: bytes | AsyncIterable[bytes] | None) -> None:
    """A server may answer before it has heard all: then the rest is not sent."""
    with contextlib.suppress(ConnectionError):
        if isinstance(body, bytes):
            writer.write(body)
        elif body is not None:
            async for piece in body:
                writer.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> HttpAnswer:
    """Raises IncompleteReadError when the connection ends before the answer does."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = b""
    if headers.get("transfer-encoding") == "chunked" and has_body:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    elif has_body:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return HttpAnswer(int(status.split(" ")[1]), headers, body)


__all__ = [
    "AE_TITLE",
    "CONNECTION_ENDED",
    "MARKED_ID",
    "MARKED_NAME",
    "RESIDENT_BYTES_MAX",
    "AttackedServer",
    "HttpAnswer",
    "ServiceFailed",
    "exchange",
    "image",
    "multipart",
    "read_answer",
    "running",
    "store",
]
