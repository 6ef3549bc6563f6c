"""Sending objects: retries, peers with limits, what is rewritten and what is not (dimse/scu)."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from dimse_service import MemoryService, serving

from isocenter.dicom.storage_sop_classes import STORAGE_SOP_CLASSES
from isocenter.dimse.net.server import DimseServer
from isocenter.dimse.net.service import Accept, Answer, Reject
from isocenter.dimse.protocol import rejections
from isocenter.dimse.protocol.negotiation import SupportedSyntax, negotiate
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.dimse.scu.sending import SendObjects, SendOutcome, SendPolicy, Sent
from isocenter.kit.errors import InternalError
from services.archive import CT, EXPLICIT
from services.series import new_series

IMPLICIT = "1.2.840.10008.1.2"
JPEG_2000 = "1.2.840.10008.1.2.4.90"


@dataclass
class Pauses:
    """Counts what a sender would have waited."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


class Failing(MemoryService):
    """Answers with one status after the other; the last one stays."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self._statuses = list(statuses)
        self.on_finish = self._next

    async def _next(self, sink: Any) -> None:
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        self.store_answer = Answer(status, "disk full" if status == 0xA700 else "")


class Choosy(MemoryService):
    """Accepts some SOP classes in some transfer syntaxes."""

    def __init__(self, supported: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self._supported = {uid: SupportedSyntax(syntaxes) for uid, syntaxes in supported.items()}

    async def admit(self, request: Any, peer: Any) -> Accept:
        self.requests.append((request, peer))
        return Accept(negotiate(request.contexts, self._supported))


def outgoing(count: int = 1, **changes: Any) -> list[OutgoingObject]:
    return [
        OutgoingObject(
            CT, image.sop, EXPLICIT, lambda image=image: image.data_set, len(image.data_set), image.sop
        )
        for image in new_series(count, **changes)
    ]


def like(one: OutgoingObject, **changes: Any) -> OutgoingObject:
    fields = {name: getattr(one, name) for name in OutgoingObject.__slots__}
    return OutgoingObject(**{**fields, **changes})


def peer_at(port: int, **more: Any) -> Peer:
    return Peer("127.0.0.1", port, "PEER", "US", **more)


async def sent_to(
    server: DimseServer | int,
    objects: list[OutgoingObject],
    *,
    pauses: Callable[[float], Awaitable[None]] | None = None,
    associations: int = 1,
    **peer: Any,
) -> list[Sent]:
    port = server if isinstance(server, int) else server.port
    told: list[Sent] = []
    async with Remotes(associations_max=associations) as remotes:
        policy = SendPolicy(pause=pauses or Pauses())
        sending = SendObjects(remotes, peer_at(port, **peer), associations=associations, policy=policy)
        await sending.run(objects, told.append)
    assert {sent.object.sop_instance_uid for sent in told} == {one.sop_instance_uid for one in objects}
    assert len(told) == len(objects)
    return told


async def test_everything_arrives_in_order_on_one_association() -> None:
    service, objects = MemoryService(), outgoing(20)
    async with serving(service) as server:
        told = await sent_to(server, objects)
    assert [sent.outcome for sent in told] == [SendOutcome.STORED] * 20
    assert [one.data for one in service.stored] == [one.body() for one in objects]
    assert len(service.requests) == 1


async def test_out_of_resources_is_tried_again() -> None:
    service, pauses = Failing(0xA700, 0xA701, 0x0000), Pauses()
    async with serving(service) as server:
        [sent] = await sent_to(server, outgoing(), pauses=pauses)
    assert (sent.outcome, sent.attempts) == (SendOutcome.STORED, 3)
    assert pauses.seconds == [1, 2]


async def test_but_not_for_ever() -> None:
    service, pauses = Failing(0xA700), Pauses()
    async with serving(service) as server:
        [sent] = await sent_to(server, outgoing(), pauses=pauses)
    assert (sent.outcome, sent.status, sent.attempts) == (SendOutcome.REFUSED, 0xA700, 4)
    assert sent.says == "A700H, failure: out of resources (disk full)"
    assert pauses.seconds == [1, 2, 4]


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0111, 0x0122])
async def test_other_failures_are_final(status: int) -> None:
    pauses = Pauses()
    async with serving(Failing(status, 0x0000)) as server:
        told = await sent_to(server, outgoing(2), pauses=pauses)
    assert [sent.outcome for sent in told] == [SendOutcome.REFUSED, SendOutcome.STORED]
    assert (told[0].status, told[0].attempts, pauses.seconds) == (status, 1, [])


async def test_a_warning_is_told_and_has_arrived() -> None:
    async with serving(Failing(0xB000)) as server:
        [sent] = await sent_to(server, outgoing())
    assert (sent.outcome, sent.status) == (SendOutcome.WARNING, 0xB000)
    assert sent.outcome.arrived and "coerced" in sent.says


@contextlib.asynccontextmanager
async def cutting(port: int, *limits: int) -> AsyncIterator[int]:
    """A port that leads to ``port``; the first connections are cut after so many bytes each."""
    remaining = list(limits)
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        passed = 0
        while data := await reader.read(1 << 14):
            passed += len(data)
            if limit is not None and passed > limit:
                break
            writer.write(data)
            await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limit = remaining.pop(0) if remaining else None
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        both = (pipe(reader, there_writer, limit), pipe(there_reader, writer, None))
        tasks.update(pipes := [asyncio.create_task(one) for one in both])
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, there_writer):
            one.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_cut_connection_is_opened_again_and_the_object_sent_again() -> None:
    service, pauses, objects = MemoryService(), Pauses(), outgoing(6, pixels=40_000)
    async with serving(service) as server, cutting(server.port, 100_000, 60_000) as port:
        told = await sent_to(port, objects, pauses=pauses)
    assert {sent.outcome for sent in told} == {SendOutcome.STORED}
    assert [sent.attempts for sent in told].count(2) == 2
    assert {one.request.affected_sop_instance_uid for one in service.stored} == {
        one.sop_instance_uid for one in objects
    }


async def test_an_object_that_breaks_every_association_does_not_stop_the_others() -> None:
    service, objects = MemoryService(), outgoing(3)

    async def hang_up() -> AsyncIterator[bytes]:
        yield b"\x08\0\x05\0"
        raise InternalError("The object is missing from the store.")

    objects[1] = like(objects[1], body=hang_up)
    async with serving(service) as server:
        told = await sent_to(server, objects)
    outcomes = {sent.object.sop_instance_uid: sent for sent in told}
    broken = outcomes.pop(objects[1].sop_instance_uid)
    assert (broken.outcome, broken.says) == (SendOutcome.FAILED, "The object is missing from the store.")
    assert {sent.outcome for sent in outcomes.values()} == {SendOutcome.STORED}


async def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    from isocenter.dimse.net.bodies import FileBody

    [one] = outgoing()
    async with serving(MemoryService()) as server:
        [sent] = await sent_to(server, [like(one, body=lambda: FileBody(tmp_path / "gone"))])
    assert (sent.outcome, sent.says) == (SendOutcome.FAILED, "No such file or directory")


async def test_nobody_there_is_said_once_and_at_once(free_port: int) -> None:
    pauses = Pauses()
    told = await sent_to(free_port, outgoing(5), pauses=pauses, associations=3)
    assert {sent.outcome for sent in told} == {SendOutcome.FAILED}
    assert {sent.says.partition(":")[0] for sent in told} == {"no connection to 127.0.0.1"}
    assert pauses.seconds == []


async def test_a_permanent_rejection_stops_a_passing_one_does_not() -> None:
    service, pauses = MemoryService(verdict=rejections.CALLING_AE_TITLE_NOT_RECOGNIZED), Pauses()
    async with serving(service) as server:
        told = await sent_to(server, outgoing(2), pauses=pauses)
        assert len(service.requests) == 1 and pauses.seconds == []
        assert "the calling AE title is not known there" in told[0].says
        service.verdict = rejections.TEMPORARY_CONGESTION

        async def relent(seconds: float) -> None:
            service.verdict = None

        told = await sent_to(server, outgoing(2), pauses=relent)
    assert {sent.outcome for sent in told} == {SendOutcome.STORED}


async def test_a_peer_that_takes_one_association_at_a_time() -> None:
    """The further ones are rejected; that costs neither objects nor time-outs."""

    class One(MemoryService):
        async def admit(self, request: Any, peer: Any) -> Accept | Reject:
            if self.requests:
                self.requests.append((request, peer))
                return rejections.LOCAL_LIMIT_EXCEEDED
            return await super().admit(request, peer)

    service = One()
    async with serving(service) as server:
        told = await sent_to(server, outgoing(30), associations=4)
    assert {sent.outcome for sent in told} == {SendOutcome.STORED}
    assert len(service.requests) > 1


async def test_a_peer_that_lets_the_others_wait() -> None:
    """Nobody answers the second association request: the run ends with the first one's work."""

    class Slow(MemoryService):
        async def admit(self, request: Any, peer: Any) -> Accept | Reject:
            if self.requests:
                await asyncio.get_running_loop().create_future()
            return await super().admit(request, peer)

    service = Slow()
    async with serving(service, grace_s=0) as server, asyncio.timeout(20):
        told = await sent_to(server, outgoing(30), associations=4, association_s=60)
    assert {sent.outcome for sent in told} == {SendOutcome.STORED}


