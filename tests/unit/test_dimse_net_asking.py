"""Requests against the direction of the association: events reported to who asked, and what hinders it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from dimse_service import CT, EXPLICIT, MemoryService, associate, on_both_loops, serving

from isocenter.dimse.net.bodies import chunks
from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.net.errors import AssociationAborted, DimseFailure, DimseTimeout
from isocenter.dimse.net.service import AskPeer, AssociationInfo, NAnswer
from isocenter.dimse.protocol.messages import NActionRequest, NEventReportRequest

COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
CONTEXTS = [Proposal(COMMITMENT), Proposal(CT, (EXPLICIT,))]


class Reporting(MemoryService):
    """Answers an N-ACTION, and then reports an event over the same association."""

    def __init__(self, then: Callable[[AskPeer], Awaitable[None]] | None = None) -> None:
        super().__init__()
        self.reported: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._then = then or self._report

    async def n_action(
        self, association: AssociationInfo, request: Any, data_set: bytes | None, transfer_syntax: str
    ) -> NAnswer:
        return NAnswer(then=self._then)

    async def _report(self, ask: AskPeer) -> None:
        try:
            self.reported.set_result(await ask(event(), b"an event"))
        except Exception as error:
            self.reported.set_exception(error)
            raise


def event() -> NEventReportRequest:
    return NEventReportRequest(
        message_id=0,
        affected_sop_class_uid=COMMITMENT,
        affected_sop_instance_uid=COMMITMENT_INSTANCE,
        event_type_id=1,
    )


async def act(association: ClientAssociation) -> int:
    request = NActionRequest(
        message_id=0,
        requested_sop_class_uid=COMMITMENT,
        requested_sop_instance_uid=COMMITMENT_INSTANCE,
        action_type_id=1,
    )
    response, _ = await association.n_request(request, b"an action")
    return response.status


async def test_an_event_is_reported_to_who_asked_and_offers_to_hear_it() -> None:
    heard: list[tuple[int, bytes | None]] = []

    async def n_event_report(
        info: AssociationInfo, request: Any, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        assert (info.calling_ae_title, info.called_ae_title) == ("ISOCENTER", "TESTSCU")
        heard.append((request.event_type_id, data_set))
        return NAnswer(fields={"event_type_id": 1})

    service = Reporting()
    async with serving(service) as server, await associate(server, contexts=CONTEXTS) as association:
        association.offer_events(n_event_report)
        assert await act(association) == 0
        response, answer = await service.reported
        assert (response.status, response.event_type_id, answer) == (0, 1, None)
        assert heard == [(1, b"an event")]
        with pytest.raises(
            DimseFailure
        ):  # what was not offered: it is answered, and the association lives on
            await _store_back(service, association)


async def _store_back(service: Reporting, association: ClientAssociation) -> None:
    from isocenter.dimse.protocol.messages import CStoreRequest

    request = CStoreRequest(message_id=0, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
    service.reported = asyncio.get_running_loop().create_future()
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def then(ask: AskPeer) -> None:
        with pytest.raises(AssociationAborted, match="wrong kind"):
            await ask(request, b"an object")  # type: ignore[arg-type]
        answered.set_result(0)

    service._then = then
    await act(association)
    await answered
    raise DimseFailure(0x0122)


async def test_who_leaves_at_once_is_not_held_up_and_the_reporter_hears_of_it() -> None:
    """It released before the event came, or in the middle of it: no answer will come."""
    service = Reporting()
    async with serving(service) as server:
        association = await associate(server, contexts=CONTEXTS)
        assert await act(association) == 0
        await association.release()
        with pytest.raises(AssociationAborted):
            await service.reported
        reason = (await service.outcomes.get()).reason
        assert reason in {"released", "aborted by the peer", "connection lost"}


async def test_a_fault_after_the_answer_ends_nothing() -> None:
    async def breaks(ask: AskPeer) -> None:
        raise RuntimeError("never seen by the peer")

    async with (
        serving(Reporting(breaks)) as server,
        await associate(server, contexts=CONTEXTS) as association,
    ):
        assert await act(association) == 0
        assert await act(association) == 0


async def test_an_object_that_takes_long_to_send_is_no_silence_of_the_peer() -> None:
    """The time-out is for a peer that owes an answer, and it owes none before it has the object."""
    loop = asyncio.get_running_loop()

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(12):
            due = loop.create_future()
            loop.call_later(0.05, due.set_result, None)
            await due
            yield b"a piece "

    service = MemoryService()
    async with serving(service) as server:
        async with await associate(server, contexts=CONTEXTS, response_s=0.3) as association:
            await association.store(CT, "1.2.3", EXPLICIT, slow())
        assert service.stored[0].data == b"a piece " * 12
        never = asyncio.Event()

        async def waits(sink: Any) -> None:
            await never.wait()

        service.on_finish = waits
        association = await associate(server, contexts=CONTEXTS, response_s=0.3)
        with pytest.raises(DimseTimeout, match="said nothing"):
            await association.store(CT, "1.2.4", EXPLICIT, slow())
        never.set()


async def test_a_large_object_in_memory_goes_in_parts_and_each_that_is_taken_is_a_sign_of_life() -> None:
    content = bytes(range(256)) * (10 << 12) + b"the end"
    service = MemoryService()
    async with serving(service) as server, await associate(server, contexts=CONTEXTS) as association:
        await association.store(CT, "1.2.3", EXPLICIT, content)
        await association.store(CT, "1.2.4", EXPLICIT, content[: 1 << 20])
        await association.store(CT, "1.2.5", EXPLICIT, b"")
        connection = association._connection
        connection._active_at_s = 0
        connection.pause_writing()
        connection.resume_writing()
        assert connection._active_at_s > 0
    assert [stored.data for stored in service.stored] == [content, content[: 1 << 20], b""]
    assert [len(piece) for piece, _ in [one async for one in chunks(content)]] == [1 << 20] * 10 + [7]
    assert [one async for one in chunks(b"")] == [(b"", True)]


on_both_loops(globals())
