"""Decoders that crash, loop and eat memory: the one who asked is told why, and the server goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from isocenter.features.archive import transcoded_pieces
from isocenter.platform.workers.pool import WorkerLimits, WorkerPool
from services import worker_functions as work
from services.damaged_images import damaged_file, damaged_frames
from services.dicomweb import HttpServer, http_server
from services.images import Pixels, data_set, file_of

SERIES = "/studies/1.2.3.4.5/series/1.2.3.4.6"
INSTANCE = SERIES + "/instances/1.2.3.4.7.1"
JPEG_LS = "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80"
FAULTS = {
    "work-crashed": work.crashed_by_any,
    "work-timed-out": work.looped_by_any,
    "work-out-of-memory": work.hungry_by_any,
}


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    workers = WorkerPool(2, WorkerLimits(memory_bytes=256 << 20, time_s=1.0))
    async with http_server(tmp_path, workers=workers) as running:
        for number in (1, 2):
            await running.store(file_of(data_set(Pixels(frames=2), number)))
        yield running


@pytest.mark.parametrize("code", FAULTS)
async def test_a_failing_decoder_is_a_406_that_says_so(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    with monkeypatch.context() as planted:
        planted.setattr(transcoded_pieces, "transcode_beginning", FAULTS[code])
        refused = await server.get(INSTANCE, Accept=JPEG_LS)
        assert (refused.status_code, refused.json()["code"]) == (406, code)
        as_stored = await server.get(INSTANCE, Accept="application/dicom; transfer-syntax=*")
        assert as_stored.status_code == 200
        answers = await asyncio.gather(
            *(server.get(INSTANCE, Accept=JPEG_LS) for _ in range(4)), server.get("/studies")
        )
        assert [answer.status_code for answer in answers] == [406] * 4 + [200]
        series = f'multipart/related; type="application/dicom"; {JPEG_LS.partition("; ")[2]}'
        assert (await server.get(SERIES, Accept=series)).status_code == 200, "as they are stored"
    assert (await server.get(INSTANCE, Accept=JPEG_LS)).status_code == 200


async def test_bytes_without_sense_never_make_a_500(server: HttpServer) -> None:
    """Compressed frames cut and turned, in every transfer syntax."""
    for number, (syntax, frame) in enumerate(damaged_frames(), 10):
        await server.store(damaged_file(number, syntax, frame))
        path = f"{SERIES}/instances/1.2.3.4.7.{number}"
        for accept in (JPEG_LS, "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"):
            answer = await server.get(path, Accept=accept)
            assert answer.status_code in {200, 406}, (syntax, answer.text)
        frames = await server.get(path + "/frames/1", Accept="application/octet-stream")
        assert frames.status_code in {200, 406}
        assert (await server.get(path, Accept="application/dicom; transfer-syntax=*")).status_code == 200
