"""An AE title that stands for an organisation's archives is that organisation's alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.sop_classes import STUDY_ROOT_FIND
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import AssociationRejected, ContextNotAccepted, DimseFailure
from isocenter.doors.spanning.workstations import Workstations
from isocenter.features.spanner.configurations import Configurations
from isocenter.features.spanner.entries import Authentication, Configuration, Source, SourceType
from isocenter.features.spanner.sources import Sources
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Conflict, NotFound
from services.archive import CT, Image, TestArchive
from services.schema import fresh_url
from services.scp import EXPLICIT, ScpDoor, identifier, scp_door, store_status
from services.spanning import SEAL, spanning_at

OURS, THEIRS = 1, 7
CLOCK = ManualClock()


def workstations(archive: TestArchive) -> Workstations:
    return spanning_at(archive, CLOCK).workstations


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def door(url: str, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with scp_door(tmp_path, database_url=url, loopback_exempt=False, spanning=workstations) as opened:
        database = opened.archive.database
        await opened.archive.execute("INSERT INTO organization (id, slug, created_at_us) VALUES (7, 'x', 0)")
        await opened.ae_titles.register(OURS, "OURS")
        await opened.ae_titles.register(THEIRS, "THEIRS")
        source = await Sources(database, CLOCK, SEAL).add(THEIRS, Source(0, "own", SourceType.LOCAL))
        configurations = Configurations(database, CLOCK)
        made = await configurations.add(THEIRS, Configuration(0, "all", ae_title="SPAN"))
        await configurations.put_source(THEIRS, made.id, source.id)
        yield opened


async def names(door: ScpDoor, calling: str, called: str) -> list[bytes]:
    contexts = Proposal(STUDY_ROOT_FIND, (EXPLICIT,))
    async with await door.connect(contexts, calling=calling, called=called) as association:
        query = identifier("STUDY", t00100010=b"", t0020000D=b"")
        return [answer async for answer in association.find(STUDY_ROOT_FIND, query)]


async def test_only_its_own_callers_know_it(door: ScpDoor) -> None:
    for calling, image in (("OURS", Image(name="OURS^JANE")), ("THEIRS", Image(name="THEIRS^JOHN"))):
        async with await door.connect(Proposal(CT, (EXPLICIT,)), calling=calling) as association:
            await store_status(association, image)

    [answer] = await names(door, "THEIRS", "SPAN")
    assert b"THEIRS^JOHN" in answer
    assert b"SPAN" in answer  # where to retrieve it
    asked_for = {0x00080005, 0x00080052, 0x00080054, 0x00100010, 0x0020000D}
    assert {one.tag for one in read_dataset(answer, EXPLICIT)} <= asked_for

    with pytest.raises(AssociationRejected) as of_theirs:
        await names(door, "OURS", "SPAN")
    with pytest.raises(AssociationRejected) as of_nobody:
        await names(door, "OURS", "NOBODY")
    assert of_theirs.value.reject == of_nobody.value.reject


async def test_it_takes_no_objects(door: ScpDoor) -> None:
    async with await door.connect(
        Proposal(CT, (EXPLICIT,)), Proposal(STUDY_ROOT_FIND), calling="THEIRS", called="SPAN"
    ) as association:
        with pytest.raises(ContextNotAccepted):
            await association.store(CT, "1.2.3", EXPLICIT, b"")


async def test_a_title_that_is_taken_back_answers_nobody(door: ScpDoor) -> None:
    configurations = Configurations(door.archive.database, CLOCK)
    [configuration] = await configurations.all(THEIRS)
    async with await door.connect(
        Proposal(STUDY_ROOT_FIND, (EXPLICIT,)), calling="THEIRS", called="SPAN"
    ) as association:
        await configurations.remove(THEIRS, configuration.id)
        CLOCK.advance(2)
        with pytest.raises(DimseFailure):
            query = identifier("STUDY", t0020000D=b"")
            assert not [answer async for answer in association.find(STUDY_ROOT_FIND, query)]


async def test_a_title_is_given_once_and_what_is_another_organisation_s_does_not_exist(door: ScpDoor) -> None:
    database = door.archive.database
    configurations, sources = Configurations(database, CLOCK), Sources(database, CLOCK, SEAL)
    with pytest.raises(Conflict) as taken:
        await configurations.add(OURS, Configuration(0, "mine", ae_title="SPAN"))
    assert taken.value.code == "ae-title-taken"
    mine = await configurations.add(OURS, Configuration(0, "mine"))
    with pytest.raises(Conflict):
        await configurations.change(OURS, Configuration(mine.id, "mine", ae_title="SPAN"))

    [theirs], [source] = await configurations.all(THEIRS), await sources.all(THEIRS)
    for attempt in (
        configurations.get(OURS, theirs.id),
        configurations.remove(OURS, theirs.id),
        configurations.put_source(OURS, mine.id, source.id),
        configurations.remove_source(OURS, theirs.id, source.id),
        configurations.change(OURS, Configuration(theirs.id, "stolen")),
        sources.get(OURS, source.id),
        sources.remove(OURS, source.id),
        sources.change(OURS, Source(source.id, "stolen", SourceType.LOCAL), keep_secret=False),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert [one.name for one in await configurations.all(THEIRS)] == ["all"]


async def test_secrets_are_sealed_and_go_nowhere_else(door: ScpDoor) -> None:
    sources = Sources(door.archive.database, CLOCK, SEAL)
    wanted = Source(
        0,
        "web",
        SourceType.DICOMWEB,
        url="https://pacs.example/dicom-web",
        authentication=Authentication.BEARER,
        secret="s3cret",
    )
    made = await sources.add(OURS, wanted)
    assert "s3cret" not in made.secret
    assert sources.secret_of(OURS, made) == "s3cret"
    with pytest.raises(Exception, match="installation key"):
        sources.secret_of(THEIRS, made)  # bound to its row

    elsewhere = replace(made, url="https://evil.example", secret="")
    with pytest.raises(Conflict) as caught:
        await sources.change(OURS, elsewhere, keep_secret=True)
    assert caught.value.code == "secret-for-elsewhere"
    renamed = await sources.change(OURS, replace(made, name="renamed", secret=""), keep_secret=True)
    assert sources.secret_of(OURS, renamed) == "s3cret"
    assert renamed.version == 2
