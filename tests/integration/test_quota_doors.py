"""A full quota at every door: the standard's failure, a sentence, and the peer may go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from isocenter.cli.doctor import quotas
from isocenter.cli.doctor.findings import Verdict
from isocenter.dimse.net.client import Proposal
from isocenter.features.archive.holdings import Holdings
from isocenter.kit.sizes import format_bytes
from isocenter.platform.settings import Settings
from services.archive import CT, EXPLICIT, ORGANIZATION, Image, TestArchive, delete_for_good, opened
from services.command_line import Cli
from services.dicomweb import http_server
from services.schema import fresh_url, sqlite_with_schema
from services.scp import scp_door, store_status

IMAGES = [Image(sop=f"1.2.3.1.1.{n}", study=f"1.2.{n}") for n in range(1, 6)]
OUT_OF_RESOURCES = 0xA700


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


async def used_bytes(archive: TestArchive) -> int:
    return (await Holdings(archive.database, archive.clock).of(ORGANIZATION)).bytes


async def test_c_store_is_out_of_resources_and_the_association_lives_on(url: str, tmp_path: Path) -> None:
    async with scp_door(tmp_path, database_url=url) as door:
        archive = door.archive
        async with await door.connect(Proposal(CT, (EXPLICIT,))) as association:
            assert await store_status(association, IMAGES[0]) == 0
            size = await used_bytes(archive)
            await archive.policies.change(ORGANIZATION, quota_bytes=2 * size)
            sent = [await store_status(association, image) for image in IMAGES[:4]]
            assert sent == [0, 0, OUT_OF_RESOURCES, OUT_OF_RESOURCES]
            assert await used_bytes(archive) == 2 * size
            assert len(await archive.keys()) == 2, "nothing half stored"
            await delete_for_good(archive.database, archive.clock, ORGANIZATION, IMAGES[0].study)
            assert await store_status(association, IMAGES[4]) == 0


async def test_stow_is_507_and_stores_nothing_of_the_request(url: str, tmp_path: Path) -> None:
    async with http_server(tmp_path, database_url=url) as server:
        archive = server.archive
        assert (await server.store(IMAGES[0])).status_code == 200
        await archive.policies.change(ORGANIZATION, quota_bytes=2 * await used_bytes(archive))
        refused = await server.store(*IMAGES[1:4])
        assert refused.status_code == 507
        assert refused.headers["content-type"] == "application/problem+json"
        told = refused.json()
        assert (told["code"], told["title"]) == ("quota-reached", "Insufficient Storage")
        assert "quota" in told["detail"] and told["remedy"]
        assert "retry-after" not in refused.headers
        assert len(await server.found("/studies")) == 1
        assert (await server.store(IMAGES[0], IMAGES[1])).status_code == 200
        assert (await server.store(IMAGES[2])).status_code == 507


# --- the command line -----------------------------------------------------------------------------------


async def test_import_stops_with_a_sentence(tmp_path: Path) -> None:
    isocenter = Cli(sqlite_with_schema(tmp_path / "archive.db"), tmp_path)
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        (folder / f"{number}.dcm").write_bytes(image.file)
    size = len(IMAGES[0].file)
    told = await isocenter("org", "set", "default", f"quota_bytes={2 * size}")
    assert f"It keeps 0 objects, 0 B: 0.0 % of its quota of {2 * size} B." in told
    said = await isocenter("import", folder, status=1)
    assert f"Over the organisation's quota of {2 * size} B:" in said
    assert "Delete what is no longer needed" in said
    shown = orjson.loads(await isocenter("org", "show", "default", "--json"))
    assert shown["usage"] == {"objects": 2, "bytes": 2 * size, "percent_of_quota": 100.0}
    assert "100.0 % of its quota" in await isocenter("org", "show", "default")
    await isocenter("org", "set", "default", "quota_bytes=1GB")
    said = await isocenter("import", folder)
    assert "2  duplicate" in said and "3  stored" in said
    without = await isocenter("org", "set", "default", "quota_bytes=")
    assert f"It keeps 5 objects, {5 * size / 1024:.1f} KB." in without


async def test_the_storage_check_tells_and_mends_a_miscount(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path) as archive:
        await archive.send(*IMAGES)
        await archive.execute("UPDATE archive_total SET objects = objects - 2, bytes = bytes + 5")
        isocenter = Cli(url, tmp_path)
        told = await isocenter("storage", "check", status=1)
        assert "The count of what is kept is off by -2 objects and +5 bytes. --repair counts again." in told
        await isocenter("storage", "check", "--repair", status=1)
        assert "Index and store agree" in await isocenter("storage", "check")


async def test_the_doctor_says_whose_quota_is_nearly_used_up(url: str, tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "database_url": url})

    async def findings() -> list[tuple[Verdict, str, str]]:
        found = await asyncio.to_thread(lambda: list(quotas.quotas(settings)))
        return [(one.verdict, one.says, one.remedy) for one in found]

    async with opened(url, tmp_path) as archive:
        theirs = await archive.add_organization("st-marys")
        await archive.send(*IMAGES)
        await archive.send(*IMAGES[:2], to=theirs)
        assert await findings() == [], "silent where nobody has one"
        size = len(IMAGES[0].file)
        await archive.policies.change(ORGANIZATION, quota_bytes=10 * size)
        await archive.policies.change(theirs, quota_bytes=10 * size)
        [good] = await findings()
        assert good == (
            Verdict.GOOD,
            f"The fullest: default uses 50.0 % of its {format_bytes(10 * size)}.",
            "",
        )
        await archive.policies.change(theirs, quota_bytes=2 * size)
        [bad] = await findings()
        assert bad[0] is Verdict.BAD
        assert bad[1] == f"st-marys uses 100.0 % of its {2 * size} B. At 100 % its senders are refused."
        assert "isocenter org set st-marys quota_bytes=" in bad[2]


def test_the_doctor_makes_no_database(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path})
    assert list(quotas.quotas(settings)) == []
    assert list(tmp_path.iterdir()) == []
    away = Settings.model_validate(
        {"data_dir": tmp_path, "database_url": "postgresql://nobody@127.0.0.1:9/x"}
    )
    assert list(quotas.quotas(away)) == []
