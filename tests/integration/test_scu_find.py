"""Asking peers: what is sent, what comes back, how it ends (dimse/scu)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from dimse_service import MemoryService, serving

from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.dictionary import tag_of
from isocenter.dicom.element import Element
from isocenter.dimse.net.errors import ContextNotAccepted, DimseFailure
from isocenter.dimse.net.service import PendingAnswer
from isocenter.dimse.scu.echo import echo
from isocenter.dimse.scu.finding import Level, Question, find
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.kit.errors import InvalidInput, Unavailable

PATIENT_ROOT, STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
EXPLICIT = "1.2.840.10008.1.2.1"


def peer_at(port: int) -> Peer:
    return Peer("127.0.0.1", port, "PEER", "US")


def question(level: Level, **keys: str) -> Question:
    return Question(level, {tag_of(name): text for name, text in keys.items()})


async def found(port: int, asked: Question) -> list[list[Element]]:
    async with Remotes() as remotes:
        return [match async for match in find(remotes, peer_at(port), asked)]


async def test_echo() -> None:
    service = MemoryService()
    async with serving(service) as server, Remotes() as remotes:
        await echo(remotes, peer_at(server.port))
        await echo(remotes, peer_at(server.port))
    assert len(service.infos) == 2
    assert len(service.requests) == 1  # the association is used again


async def test_what_is_asked_comes_back() -> None:
    """This peer answers with the question."""
    async with serving(MemoryService(matches=2)) as server:
        matches = await found(
            server.port, question(Level.STUDY, PatientName="DOE*", StudyDate="20260101-", StudyID="")
        )
    assert len(matches) == 2
    values = {element.tag: element.value for element in matches[0]}
    assert values == {
        0x00080020: b"20260101- ",
        0x00080052: b"STUDY ",
        0x00100010: b"DOE*",
        0x0020000D: b"",
        0x00200010: b"",
    }


async def test_text_beyond_ascii_says_so() -> None:
    async with serving(MemoryService(matches=1)) as server:
        [match] = await found(server.port, question(Level.PATIENT, PatientName="山田*"))
    values = {element.tag: element.value for element in match}
    assert values[0x00080005] == b"ISO_IR 192"
    assert values[0x00100010] == "山田* ".encode()[: len(values[0x00100010])]


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        (Question(Level.PATIENT, {}), PATIENT_ROOT),
        (Question(Level.STUDY, {}), STUDY_ROOT),
        (Question(Level.SERIES, {}, patient_root=True), PATIENT_ROOT),
    ],
)
async def test_the_model_follows_the_level(asked: Question, model: str) -> None:
    service = MemoryService(matches=0)
    async with serving(service) as server:
        assert await found(server.port, asked) == []
    [(request, _)] = service.requests
    assert [context.abstract_syntax for context in request.contexts] == [model]


def test_numbers_are_encoded_and_nonsense_is_refused() -> None:
    elements = {element.tag: element for element in question(Level.IMAGE, Rows="512").elements()}
    assert elements[0x00280010].value == b"\x00\x02"
    for name, value in (("Rows", "many"), ("ReferencedImageSequence", "1.2.3")):
        with pytest.raises(InvalidInput, match=name):
            question(Level.IMAGE, **{name: value}).elements()


async def test_leaving_early_ends_the_query_at_the_peer() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[PendingAnswer]:
        identifier = b"\x08\0\x52\0CS\x06\0STUDY "
        try:
            while True:
                yield PendingAnswer(identifier)
                await asyncio.sleep(0)
        finally:
            ended.set()

    async with serving(MemoryService(on_find=endless)) as server, Remotes() as remotes:
        count = 0
        async with aclosing(find(remotes, peer_at(server.port), question(Level.STUDY))) as matches:
            async for match in matches:
                assert match == read_dataset(b"\x08\0\x52\0CS\x06\0STUDY ", EXPLICIT)
                count += 1
                if count == 5:
                    break
        async with asyncio.timeout(10):
            await ended.wait()
        await echo(remotes, peer_at(server.port))


async def test_a_failure_is_told_with_the_peers_words() -> None:
    async def fail() -> AsyncIterator[PendingAnswer]:
        raise DimseFailure(0xA700, "database is locked")
        yield

    async with serving(MemoryService(on_find=fail)) as server:
        with pytest.raises(DimseFailure, match=r"A700H.*database is locked"):
            await found(server.port, question(Level.STUDY))


async def test_a_peer_that_cannot_be_asked() -> None:
    class NoQueries(MemoryService):
        async def admit(self, request: Any, peer: Any) -> Any:
            from isocenter.dimse.net.service import Accept
            from isocenter.dimse.protocol.negotiation import negotiate

            return Accept(negotiate(request.contexts, {}))

    async with serving(NoQueries()) as server:
        with pytest.raises(ContextNotAccepted, match=STUDY_ROOT):
            await found(server.port, question(Level.STUDY))


async def test_nobody_there(free_port: int) -> None:
    with pytest.raises(Unavailable, match="no connection"):
        await found(free_port, question(Level.STUDY))
