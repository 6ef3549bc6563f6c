"""Fetching from other archives: C-MOVE and C-GET as SCU, against our own SCP and against odd ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.sop_classes import is_storage_sop_class
from isocenter.dimse.net.client import CONTEXTS_MAX
from isocenter.dimse.net.errors import ContextNotAccepted, DimseFailure
from isocenter.dimse.net.service import AssociationInfo, SubOperations
from isocenter.dimse.scu.finding import Level
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.dimse.scu.retrieving import (
    COMMON_SOP_CLASSES,
    Progress,
    Wanted,
    get,
    move,
    storage_contexts,
)
from isocenter.doors.scp.receiving import Fetched
from isocenter.features.archive.entry import OutcomeKind
from isocenter.kit.errors import InvalidInput
from services.archive import CT, ORGANIZATION, opened
from services.retrieving import SR, Receiver, images, receiving
from services.schema import sqlite_with_schema
from services.scp import ScpDoor, scp_door

STUDY, SERIES = 0x0020000D, 0x0020000E
JPEG = "1.2.840.10008.1.2.4.50"
SOME = images(4, series=2)
ONE_STUDY = Wanted(Level.STUDY, {STUDY: "1.5.1"})


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[ScpDoor]:
    """Another archive."""
    folder = tmp_path / "there"
    folder.mkdir()
    async with scp_door(folder) as door:
        await door.archive.send(*SOME, *images(1, study=2, sop_class=SR, modality="SR"))
        yield door


def peer(port: int, **more: Any) -> Peer:
    return Peer("127.0.0.1", port, "ISOCENTER", "US", **more)


async def last(progress: AsyncIterator[Progress]) -> Progress:
    return [one async for one in progress][-1]


@pytest.mark.parametrize("window", [1, 8])
async def test_get_into_our_own_archive(there: ScpDoor, tmp_path: Path, window: int) -> None:
    async with (
        opened(sqlite_with_schema(tmp_path / "here.db"), tmp_path / "here") as here,
        Remotes() as remotes,
    ):
        fetched = Fetched(here.ingest, ORGANIZATION, "ISOCENTER")
        system = peer(there.port, operations_max=window)
        for wanted, count in (
            (Wanted(Level.SERIES, {STUDY: "1.5.1", SERIES: "1.5.1.2"}), 4),
            (ONE_STUDY, 8),
            (Wanted(Level.STUDY, {STUDY: "1.5.1\\1.5.2"}), 9),
            (Wanted(Level.PATIENT, {0x00100020: "P1"}), 8),
            (Wanted(Level.STUDY, {STUDY: "1.5.9"}), 0),
        ):
            ended = await last(get(remotes, system, wanted, fetched.receive))
            assert (ended.status, ended.completed, ended.failed) == (0, count, 0)
            assert ended.complete and ended.over
        assert fetched.outcomes == {OutcomeKind.STORED: 9, OutcomeKind.DUPLICATE: 20}
        assert fetched.studies["1.5.2"] == {"stored": 1}
        rows = await here.rows("SELECT sop_instance_uid, sha256, door, peer FROM instance ORDER BY id")
        assert {row["sop_instance_uid"]: row["sha256"] for row in rows if row["sha256"]} == {
            image.sop: image.sha256 for image in [*SOME, *images(1, study=2, sop_class=SR, modality="SR")]
        }
        assert {(row["door"], row["peer"]) for row in rows} == {("c-get", "ISOCENTER")}


async def test_what_cannot_be_kept_is_told_there_and_here(there: ScpDoor, tmp_path: Path) -> None:
    async with opened(
        sqlite_with_schema(tmp_path / "here.db"), tmp_path / "here", object_bytes_max=450
    ) as here:
        fetched = Fetched(here.ingest, ORGANIZATION, "ISOCENTER")
        async with Remotes() as remotes:
            ended = await last(get(remotes, peer(there.port), ONE_STUDY, fetched.receive))
    assert (ended.status, ended.completed, ended.failed) == (0xA702, 0, 8)
    assert set(ended.failed_uids) == {uid for uid, _ in fetched.failures} == {one.sop for one in SOME}
    assert "larger than" in fetched.failures[0][1]


async def test_only_the_classes_that_were_asked_for(there: ScpDoor) -> None:
    receiver = Receiver()
    wanted = Wanted(Level.STUDY, {STUDY: "1.5.1\\1.5.2"})
    async with Remotes() as remotes:
        ended = await last(get(remotes, peer(there.port), wanted, _into(receiver), sop_classes=[SR]))
        assert (ended.status, ended.completed, ended.failed) == (0xB000, 1, 8)
        assert not ended.complete and ended.comment.startswith("US does not take CT")
        with pytest.raises(InvalidInput):
            await last(get(remotes, peer(there.port), wanted, _into(receiver), sop_classes=[]))


def _into(receiver: Receiver) -> Any:
    return lambda request, syntax: receiver.store(None, request, syntax)  # type: ignore[arg-type]


async def test_move_to_ourselves(there: ScpDoor, tmp_path: Path) -> None:
    here_folder = tmp_path / "here"
    here_folder.mkdir()
    async with scp_door(here_folder) as here, Remotes() as remotes:
        await there.destination("HERE", here.port)
        ended = await last(move(remotes, peer(there.port), ONE_STUDY, "HERE"))
        assert (ended.status, ended.completed) == (0xA702, 0)  # we are called ISOCENTER, and say so
        await there.destination("ISOCENTER", here.port)
        ended = await last(move(remotes, peer(there.port), ONE_STUDY, "ISOCENTER"))
        assert (ended.status, ended.completed, ended.remaining) == (0, 8, None)
        assert await here.archive.one("SELECT count(*) FROM instance") == 8
        ended = await last(move(remotes, peer(there.port), ONE_STUDY, "NOBODY"))
        assert ended.status == 0xA801 and "destination is unknown" in ended.in_words()


async def test_leaving_early_cancels_there(there: ScpDoor) -> None:
    receiver = Receiver()
    async with receiving(receiver) as server, Remotes() as remotes:
        await there.destination("STORE", server.port)
        progress = move(remotes, peer(there.port), ONE_STUDY, "STORE")
        assert (await anext(progress)).remaining == 8
        await progress.aclose()
        ended = await last(move(remotes, peer(there.port), ONE_STUDY, "STORE"))
        assert ended.completed == 8


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(Level.STUDY, {}),
        Wanted(Level.SERIES, {STUDY: "1.5.1"}),
        Wanted(Level.IMAGE, {0x00080018: ""}),
        Wanted(Level.PATIENT, {STUDY: "1.5.1"}),
    ],
)
async def test_a_retrieval_says_which(there: ScpDoor, wanted: Wanted) -> None:
    async with Remotes() as remotes:
        with pytest.raises(InvalidInput):
            await last(move(remotes, peer(there.port), wanted, "HERE"))


class Odd(Receiver):
    """Answers retrievals as it is told to."""

    def __init__(self, *steps: SubOperations | DimseFailure) -> None:
        super().__init__()
        self._steps = steps

    async def move(  # type: ignore[override]
        self,
        association: AssociationInfo,
        request: Any,
        identifier: bytes,
        transfer_syntax: str,
        cancelled: asyncio.Event,
    ) -> AsyncIterator[SubOperations]:
        for step in self._steps:
            if isinstance(step, DimseFailure):
                raise step
            yield step


@pytest.mark.parametrize(
    ("steps", "status", "failed"),
    [
        ([SubOperations(0, 0, 1, failed_identifier=b"\xff\xff\xff")], 0xA702, ()),
        ([SubOperations(0, 1, 1, failed_identifier=b"")], 0xB000, ()),
        ([DimseFailure(0xC001, "no\x1b[31m")], 0xC001, ()),
        ([], 0, ()),
    ],
)
async def test_odd_answers_are_taken_as_they_are(
    steps: list[Any], status: int, failed: tuple[str, ...]
) -> None:
    async with receiving(Odd(*steps)) as server, Remotes() as remotes:
        ended = await last(move(remotes, peer(server.port), ONE_STUDY, "X"))
    assert (ended.status, ended.failed_uids) == (status, failed)


async def test_who_has_no_such_service(there: ScpDoor) -> None:
    await there.ae_titles.register(ORGANIZATION, "US", services=["find"])
    async with Remotes() as remotes:
        with pytest.raises(ContextNotAccepted):
            await last(move(remotes, peer(there.port), ONE_STUDY, "X"))
        with pytest.raises(ContextNotAccepted):
            await last(get(remotes, peer(there.port), ONE_STUDY, _into(Receiver())))


def test_contexts_fit_and_let_the_other_send_what_it_has() -> None:
    assert len(set(COMMON_SOP_CLASSES)) == len(COMMON_SOP_CLASSES) < CONTEXTS_MAX
    assert all(is_storage_sop_class(uid) for uid in COMMON_SOP_CLASSES)
    for count in (1, 2, 5, 8, 20, 63, 64, 100, len(COMMON_SOP_CLASSES), 127):
        classes = [*COMMON_SOP_CLASSES, *(f"1.2.{n}" for n in range(127))][:count]
        contexts = storage_contexts(classes, CONTEXTS_MAX - 1)
        assert len(contexts) <= CONTEXTS_MAX - 1
        for uid in classes:
            offered = [one.transfer_syntaxes for one in contexts if one.abstract_syntax == uid]
            assert offered[0][:2] == ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
            assert JPEG in {syntax for syntaxes in offered for syntax in syntaxes}
    alone = storage_contexts([CT], CONTEXTS_MAX - 1)
    assert (JPEG,) in [one.transfer_syntaxes for one in alone]
    with pytest.raises(InvalidInput):
        storage_contexts([f"1.2.{n}" for n in range(128)], CONTEXTS_MAX - 1)
