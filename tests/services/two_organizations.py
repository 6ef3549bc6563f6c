"""Two hospitals in one archive whose objects have the same names and other contents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocenter.dicom.levels import Level
from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.query import Query, Search
from isocenter.features.archive.retrieve import find_stored
from isocenter.platform.db import Database
from services.archive import ORGANIZATION, Image, TestArchive, opened

OURS = ORGANIZATION
IMAGE = Image()
THEIR_IMAGE = Image(name="ROE^RICHARD", birth_date="19550505", sex="M", pixels=b"\5\6\7\x08")
"""The same Patient ID, study, series and SOP instance; another person."""

LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)
PATIENT_NAME = 0x00100010


@dataclass
class TwoOrganizations:
    archive: TestArchive
    theirs: int

    @property
    def both(self) -> tuple[int, int]:
        return OURS, self.theirs

    def other(self, organization_id: int) -> int:
        return self.theirs if organization_id == OURS else OURS


@asynccontextmanager
async def two_organizations(url: str, folder: Path, **options: Any) -> AsyncIterator[TwoOrganizations]:
    """Nothing is in it yet."""
    async with opened(url, folder, **options) as archive:
        yield TwoOrganizations(archive, await archive.add_organization("theirs"))


async def fill_both(two: TwoOrganizations) -> None:
    """One object each, under the same UIDs, and one in each quarantine."""
    for organization_id, image in ((OURS, IMAGE), (two.theirs, THEIR_IMAGE)):
        await two.archive.send(image, image.but(sop="1.2.3.9", modality=None), to=organization_id)


async def everything_seen(two: TwoOrganizations, organization_id: int, database: Database) -> list[str]:
    """Whatever the archive's reading use cases give ``organization_id``, as text."""
    seen: list[str] = []
    for level in LEVELS:
        page = await Search(
            database, organization_id, Query(level, {}, frozenset({PATIENT_NAME, 0x00100020}))
        ).page()
        seen += ["\n".join(match.lines) for match in page.matches]
    for scope in ((), (IMAGE.series,), (IMAGE.series, IMAGE.sop)):
        found = await find_stored(database, organization_id, IMAGE.study, *scope)
        seen += [one.object_key for one in found]
    seen += [str(one) for one in await read_changes(database, organization_id)]
    return seen
