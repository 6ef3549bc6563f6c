"""How associations end: refused, timed out, lost, shut down; nothing hangs and nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from dimse_service import (
    ALL,
    CT,
    EXPLICIT,
    STUDY_FIND,
    MemoryService,
    MemorySink,
    associate,
    serving,
)

from isocenter.dimse.net.client import Proposal, connect
from isocenter.dimse.net.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectFailed,
    ContextNotAccepted,
    DimseTimeout,
)
from isocenter.dimse.net.service import Accept, PendingAnswer
from isocenter.dimse.protocol import rejections
from isocenter.dimse.protocol.pdu import NegotiatedContext
from isocenter.kit.errors import InvalidInput

IDENTIFIER = b"\x08\x00\x52\x00CS\x06\x00STUDY "


async def test_rejections_are_told_in_plain_words() -> None:
    service = MemoryService(verdict=rejections.CALLING_AE_TITLE_NOT_RECOGNIZED)
    async with serving(service) as server:
        with pytest.raises(AssociationRejected, match="calling AE title is not known") as refusal:
            await associate(server)
        assert server.open_associations == 0
        assert refusal.value.reject == rejections.CALLING_AE_TITLE_NOT_RECOGNIZED
        assert "Register" in refusal.value.remedy


async def test_a_released_association_takes_no_more_messages() -> None:
    async with serving(MemoryService()) as server:
        association = await associate(server)
        releasing = asyncio.create_task(association.release())
        await asyncio.sleep(0)
        with pytest.raises(AssociationAborted):
            await association.echo()
        await releasing


async def test_more_associations_than_allowed_are_rejected_for_now() -> None:
    async with serving(MemoryService(), associations_max=1) as server, await associate(server):
        with pytest.raises(AssociationRejected) as refusal:
            await associate(server)
        assert refusal.value.reject == rejections.LOCAL_LIMIT_EXCEEDED


async def test_nobody_there(free_port: int) -> None:
    from isocenter.dimse.net.client import connect

    with pytest.raises(ConnectFailed, match="no connection"):
        await connect("127.0.0.1", free_port, calling_ae_title="A", called_ae_title="B", contexts=ALL)


async def test_a_context_that_was_not_accepted() -> None:
    async with serving(MemoryService()) as server, await associate(server) as association:
        with pytest.raises(ContextNotAccepted):
            await association.store("1.2.3", "1.2", EXPLICIT, b"")


async def test_a_peer_that_says_nothing_times_out() -> None:
    async def stuck(sink: MemorySink) -> None:
        await asyncio.Event().wait()

    service = MemoryService(on_finish=stuck)
    async with serving(service, grace_s=0) as server:
        association = await associate(server, response_s=0.1)
        with pytest.raises(DimseTimeout):
            await association.store(CT, "1.2.3", EXPLICIT, b"abc")
        assert not association.usable
        with pytest.raises(DimseTimeout):
            await association.echo()


async def test_a_listener_that_never_answers_times_out() -> None:
    heard = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        heard.set()

    listener = await asyncio.start_server(mute, "127.0.0.1", 0)
    from isocenter.dimse.net.client import connect

    with pytest.raises(DimseTimeout):
        await connect(
            "127.0.0.1",
            listener.sockets[0].getsockname()[1],
            calling_ae_title="A",
            called_ae_title="B",
            contexts=ALL,
            association_s=0.1,
        )
    await heard.wait()
    listener.close()


async def test_idle_associations_end_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service = MemoryService()
    async with serving(service, idle_s=0.1) as server:
        association = await associate(server)
        await association.wait_closed()
        outcome = await service.outcomes.get()
        assert outcome.reason == "silent for 0.1 s"
        with pytest.raises(AssociationAborted):
            await association.echo()
    assert "calling='TESTSCU'" in caplog.text


async def test_a_lost_connection_leaves_nothing_behind() -> None:
    writing = asyncio.Event()

    def note(sink: MemorySink) -> None:
        writing.set()

    service = MemoryService(on_write=note)
    async with serving(service) as server:
        association = await associate(server)

        async def half() -> AsyncIterator[bytes]:
            yield bytes(300_000)
            yield bytes(300_000)
            await writing.wait()
            association._connection.cut("test")
            yield b""

        with pytest.raises(AssociationAborted):
            await association.store(CT, "1.2.3", EXPLICIT, half())
        outcome = await service.outcomes.get()
        assert outcome.reason == "aborted by the loss of the connection"
        assert service.aborted == 1
        assert service.stored == []


async def test_a_body_that_fails_aborts_the_association() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(300_000)
        yield bytes(300_000)
        raise OSError("cannot read on")

    service = MemoryService()
    async with serving(service) as server:
        association = await associate(server)
        with pytest.raises(OSError, match="cannot read on"):
            await association.store(CT, "1.2.3", EXPLICIT, broken())
        assert not association.usable
        await service.outcomes.get()
        assert (service.stored, service.aborted) == ([], 1)


async def test_shutdown_lets_a_store_finish() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def hold(sink: MemorySink) -> None:
        started.set()
        await go.wait()

    service = MemoryService(on_finish=hold)
    async with serving(service) as server:
        association = await associate(server)
        idle = await associate(server)
        task = asyncio.create_task(association.store(CT, "1.2.3", EXPLICIT, b"abc"))
        await started.wait()
        shutdown = asyncio.create_task(server.shutdown(5))
        await idle.wait_closed()
        assert not task.done()
        with pytest.raises((ConnectFailed, AssociationAborted)):
            await associate(server)
        go.set()
        assert (await task).status == 0
        await shutdown
        await association.wait_closed()
        assert server.open_associations == 0


async def test_shutdown_cuts_what_does_not_end() -> None:
    async def endless() -> AsyncIterator[PendingAnswer]:
        await asyncio.Event().wait()
        yield PendingAnswer(b"")

    async with serving(MemoryService(on_find=endless), grace_s=0.1) as server:
        association = await associate(server)
        task = asyncio.create_task(anext(association.find(STUDY_FIND, IDENTIFIER)))  # type: ignore[arg-type]
        await server.shutdown(0.1)
        with pytest.raises(AssociationAborted):
            await task


async def test_a_release_that_waits_when_the_server_shuts_down() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def hold(sink: MemorySink) -> None:
        started.set()
        await go.wait()

    service = MemoryService(on_finish=hold)
    async with serving(service) as server:
        association = await associate(server)
        store = asyncio.create_task(association.store(CT, "1.2.3", EXPLICIT, b"abc"))
        await started.wait()
        release = asyncio.create_task(association.release())
        connection = next(iter(server._connections))
        while connection._waiting is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        shutdown = asyncio.create_task(server.shutdown(5))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(store, release, shutdown)
        assert len(service.stored) == 1


async def test_a_peer_that_aborts_while_it_is_being_admitted(caplog: pytest.LogCaptureFixture) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    class Slow(MemoryService):
        async def admit(self, request, peer):  # type: ignore[no-untyped-def]
            entered.set()
            await go.wait()
            return await super().admit(request, peer)

    async with serving(Slow()) as server:
        connecting = asyncio.create_task(associate(server))
        await entered.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        go.set()
    assert "failed" not in caplog.text
    assert server.open_associations == 0


async def test_an_admission_that_takes_too_long_is_a_rejection_for_now() -> None:
    class Stuck(MemoryService):
        async def admit(self, request, peer):  # type: ignore[no-untyped-def]
            await asyncio.Event().wait()

    async with serving(Stuck(), artim_s=0.1) as server:
        with pytest.raises(AssociationRejected) as refusal:
            await associate(server)
    assert refusal.value.reject == rejections.TEMPORARY_CONGESTION


async def test_a_service_that_answers_what_was_not_proposed_cannot_hang_a_peer() -> None:
    class Wrong(MemoryService):
        async def admit(self, request, peer):  # type: ignore[no-untyped-def]
            return Accept((NegotiatedContext(99, 0, EXPLICIT),))

    async with serving(Wrong()) as server:
        with pytest.raises(AssociationRejected):
            await associate(server)


async def test_an_admission_that_fails_is_a_rejection_for_now(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryService):
        async def admit(self, request, peer):  # type: ignore[no-untyped-def]
            raise RuntimeError("database gone")

    async with serving(Broken()) as server:
        with pytest.raises(AssociationRejected) as refusal:
            await associate(server)
    assert refusal.value.reject == rejections.TEMPORARY_CONGESTION
    assert "admission" in caplog.text


async def test_too_many_contexts_are_refused_before_anybody_is_called(free_port: int) -> None:
    with pytest.raises(InvalidInput, match="at most 128"):
        await connect(
            "127.0.0.1",
            free_port,
            calling_ae_title="TESTSCU",
            called_ae_title="ISOCENTER",
            contexts=[Proposal(f"1.2.{number}") for number in range(129)],
        )