async def test_more_contexts_than_one_association_takes() -> None:
    service, [one] = MemoryService(), outgoing()
    classes = sorted(STORAGE_SOP_CLASSES)[:100]
    syntaxes = (EXPLICIT, JPEG_2000)
    objects = [
        like(one, sop_class_uid=uid, transfer_syntax_uid=syntax, sop_instance_uid=f"1.2.{number}.{index}")
        for number, uid in enumerate(classes)
        for index, syntax in enumerate(syntaxes)
    ]
    async with serving(service) as server:
        told = await sent_to(server, objects)
    assert {sent.outcome for sent in told} == {SendOutcome.STORED}
    assert all(len(request.contexts) <= 128 for request, _ in service.requests)
    assert len(service.requests) == 3  # 300 contexts: implicit VR is offered beside explicit VR
    assert {(one.request.affected_sop_class_uid, one.transfer_syntax) for one in service.stored} == {
        (uid, syntax) for uid in classes for syntax in syntaxes
    }


async def test_what_is_not_accepted_is_said_plainly() -> None:
    mr = "1.2.840.10008.5.1.4.1.1.4"
    [one, other, third] = outgoing(3)
    objects = [one, like(other, transfer_syntax_uid=JPEG_2000), like(third, sop_class_uid=mr)]
    service = Choosy({CT: (EXPLICIT,)})
    async with serving(service) as server:
        told = await sent_to(server, objects)
    says = {sent.object.sop_instance_uid: (sent.outcome, sent.says) for sent in told}
    assert says[one.sop_instance_uid] == (SendOutcome.STORED, "stored")
    assert says[other.sop_instance_uid] == (
        SendOutcome.NOT_ACCEPTED,
        "PEER does not take CT Image Storage encoded as JPEG 2000 Image Compression (Lossless Only)",
    )
    assert says[third.sop_instance_uid] == (
        SendOutcome.NOT_ACCEPTED,
        "PEER does not take MR Image Storage",
    )
    assert len(service.stored) == 1


async def test_explicit_becomes_implicit_where_nothing_else_is_taken() -> None:
    service, [one] = Choosy({CT: (IMPLICIT,)}), outgoing()
    async with serving(service) as server:
        [sent] = await sent_to(server, [one])
    assert (sent.outcome, sent.rewritten_to) == (SendOutcome.STORED, IMPLICIT)
    assert service.stored[0].transfer_syntax == IMPLICIT


async def test_large_objects_are_not_gathered() -> None:
    """The source is never far ahead of what the peer has taken."""
    piece, count = bytes(1 << 20), 64
    produced = received = ahead_max = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal produced, ahead_max
        for _ in range(count):
            produced += len(piece)
            ahead_max = max(ahead_max, produced - received)
            yield piece

    def taken(sink: Any) -> None:
        nonlocal received
        received += len(sink.data)
        sink.data.clear()

    service, [one] = MemoryService(on_write=taken), outgoing()
    async with serving(service) as server:
        [sent] = await sent_to(server, [like(one, body=body, transfer_syntax_uid=JPEG_2000)])
    assert sent.outcome is SendOutcome.STORED
    assert received == count << 20
    assert ahead_max < 16 << 20
