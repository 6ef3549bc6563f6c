"""``isocenter serve`` as its users start it: a process with a data folder, two ports and nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from services.archive import Image
from services.dicomweb import multipart
from services.processes import Process, ServiceFailed, free_ports
from services.radosgw import S3Account
from services.schema import sqlite_with_schema


def s3_flags(account: S3Account, bucket: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Flags and environment that keep the objects in a bucket."""
    flags = ("--storage-url", f"s3://{bucket}", "--storage-endpoint", account.endpoint)
    region = ("--storage-region", account.region)
    keys = {
        "ISOCENTER_STORAGE_ACCESS_KEY": account.access_key_id,
        "ISOCENTER_STORAGE_SECRET_KEY": account.secret_access_key,
    }
    return (*flags, *region), keys


_FAULT = re.compile(r"Traceback|Error:|Warning:|never awaited|\[(error|critical) *\](?! Cancel)")

_LOADED = "Certificate loaded"


class Isocenter:
    """A running server. ``url`` has no closing slash; DICOMweb is at ``dicom_web_url``."""

    ae_title = "ISOCENTER"

    def __init__(
        self,
        folder: Path,
        *flags: str,
        environ: Mapping[str, str] | None = None,
        data_folder: Path | None = None,
        auth: str = "off",
        migrated: bool = True,
    ) -> None:
        """Not ``migrated``: in an empty folder, as its users start it the first time."""
        folder.mkdir(parents=True, exist_ok=True)
        self.data_folder = data_folder or folder / "data"
        if migrated and "--database-url" not in flags:
            sqlite_with_schema(self.data_folder / "isocenter.db")
        self.http_port, self.dicom_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.dicom_web_url = f"{self.url}/dicom-web"
        self._places = ("--data-dir", str(self.data_folder), "--auth", auth, *flags)
        self._environ = {"PYTHONWARNINGS": "default", **(environ or {})}
        ports = ("--http-port", str(self.http_port), "--dicom-port", str(self.dicom_port))
        limits = ("--min-free-disk", "0")
        command = [sys.executable, "-m", "isocenter", "serve", *self._places, *ports, *limits]
        self.log = folder / "isocenter.log"
        self._process = Process(command, log=self.log, env=self._environ)
        try:
            self._process.wait_until(self._is_ready, "answer to /health/ready")
        except ServiceFailed:
            self._process.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def called(self) -> tuple[str, ...]:
        """What DCMTK's tools need to know of us."""
        return ("-aec", self.ae_title, "127.0.0.1", str(self.dicom_port))

    def run(
        self, *arguments: str | int | Path, timeout_s: float = 60, input_text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Another ``isocenter`` command on the same archive; does not raise for its exit code."""
        words = [str(argument) for argument in arguments]
        return subprocess.run(
            [sys.executable, "-m", "isocenter", *words, *self._places],
            env={**os.environ, **self._environ, "COLUMNS": "200"},
            cwd=self.data_folder,
            input=input_text,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def json(self, path: str) -> Any:
        """What a GET of our own API or of DICOMweb (a path that begins with ``/``) answers."""
        status, body = self.request("GET", path)
        assert status in {200, 204}, (status, body)
        return orjson.loads(body) if body else []

    def found(self, path: str, base: str = "/dicom-web") -> list[dict[str, Any]]:
        """What a search of DICOMweb finds, each attribute as its list of values."""
        matches = self.json(f"{base}{path}")
        return [{tag: one.get("Value", []) for tag, one in match.items()} for match in matches]

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body, whatever the status."""
        request = urllib.request.Request(
            self.url + path, data=body, method=method, headers=dict(headers or {})
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def stored_file(self, image: Image) -> bytes:
        """The object's file as WADO-RS gives it, in the transfer syntax it is kept in."""
        status, body = self.request(
            "GET",
            f"/dicom-web/studies/{image.study}/series/{image.series}/instances/{image.sop}",
            headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
        )
        assert status == 200, body
        content = body.split(b"\r\n\r\n", 1)[1]
        return content[: content.rindex(b"\r\n--")]

    def store(self, images: Sequence[Image]) -> None:
        """By STOW-RS; all of them have to be accepted."""
        body, headers = multipart([image.file for image in images])
        status, answer = self.request("POST", "/dicom-web/studies", body, headers)
        assert status == 200, answer

    def objects(self) -> list[Path]:
        """The files of the objects, where a folder keeps them."""
        return sorted(path for path in (self.data_folder / "objects").glob("*/*/*") if path.is_file())

    def quarantine(self) -> list[dict[str, Any]]:
        """What waits for a person's decision, oldest first."""
        return list(self.json("/api/v1/quarantine?limit=1000")["entries"])

    def terminate(self, timeout_s: float = 10) -> int:
        """SIGTERM; its exit code. Raises ServiceFailed when it has not ended by then."""
        self.ask_to_end()
        return self.ended(timeout_s)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        self._process.wait_until(condition, what)

    def ask_to_end(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def ask_to_reload(self) -> None:
        """SIGHUP: the certificates as they are now. Returns when the log says that they were taken up."""
        before = self.log.read_text().count(_LOADED)
        self._process.send_signal(signal.SIGHUP)
        self._process.wait_until(lambda: self.log.read_text().count(_LOADED) > before, "load certificates")

    def ended(self, timeout_s: float = 10) -> int:
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """At once; it says so when the server wrote of a fault of its own."""
        self._process.stop(timeout_s=0)
        faults = [line for line in self.log.read_text().splitlines() if _FAULT.search(line)]
        assert not faults, faults[:5]

    def _is_ready(self) -> bool:
        try:
            return self.request("GET", "/health/ready")[0] == 200
        except OSError:
            return False


def attribute(match: Mapping[str, Sequence[Any]], tag: str) -> Any:
    """The first value; None where there is none."""
    return next(iter(match.get(tag, ())), None)
