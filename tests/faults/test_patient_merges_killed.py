"""kill -9 in the middle of merging patients (MISSION A1): all of a merge is there, or nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from isocenter.kit.errors import IsocenterError
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.killed import Zygote
from services.schema import fresh_url

MERGES = (
    ("merge", "A", "B"),
    ("merge", "B", "C"),
    ("unmerge", "A"),
    ("unmerge", "B"),
    ("change_id", "C", "N"),
    ("unmerge", "C"),
)
OWNERS = ("AABC", "BBBC", "CCCC", "AACC", "AABC", "AABN", "AABC")
TOLD = (0, 2, 5, 7, 8, 9, 10)
"""Whose the four studies are, and what the change feed told, before the first of `MERGES` and after each."""

STEPS = {
    "sqlite": {
        "write": (1, 5),
        "BEGIN": (2, 6),
        "INSERT": (1, 2, 5),
        "UPDATE": (1, 2, 3, 5, 8, 13),
        "COMMIT": (2, 6),
    },
    "postgresql": {"pg-write": (1, 5), "pg-drive": (2, 5, 8, 11)},
}
"""At which call of each step the process dies."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


async def owners(archive: TestArchive) -> str:
    rows = await archive.rows(
        "SELECT patient_id FROM study JOIN patient ON patient.id = study.patient_pk "
        "ORDER BY study_instance_uid"
    )
    return "".join(row["patient_id"] for row in rows)


async def told(archive: TestArchive) -> int:
    found: int = await archive.one("SELECT count(*) FROM change_feed WHERE kind = 'patient-changed'")
    return found


@pytest.mark.parametrize("kind", STEPS)
async def test_killed_while_patients_are_merged(
    request: pytest.FixtureRequest, tmp_path: Path, zygote: Zygote, kind: str
) -> None:
    deaths = [
        (at, moment, nth) for at in STEPS[kind] for moment in ("before", "after") for nth in STEPS[kind][at]
    ]
    reached = set()
    with fresh_url(request, kind, tmp_path) as url:
        async with opened(url, tmp_path) as archive:
            await archive.send(
                *(
                    Image(patient_id=patient_id, study=f"1.{n}", series=f"1.{n}.1", sop=f"1.{n}.1.1")
                    for n, patient_id in enumerate("AABC")
                )
            )
            before = await told(archive)
        for at, moment, nth in deaths:
            life = zygote.live(url=url, folder=str(tmp_path), merges=MERGES, point=at, moment=moment, nth=nth)
            assert life.killed, (at, moment, nth)
            done = len(life.acknowledged)
            async with opened(url, tmp_path) as archive:
                found = await owners(archive), await told(archive) - before
                allowed = [*zip(OWNERS, TOLD, strict=True)][done : done + 2]
                assert found in allowed, (at, moment, nth, done)
                assert await broken_promises(archive) == [], (at, moment, nth)
                reached.add(done)
                for one in "ABC":
                    with suppress(IsocenterError):
                        await PatientMerges(archive.database, archive.clock).unmerge(
                            ORGANIZATION, PatientIdentity(one)
                        )
                assert await owners(archive) == OWNERS[0]
                assert await broken_promises(archive) == []
                before = await told(archive)
    assert len(reached) >= 3, "it died at different moments"
