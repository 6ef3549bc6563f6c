"""Retrieving from archives whose lines break in the middle: another one stands in, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.doors.spanning.landing import ArchiveKeeper
from isocenter.doors.spanning.own_archive import OwnArchive
from isocenter.features.archive.retrieve import StoredInstance, stream_bytes
from isocenter.features.spanner.adapters import Adapter
from isocenter.features.spanner.configurations import SetUp
from isocenter.features.spanner.dicomweb_adapter import DicomwebAdapter
from isocenter.features.spanner.dimse_adapter import DimseAdapter
from isocenter.features.spanner.entries import Configuration, Limits, Mapped, Quirks, Source, SourceType
from isocenter.features.spanner.retrieval.keeping import Landing
from isocenter.features.spanner.retrieval.orders import Order
from isocenter.features.spanner.retrieval.service import Retrievals
from isocenter.features.spanner.retrieval.under_way import Retrieval, RetrievalIncomplete
from isocenter.features.spanner.retrieval.wanted import Wanted
from isocenter.features.spanner.service import Spanner
from isocenter.kit.clock import SystemClock
from isocenter.kit.errors import OutOfSpace, Unavailable
from services.archive import Image, TestArchive, opened
from services.broken_line import BrokenLine
from services.orthanc import Orthanc
from services.schema import fresh_url
from services.series import new_series

ORGANIZATION = 1
LONG_S = 60.0
COUNT, PIXELS = 12, 100_000
ENOUGH_BYTES = COUNT // 2 * PIXELS
"""For half of the objects to come, and for the questions before."""


class Enterprise:
    """Orthanc several times, each by a line of its own; the first is asked first."""

    def __init__(self, archive: TestArchive, orthanc: Orthanc) -> None:
        self.archive = archive
        self.orthanc = orthanc
        self.configuration = Configuration(1, "all", timeout_seconds=3.0, cache_seconds=0)
        self.sources: list[Source] = []
        self.remotes = Remotes()
        self.spanner = Spanner(self, self._adapter, SystemClock())  # type: ignore[arg-type]
        keeper = ArchiveKeeper(archive.database, archive.ingest, archive.leaving)
        self.retrievals = Retrievals(self.spanner, keeper, SystemClock(), silence_s_min=0.5)

    def add(self, way: str, port: int = 0, **fields: Any) -> Source:
        number = len(self.sources) + 1
        kind = {"web": SourceType.DICOMWEB, "own": SourceType.LOCAL}.get(way, SourceType.DIMSE)
        web = f"http://127.0.0.1:{port or self.orthanc.dicom_web_url.split(':')[2].split('/')[0]}/dicom-web"
        source = Source(
            number,
            f"{way} {number}",
            kind,
            host="127.0.0.1",
            port=port or self.orthanc.dicom_port,
            ae_title=self.orthanc.ae_title,
            url=web,
            limits=Limits(at_once=2),
            quirks=Quirks(escapes=False),
            **fields,
        )
        self.sources.append(source)
        return source

    async def get(self, organization_id: int, config_id: int) -> SetUp:
        mapped = [Mapped(source, priority) for priority, source in enumerate(self.sources, 1)]
        return SetUp(self.configuration, tuple(mapped))

    def _adapter(self, organization_id: int, source: Source) -> Adapter:
        match source.type:
            case SourceType.LOCAL:
                return OwnArchive(self.archive.database, organization_id)
            case SourceType.DICOMWEB:
                return DicomwebAdapter(source, "", None)
            case _:
                peer = Peer(source.host, source.port, source.ae_title, "US", associations_max=2)
                return DimseAdapter(self.remotes, peer, source.quirks)

    async def begin(self, images: list[Image]) -> Retrieval[StoredInstance]:
        return await self.retrievals.begin(ORGANIZATION, 1, Wanted(images[0].study))

    async def retrieve(self, images: list[Image]) -> list[StoredInstance]:
        async with asyncio.timeout(LONG_S):
            retrieval = await self.begin(images)
            with retrieval.attending():
                return await retrieval.settled()

    async def close(self) -> None:
        self.retrievals.close()
        await self.spanner.close()
        await self.remotes.close()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, "sqlite", tmp_path) as found:
        yield found


@pytest.fixture
async def enterprise(url: str, tmp_path: Path, orthanc: Orthanc) -> AsyncIterator[Enterprise]:
    async with opened(url, tmp_path) as archive:
        made = Enterprise(archive, orthanc)
        yield made
        await made.close()


@pytest.fixture
def study(orthanc: Orthanc) -> list[Image]:
    images = new_series(COUNT, name="BROKEN^LINE", pixels=PIXELS)
    for image in images:
        orthanc.request("POST", "/instances", image.file)
    return images


async def content(enterprise: Enterprise, one: StoredInstance) -> bytes:
    pieces = stream_bytes(enterprise.archive.store, one, one.header_size)
    return b"".join([piece async for piece in pieces])


async def check(enterprise: Enterprise, images: list[Image], held: list[StoredInstance]) -> None:
    """All of it is there, each object once and as it was."""
    by_uid = {image.sop: image for image in images}
    assert sorted(one.sop_instance_uid for one in held) == sorted(by_uid)
    for one in held:
        assert by_uid[one.sop_instance_uid].pixels in await content(enterprise, one)


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
@pytest.mark.parametrize("way", ["web", "get"])
async def test_another_stands_in(enterprise: Enterprise, study: list[Image], way: str, silent: bool) -> None:
    server_port = (
        int(enterprise.orthanc.dicom_web_url.split(":")[2].split("/")[0])
        if way == "web"
        else enterprise.orthanc.dicom_port
    )
    async with BrokenLine(server_port, ENOUGH_BYTES, silent=silent).standing() as line:
        broken = enterprise.add(way, line.port)
        whole = enterprise.add("get" if way == "web" else "web")
        held = await enterprise.retrieve(study)
    await check(enterprise, study, held)
    given = enterprise.spanner.measures.objects
    assert given[ORGANIZATION, broken.id] > 0
    assert given[ORGANIZATION, whole.id] > 0
    assert sum(given.values()) == COUNT


async def test_nobody_stands_in(enterprise: Enterprise, study: list[Image]) -> None:
    """What has come is at hand for who asks again, which the sources are then not asked for."""
    async with BrokenLine(enterprise.orthanc.dicom_port, ENOUGH_BYTES).standing() as line:
        enterprise.add("get", line.port)
        with pytest.raises(RetrievalIncomplete) as caught:
            await enterprise.retrieve(study)
    assert "get 1" in caught.value.detail
    came = sum(enterprise.spanner.measures.objects.values())
    assert 0 < came < COUNT
    enterprise.sources[0] = replace(enterprise.sources[0], port=enterprise.orthanc.dicom_port, version=2)
    enterprise.spanner.forget(ORGANIZATION)
    await check(enterprise, study, await enterprise.retrieve(study))
    assert sum(enterprise.spanner.measures.objects.values()) == COUNT


@pytest.mark.parametrize("keep", [False, True], ids=["passed on", "kept"])
async def test_what_came_is_given_where_its_source_does_not_answer_any_more(
    enterprise: Enterprise, study: list[Image], keep: bool
) -> None:
    enterprise.configuration = replace(enterprise.configuration, keep_retrieved=keep)
    await enterprise.archive.send(*study[:3])
    enterprise.add("own")
    async with BrokenLine(enterprise.orthanc.dicom_port, 1 << 30).standing() as line:
        enterprise.add("get", line.port)
        await check(enterprise, study, await enterprise.retrieve(study))
    retrieval = await enterprise.begin(study)
    assert [one.is_missing for one in retrieval.outcomes] == [False, True]
    with retrieval.attending():
        await check(enterprise, study, await retrieval.settled())


async def test_what_came_as_another_patients_is_forgotten(enterprise: Enterprise, study: list[Image]) -> None:
    """The archive that had it does not answer any more, and another one tells of somebody else."""
    async with BrokenLine(enterprise.orthanc.dicom_port, 1 << 30).standing() as line:
        enterprise.add("get", line.port)
        await check(enterprise, study, await enterprise.retrieve(study))
    stranger = study[0].but(sop="1.2.3", name="ANOTHER^ONE", patient_id="OTHER", birth_date="19010101")
    await enterprise.archive.send(stranger)
    enterprise.add("own")
    enterprise.spanner.forget(ORGANIZATION)
    await check(enterprise, [stranger], await enterprise.retrieve(study))


async def test_what_its_source_has_deleted_is_not_given(
    enterprise: Enterprise, study: list[Image], orthanc: Orthanc
) -> None:
    enterprise.add("web")
    await check(enterprise, study, await enterprise.retrieve(study))
    [there] = orthanc.request("POST", "/tools/lookup", study[0].sop.encode())
    orthanc.request("DELETE", there["Path"])
    await check(enterprise, study[1:], await enterprise.retrieve(study))


async def test_who_asks_for_the_same_shares_it(enterprise: Enterprise, study: list[Image]) -> None:
    enterprise.add("web")
    first, second = await asyncio.gather(enterprise.retrieve(study), enterprise.retrieve(study))
    assert [one.object_key for one in first] == [one.object_key for one in second]
    assert sum(enterprise.spanner.measures.objects.values()) == COUNT


async def test_when_nobody_wants_it_any_more_it_ends(enterprise: Enterprise, study: list[Image]) -> None:
    async with BrokenLine(enterprise.orthanc.dicom_port, ENOUGH_BYTES, silent=True).standing() as line:
        enterprise.add("get", line.port)
        retrieval = await enterprise.begin(study)
        with retrieval.attending():
            async for _ in retrieval.batches():
                break
        async with asyncio.timeout(LONG_S):
            with pytest.raises(Unavailable) as ended:
                await retrieval.settled()
    assert ended.value.code == "query-cancelled"


async def test_kept_as_whose_patient_it_is(enterprise: Enterprise, study: list[Image]) -> None:
    """Another archive's Patient ID is not our patient's, whoever has the same."""
    ours = study[0].but(sop="1.2.3", series="1.2", study="1.1", name="OUR^PATIENT", birth_date="19010101")
    await enterprise.archive.send(ours)
    enterprise.add("get")
    enterprise.configuration = replace(enterprise.configuration, keep_retrieved=True)
    await check(enterprise, study, await enterprise.retrieve(study))
    patients = await enterprise.archive.rows("SELECT issuer, patient_id FROM patient ORDER BY issuer")
    assert [one["issuer"] for one in patients] == ["", "get 1"]
    assert await enterprise.archive.one("SELECT count(*) FROM instance") == 1 + COUNT


async def test_not_kept_leaves_no_entry_and_goes_with_the_sweep(
    enterprise: Enterprise, study: list[Image]
) -> None:
    enterprise.add("web")
    await check(enterprise, study, await enterprise.retrieve(study))
    assert await enterprise.archive.one("SELECT count(*) FROM instance") == 0
    assert len(await enterprise.archive.keys()) == COUNT
    await enterprise.archive.sweep().run()
    assert not await enterprise.archive.keys()


async def test_the_archives_copy_of_another_patient_is_not_given(
    enterprise: Enterprise, study: list[Image]
) -> None:
    enterprise.configuration = replace(enterprise.configuration, keep_retrieved=True)
    strangers = [one.but(name="ANOTHER^ONE", patient_id="OTHER", birth_date="19010101") for one in study[:3]]
    await enterprise.archive.send(*strangers)
    enterprise.add("web")
    held = await enterprise.retrieve(study)
    await check(enterprise, study, held)
    for one in held:
        assert b"ANOTHER^ONE" not in await content(enterprise, one)


class Confused(DicomwebAdapter):
    """Gives another study than it is asked for."""

    other = ""

    async def fetch(self, order: Order, landing: Landing) -> None:
        await super().fetch(replace(order, study_uid=self.other, series_uids=(), instance_uids=()), landing)


async def test_another_study_than_was_asked_for_goes_nowhere(
    enterprise: Enterprise, study: list[Image], orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = new_series(2, name="WRONG^STUDY")
    for image in others:
        orthanc.request("POST", "/instances", image.file)
    enterprise.configuration = replace(enterprise.configuration, keep_retrieved=True)
    source = enterprise.add("web")
    confused = Confused(source, "", None)
    confused.other = others[0].study
    monkeypatch.setattr(enterprise.spanner.adapters, "_make", lambda *_: confused)
    with pytest.raises(RetrievalIncomplete):
        await enterprise.retrieve(study)
    assert not enterprise.spanner.measures.objects
    assert await enterprise.archive.one("SELECT count(*) FROM instance") == 0


async def test_no_room_here_is_no_fault_of_the_source(
    enterprise: Enterprise, study: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OutOfSpace("The disk is full.")

    monkeypatch.setattr(enterprise.archive.spool, "check_room", full)
    enterprise.add("web")
    enterprise.add("get")
    with pytest.raises(OutOfSpace):
        await enterprise.retrieve(study)
    assert all(not enterprise.spanner.turnstile(1, one).record.mishaps for one in enterprise.sources)


async def test_what_may_not_be_kept_is_passed_on(enterprise: Enterprise, orthanc: Orthanc) -> None:
    """It breaks a rule of this organisation's, and is another archive's."""
    images = [one.but(modality=None) for one in new_series(2, name="BREAKS^RULES")]
    for image in images:
        orthanc.request("POST", "/instances", image.file)
    enterprise.configuration = replace(enterprise.configuration, keep_retrieved=True)
    enterprise.add("web")
    await check(enterprise, images, await enterprise.retrieve(images))
    assert await enterprise.archive.one("SELECT count(*) FROM instance") == 0
    assert await enterprise.archive.one("SELECT count(*) FROM quarantine") == 0
