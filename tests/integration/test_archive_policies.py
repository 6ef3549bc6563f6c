"""Each organisation's policies: the server's defaults, overlaid with its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.validation import Strictness
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy, Policies, PolicyBook
from isocenter.kit.errors import NotFound
from services.archive import ORGANIZATION, Image, TestArchive, opened
from services.schema import fresh_url

DEFAULTS = Policies()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made


async def test_without_settings_of_its_own_the_servers_count(archive: TestArchive):
    assert await archive.policies.of(ORGANIZATION) == DEFAULTS
    strict = PolicyBook(archive.database, Policies(strictness=Strictness.STRICT), archive.clock)
    assert (await strict.of(ORGANIZATION)).strictness is Strictness.STRICT


async def test_a_change_counts_at_once_and_is_remembered(archive: TestArchive):
    await archive.send_one(Image())
    await archive.policies.change(ORGANIZATION, conflict="replace")
    changed = await archive.policies.change(ORGANIZATION, batch="all-or-nothing")
    assert (changed.conflict, changed.batch) == (ConflictPolicy.REPLACE, BatchPolicy.ALL_OR_NOTHING)
    assert (await archive.send_one(Image(pixels=b"new!"))).kind is OutcomeKind.REPLACED
    assert await PolicyBook(archive.database, DEFAULTS, archive.clock).of(ORGANIZATION) == changed


@pytest.mark.parametrize("wrong", [{"conflict": "overwrite"}, {"strictness": ""}, {"conflicts": "replace"}])
async def test_what_does_not_exist_is_refused_and_nothing_changes(
    archive: TestArchive, wrong: dict[str, Any]
):
    with pytest.raises(ValueError, match=r".+"):
        await archive.policies.change(ORGANIZATION, accept_unknown_sop_classes=True, **wrong)
    assert await PolicyBook(archive.database, DEFAULTS, archive.clock).of(ORGANIZATION) == DEFAULTS


async def test_an_organisation_that_is_not_there(archive: TestArchive):
    with pytest.raises(NotFound):
        await archive.policies.of(7)
    with pytest.raises(NotFound):
        await archive.policies.change(7, conflict="replace")
