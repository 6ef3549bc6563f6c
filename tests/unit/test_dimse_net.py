"""Our client against our server over a real socket, on both event loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dimse_service import (
    CT,
    EXPLICIT,
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    UPS_PUSH,
    VERIFICATION,
    MemoryService,
    MemorySink,
    associate,
    on_both_loops,
    serving,
)

from isocenter.dimse.net.bodies import FileBody
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import (
    DimseFailure,
)
from isocenter.dimse.net.service import Accept, Answer, PendingAnswer
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.limits import Limits
from isocenter.dimse.protocol.messages import CFindRequest, CStoreRequest, NCreateRequest, NGetRequest
from isocenter.dimse.protocol.negotiation import negotiate
from isocenter.dimse.protocol.user_information import (
    AsynchronousOperationsWindow,
    RoleSelection,
    UserIdentity,
)

IDENTIFIER = b"\x08\x00\x52\x00CS\x06\x00STUDY "


async def test_echo_store_find_and_release() -> None:
    service = MemoryService()
    async with serving(service) as server:
        async with await associate(server) as association:
            await association.echo()
            body = os.urandom(600_001)
            response = await association.store(CT, "1.2.3", EXPLICIT, body)
            assert response.status == 0
            assert response.affected_sop_instance_uid == "1.2.3"
            assert [m async for m in association.find(STUDY_FIND, IDENTIFIER)] == [IDENTIFIER] * 3
        outcome = await service.outcomes.get()
        assert outcome.reason == "released"
        assert outcome.operations == {"C-ECHO": 1, "C-STORE": 1, "C-FIND": 1}
        assert service.stored[0].data == body
        assert service.stored[0].transfer_syntax == EXPLICIT
        assert service.infos[0].calling_ae_title == "TESTSCU"


@pytest.mark.parametrize("kind", ["list", "file", "chunks", "empty"])
async def test_an_object_may_come_in_parts(kind: str, tmp_path: Path) -> None:
    data = os.urandom(2_500_000)

    async def chunked() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 70_000):
            yield data[start : start + 70_000]

    (tmp_path / "object").write_bytes(b"head" + data)
    body = {
        "list": [data[:10], b"", data[10:]],
        "file": FileBody(tmp_path / "object", 4),
        "chunks": chunked(),
        "empty": [],
    }[kind]
    service = MemoryService()
    async with serving(service) as server, await associate(server) as association:
        await association.store(CT, "1.2.3", EXPLICIT, body)
        assert service.stored[0].data == (b"" if kind == "empty" else data)


async def test_a_small_maximum_length_of_the_server_is_respected() -> None:
    service = MemoryService()
    body = os.urandom(100_000)
    async with (
        serving(service, limits=Limits(pdata_bytes_max=1000)) as server,
        await associate(server) as association,
    ):
        await association.store(CT, "1.2.3", EXPLICIT, body)
        assert service.stored[0].data == body


async def test_a_sink_that_asks_to_wait_stops_the_reading() -> None:
    gate = asyncio.Event()
    waiting = asyncio.Event()

    def hold(sink: MemorySink) -> object:
        waiting.set()
        return gate.wait() if not gate.is_set() else None

    service = MemoryService(on_write=hold)  # type: ignore[arg-type]
    body = os.urandom(20_000_000)
    async with serving(service) as server, await associate(server) as association:
        task = asyncio.create_task(association.store(CT, "1.2.3", EXPLICIT, [body]))
        await waiting.wait()
        async with await associate(server) as other:  # the shared buffer is not the waiting one's
            for _ in range(50):
                await other.echo()
        assert max(connection.received_bytes for connection in server._connections) < 1_000_000
        assert not task.done()
        gate.set()
        await task
        assert service.stored[0].data == body


async def test_a_write_that_fails_is_answered_and_the_association_lives_on() -> None:
    def fail(sink: MemorySink) -> None:
        raise DimseFailure(0xA700, "disk full")

    service = MemoryService(on_write=fail)
    async with serving(service) as server, await associate(server) as association:
        with pytest.raises(DimseFailure) as failure:
            await association.store(CT, "1.2.3", EXPLICIT, os.urandom(900_000))
        assert (failure.value.status, failure.value.comment) == (0xA700, "disk full")
        assert service.aborted == 1
        service.on_write = None
        await association.store(CT, "1.2.3", EXPLICIT, b"abc")


async def test_an_awaited_write_that_fails_too() -> None:
    async def fail() -> None:
        raise OSError("gone")

    service = MemoryService(on_write=lambda sink: fail())
    async with serving(service) as server, await associate(server) as association:
        with pytest.raises(DimseFailure) as failure:
            await association.store(CT, "1.2.3", EXPLICIT, os.urandom(900_000))
        assert failure.value.status == statuses.PROCESSING_FAILURE
        await association.echo()


async def test_a_handler_that_breaks_answers_processing_failure_and_logs_no_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = "DOE^JANE"

    async def fail(sink: MemorySink) -> None:
        raise ValueError(name)

    service = MemoryService(on_finish=fail)
    async with serving(service) as server, await associate(server) as association:
        with pytest.raises(DimseFailure) as failure:
            await association.store(CT, "1.2.3", EXPLICIT, b"abc")
        assert failure.value.status == statuses.PROCESSING_FAILURE
        await association.echo()
    assert "ValueError" in caplog.text
    assert "DOE" not in caplog.text


async def test_warnings_are_returned_and_comments_carried() -> None:
    service = MemoryService(store_answer=Answer(0xB000, "coerced", (0x00100010,)))
    async with serving(service) as server, await associate(server) as association:
        response = await association.store(CT, "1.2.3", EXPLICIT, b"abc")
        assert (response.status, response.error_comment) == (0xB000, "coerced")
        assert response.offending_element == (0x00100010,)


class Bare:
    """A service that can do nothing but say yes."""

    async def admit(self, request: object, peer: object) -> Accept:
        from dimse_service import EVERYTHING

        return Accept(negotiate(request.contexts, {}, otherwise=EVERYTHING))  # type: ignore[attr-defined]

    async def closed(self, association: object, outcome: object) -> None:
        pass


async def test_operations_without_a_handler_are_answered() -> None:
    async with serving(Bare()) as server, await associate(server) as association:
        for operation in (association.echo(), association.store(CT, "1.2", EXPLICIT, os.urandom(300_000))):
            with pytest.raises(DimseFailure) as failure:
                await operation
            assert failure.value.status == statuses.SOP_CLASS_NOT_SUPPORTED
        with pytest.raises(DimseFailure) as failure:
            [m async for m in association.find(STUDY_FIND, IDENTIFIER)]
        assert failure.value.status == statuses.SOP_CLASS_NOT_SUPPORTED
        request = NGetRequest(
            message_id=0, requested_sop_class_uid=UPS_PUSH, requested_sop_instance_uid="1.2"
        )
        response, _ = await association.n_request(request)
        assert response.status == statuses.UNRECOGNIZED_OPERATION


async def test_n_create_carries_data_sets_both_ways() -> None:
    async with serving(MemoryService()) as server, await associate(server) as association:
        request = NCreateRequest(message_id=0, affected_sop_class_uid=UPS_PUSH)
        response, data_set = await association.n_request(request, b"some attributes")
        assert (response.status, response.affected_sop_instance_uid) == (0, "1.2.3.4")
        assert data_set == b"some attributes"


async def test_move_tells_its_progress_and_its_end() -> None:
    async with serving(MemoryService()) as server, await associate(server) as association:
        responses = [r async for r, _ in association.move(STUDY_MOVE, "DEST", IDENTIFIER)]
        assert [r.status for r in responses] == [0xFF00, 0xB000]
        assert responses[0].remaining_sub_operations == 1
        assert responses[1].remaining_sub_operations is None
        assert responses[1].failed_sub_operations == 1


async def test_leaving_a_query_early_cancels_it_there() -> None:
    cancelled = asyncio.Event()

    async def endless() -> AsyncIterator[PendingAnswer]:
        try:
            while True:
                yield PendingAnswer(IDENTIFIER)
                await asyncio.sleep(0)
        finally:
            cancelled.set()

    service = MemoryService(on_find=endless)
    async with serving(service) as server, await associate(server) as association:
        matches = association.find(STUDY_FIND, IDENTIFIER)
        async for _ in matches:
            break
        await matches.aclose()  # type: ignore[attr-defined]
        await cancelled.wait()
        await association.echo()  # takes its turn after the final response of the query
        assert not association.busy


async def test_a_query_that_waits_can_be_cancelled() -> None:
    started = asyncio.Event()

    async def stuck() -> AsyncIterator[PendingAnswer]:
        started.set()
        await asyncio.Event().wait()
        yield PendingAnswer(IDENTIFIER)

    service = MemoryService(on_find=stuck)
    async with serving(service) as server, await associate(server) as association:
        connection = association._connection
        exchange = await connection.invoker._send(
            association.context_for(STUDY_FIND).context_id,
            CFindRequest(message_id=0, affected_sop_class_uid=STUDY_FIND),
            IDENTIFIER,
        )
        await started.wait()
        await connection.invoker.cancel(exchange)
        response, _ = await exchange.next()
        connection.invoker.close(exchange)
        assert response.status == statuses.CANCEL


async def test_a_slow_reader_of_matches_makes_the_server_wait() -> None:
    service = MemoryService(matches=20_000)
    big = IDENTIFIER * 40
    async with serving(service) as server, await associate(server) as association:
        count = 0
        async for match in association.find(STUDY_FIND, big):
            assert match == big
            count += 1
        assert count == 20_000


async def test_a_failure_status_of_a_query_is_raised() -> None:
    async def refuse() -> AsyncIterator[PendingAnswer]:
        yield PendingAnswer(IDENTIFIER)
        raise DimseFailure(0xA900, "no such level")

    async with serving(MemoryService(on_find=refuse)) as server, await associate(server) as association:
        matches = association.find(STUDY_FIND, IDENTIFIER)
        assert await anext(matches) == IDENTIFIER
        with pytest.raises(DimseFailure) as failure:
            await anext(matches)
        assert (failure.value.status, failure.value.comment) == (0xA900, "no such level")


async def test_an_asynchronous_operations_window_is_granted_and_used() -> None:
    both = asyncio.Barrier(3)

    async def meet(sink: MemorySink) -> None:
        await both.wait()

    service = MemoryService(on_finish=meet, window=AsynchronousOperationsWindow(0, 1))
    async with (
        serving(service, operations_max=4) as server,
        await associate(server, operations_max=3) as association,
    ):
        window = association.accept.user_information.asynchronous_operations_window
        assert window == AsynchronousOperationsWindow(3, 1)
        stores = [association.store(CT, f"1.2.{n}", EXPLICIT, b"abc") for n in range(6)]
        assert len(await asyncio.gather(*stores)) == 6


async def test_without_a_window_operations_of_several_tasks_take_turns() -> None:
    service = MemoryService()
    async with serving(service) as server, await associate(server) as association:
        big = [os.urandom(100_000)] * 30
        await asyncio.gather(*(association.store(CT, f"1.2.{n}", EXPLICIT, big) for n in range(5)))
        assert all(stored.data == b"".join(big) for stored in service.stored)


async def test_a_message_id_in_use_is_a_duplicate_invocation() -> None:
    go, received = asyncio.Event(), asyncio.Event()

    async def hold(sink: MemorySink) -> None:
        received.set()
        await go.wait()

    service = MemoryService(on_finish=hold, window=AsynchronousOperationsWindow(0, 1))
    async with serving(service) as server, await associate(server, operations_max=2) as association:
        first = asyncio.create_task(association.store(CT, "1.2.3", EXPLICIT, b"abc"))
        await received.wait()
        connection = association._connection
        context_id = association.context_for(CT).context_id
        again = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.4")
        await connection.send_message(context_id, again, b"abc")
        with pytest.raises(DimseFailure) as failure:
            await first  # the peer cannot tell the two apart: the first to be answered is the duplicate
        assert failure.value.status == statuses.DUPLICATE_INVOCATION
        go.set()
        association.abort()


async def test_user_identity_and_roles_reach_the_service() -> None:
    service = MemoryService()
    identity = UserIdentity(2, b"jane", b"secret", response_requested=True)
    async with (
        serving(service) as server,
        await associate(server, user_identity=identity, roles=[RoleSelection(CT, True, True)]) as association,
    ):
        await association.echo()
        assert association.accept.user_information.user_identity_response == b""
        info = service.infos[0]
        assert info.user_identity == identity
        context = next(c for c in info.contexts.values() if c.abstract_syntax == CT)
        assert (context.scu_role, context.scp_role) == (True, True)


async def test_a_c_get_stores_on_its_own_association() -> None:
    service, receiver = MemoryService(), MemoryService()
    async with serving(service) as server:
        async with await associate(server) as association:
            for number in range(3):
                await association.store(CT, f"1.2.{number}", EXPLICIT, b"abc" * number)
        contexts = [Proposal(STUDY_GET), Proposal(CT, (EXPLICIT,))]
        roles = [RoleSelection(CT, False, True)]
        async with await associate(server, contexts=contexts, roles=roles) as association:
            got = association.get(
                STUDY_GET, IDENTIFIER, lambda request, syntax: MemorySink(receiver, request, syntax)
            )
            responses = [response async for response, _ in got]
        assert [response.status for response in responses] == [0xFF00, 0xFF00, 0]
        assert responses[-1].completed_sub_operations == 3
        assert [stored.data for stored in receiver.stored] == [b"", b"abc", b"abcabc"]


async def test_many_at_once() -> None:
    service = MemoryService()

    async def one() -> None:
        async with await associate(server, contexts=[Proposal(VERIFICATION)]) as association:
            await association.echo()

    async with serving(service) as server:
        await asyncio.gather(*(one() for _ in range(64)))
        for _ in range(64):
            assert (await service.outcomes.get()).reason == "released"


def test_a_store_request_names_what_it_needs() -> None:
    with pytest.raises(TypeError):
        CStoreRequest(message_id=1)  # type: ignore[call-arg]


on_both_loops(globals())
