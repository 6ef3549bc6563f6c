"""The two servers that are compared: fresh, durable, on free ports, in folders of their own."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.memory_in_hand import memory_in_hand
from services.orthanc import Orthanc
from services.processes import Process, free_ports

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class IsocenterServer:
    """``isocenter serve`` as a user starts it; what ``Orthanc`` offers, under the same names."""

    ae_title = "ISOCENTER"

    def __init__(self, folder: Path, *flags: str) -> None:
        folder.mkdir()
        http_port, self.dicom_port = free_ports(2)
        self.url = f"http://127.0.0.1:{http_port}"
        self.dicom_web_url = f"{self.url}/dicom-web"
        self.data_dir = folder / "data"
        self.process = Process(
            [
                *(sys.executable, "-m", "isocenter", "serve"),
                *("--data-dir", self.data_dir, "--http-port", str(http_port)),
                *("--dicom-port", str(self.dicom_port), "--auth", "off", *flags),
            ],
            log=folder / "log",
        )
        self.process.wait_until(self._answers, "answer to /health/ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        self.process.stop()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class OrthancServer(Orthanc):
    """Orthanc as Debian ships it; it syncs the storage area and its SQLite index by default."""

    @property
    def pid(self) -> int:
        return self._process.pid


@contextlib.contextmanager
def both_servers(*, nagle: bool = False) -> Iterator[tuple[IsocenterServer, OrthancServer, Path]]:
    """Isocenter, Orthanc and a folder for the bench's own files; all gone at the end.

    DCMTK, in Orthanc as in storescu, leaves Nagle's algorithm on unless TCP_NODELAY=1 is in its environment.
    """
    with tempfile.TemporaryDirectory(prefix="isocenter-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(memory_in_hand(folder))
        ours = IsocenterServer(folder / "isocenter")
        stack.callback(ours.stop)
        with environment(TCP_NODELAY=None if nagle else "1"):
            peer = OrthancServer(folder / "orthanc")
        stack.callback(peer.stop)
        yield ours, peer, folder


@contextlib.contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Variables for the processes started meanwhile; None takes one away."""
    before = dict(os.environ)
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and all its threads have used so far, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """What the process holds in memory now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
