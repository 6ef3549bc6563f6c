"""kill -9 while studies are deleted, restored and purged: nothing is lost but what somebody purged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.deletion.restoring import Restoring
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.killed import Zygote
from services.schema import fresh_url

IMAGES = [
    Image(study=f"1.{n}", series=f"1.{n}.1", sop=f"1.{n}.1.{m}", pixels=bytes([n, m]) * 2)
    for n in range(2)
    for m in range(3)
]
DOINGS = (("delete", "1.0"), ("restore",), ("delete", "1.1"), ("restore",), ("delete", "1.0"), ("purge",))
STEPS = {
    "sqlite": {
        "write": (1, 2, 4, 5, 6, 9, 12),
        "INSERT": (1, 2, 3, 7),
        "DELETE": (1, 2, 3, 5, 8),
        "COMMIT": (1, 3, 5, 8, 11, 14, 18),
        "put": (1, 2, 5),
        "answer": (1, 4),
    },
    "postgresql": {"pg-write": (1, 3, 6, 9, 12, 14), "pg-drive": (2, 6, 12, 18, 24, 28), "put": (1, 4)},
}
"""At which call of each step the process dies."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


async def there(archive: TestArchive, table: str) -> set[str]:
    return {row["sop_instance_uid"] for row in await archive.rows(f"SELECT sop_instance_uid FROM {table}")}


async def restore_all(archive: TestArchive) -> None:
    deletions = Deletions(archive.database, archive.clock)
    restoring = Restoring(archive.database, archive.ingest, archive.clock)
    for waiting in await deletions.list(ORGANIZATION):
        assert (await restoring.restore(ORGANIZATION, waiting.id)).complete


@pytest.mark.parametrize("kind", STEPS)
async def test_killed_while_studies_are_deleted_restored_and_purged(
    request: pytest.FixtureRequest, tmp_path: Path, zygote: Zygote, kind: str
) -> None:
    deaths = [
        (at, moment, nth) for at in STEPS[kind] for moment in ("before", "after") for nth in STEPS[kind][at]
    ]
    everything, reached = {image.sop for image in IMAGES}, set()
    with fresh_url(request, kind, tmp_path) as url:
        async with opened(url, tmp_path) as archive:
            await archive.send(*IMAGES)
        for at, moment, nth in deaths:
            order = {"url": url, "folder": str(tmp_path), "deletions": DOINGS}
            life = zygote.live(**order, point=at, moment=moment, nth=nth)
            done = len(life.acknowledged)
            assert life.killed or done == len(DOINGS), (at, moment, nth)
            async with opened(url, tmp_path) as archive:
                assert await broken_promises(archive) == [], (at, moment, nth)
                await archive.sweep(timedelta(seconds=-5)).run()
                assert await broken_promises(archive) == [], (at, moment, nth)
                indexed, waiting = await there(archive, "instance"), await there(archive, "deleted_object")
                if done < len(DOINGS) - 1:
                    assert indexed | waiting == everything, (at, moment, nth)
                assert indexed | waiting >= {image.sop for image in IMAGES if image.study == "1.1"}
                await restore_all(archive)
                assert await there(archive, "instance") == indexed | waiting
                assert await broken_promises(archive) == [], (at, moment, nth)
                reached.add(done)
                await archive.send(*IMAGES)
    assert len(reached) >= 4, "it died at different moments"
