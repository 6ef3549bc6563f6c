"""The real server: worker processes that come and go with it, and stored images that it compresses."""

from __future__ import annotations

import io
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from services.dicomweb import multipart
from services.images import Pixels, data_set, file_of
from services.isocenter import Isocenter
from services.transcoding import frames_of, same

INSTANCE = "/dicom-web/studies/1.2.3.4.5/series/1.2.3.4.6/instances/1.2.3.4.7."
JPEG_LS, HTJ2K = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.201"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Isocenter]:
    server = Isocenter(tmp_path)
    yield server
    server.stop()


def store(server: Isocenter, *files: bytes) -> None:
    body, headers = multipart(files)
    status, answer = server.request("POST", "/dicom-web/studies", body, headers)
    assert status == 200, answer


def given(server: Isocenter, number: int, syntax: str) -> pydicom.Dataset:
    headers = {"Accept": f"application/dicom; transfer-syntax={syntax}"}
    status, file = server.request("GET", INSTANCE + str(number), headers=headers)
    assert status == 200, file
    return pydicom.dcmread(io.BytesIO(file))


def workers_of(server: Isocenter) -> set[int]:
    """Processes that the server has started and that live."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[1]) == server.pid:
            found.add(int(folder.name))
    return found


def all_end(processes: list[int], timeout_s: float = 10) -> bool:
    """Whether the processes behind these descriptors end by then."""
    waiting = list(processes)
    while waiting:
        ended, _, _ = select.select(waiting, [], [], timeout_s)
        if not ended:
            return False
        waiting = [one for one in waiting if one not in ended]
    return True


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_workers_come_when_needed_and_end_with_the_server(server: Isocenter, end: signal.Signals) -> None:
    made = data_set(Pixels(frames=2))
    store(server, file_of(made))
    assert workers_of(server) == set()
    assert same(frames_of(given(server, 1, JPEG_LS)), frames_of(made))
    workers = workers_of(server)
    assert 1 <= len(workers) <= 2
    os.kill(next(iter(workers)), signal.SIGKILL)
    assert same(frames_of(given(server, 1, HTJ2K)), frames_of(made))
    living = [os.pidfd_open(number) for number in workers_of(server)]
    assert living
    os.kill(server.pid, end)
    server.ended()
    assert all_end(living)
    for descriptor in living:
        os.close(descriptor)


def test_stored_images_are_compressed_when_that_is_wanted(tmp_path: Path) -> None:
    server = Isocenter(tmp_path, "--store-as", "htj2k", "--sweep-grace-s", "0.1", "--sweep-interval-s", "0.5")
    try:
        made = data_set(Pixels(rows=64, columns=64, frames=2))
        file = file_of(made)
        store(server, file)
        server.wait_until(
            lambda: given(server, 1, "*").file_meta.TransferSyntaxUID == HTJ2K, "compress the image"
        )
        assert same(frames_of(given(server, 1, "*")), frames_of(made))
        assert given(server, 1, "1.2.840.10008.1.2.1").PixelData == made.PixelData
        server.wait_until(lambda: len(server.objects()) == 1, "sweep the original")
        store(server, file)
        checked = server.run("storage", "check", "--json")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert same(frames_of(given(server, 1, "*")), frames_of(made))
    finally:
        server.stop()
