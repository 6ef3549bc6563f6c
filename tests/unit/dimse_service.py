"""A DIMSE service for tests: takes everything, remembers it, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from isocenter.dimse.net.client import ClientAssociation, Proposal, connect
from isocenter.dimse.net.server import DimseServer, ServerSettings
from isocenter.dimse.net.service import (
    Accept,
    Answer,
    AssociationInfo,
    NAnswer,
    Outcome,
    Peer,
    PendingAnswer,
    Reject,
    SubOperations,
)
from isocenter.dimse.protocol.negotiation import SupportedSyntax, negotiate, negotiate_roles
from isocenter.dimse.protocol.pdu import AssociateRequest

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"

EVERYTHING = SupportedSyntax((EXPLICIT, IMPLICIT), any_other=True, requestor_scp=True)


@dataclass
class Stored:
    request: Any
    transfer_syntax: str
    data: bytes


class MemorySink:
    def __init__(self, service: MemoryService, request: Any, transfer_syntax: str) -> None:
        self.service, self.request, self.transfer_syntax = service, request, transfer_syntax
        self.data = bytearray()

    def write(self, fragment: memoryview) -> Awaitable[None] | None:
        self.data += fragment
        return self.service.on_write(self) if self.service.on_write else None

    async def finish(self) -> Answer:
        if self.service.on_finish:
            await self.service.on_finish(self)
        self.service.stored.append(Stored(self.request, self.transfer_syntax, bytes(self.data)))
        return self.service.store_answer

    async def abort(self) -> None:
        self.service.aborted += 1


@dataclass
class MemoryService:
    store_answer: Answer = field(default_factory=Answer)
    on_write: Callable[[MemorySink], Awaitable[None] | None] | None = None
    on_finish: Callable[[MemorySink], Awaitable[None]] | None = None
    on_find: Callable[[], AsyncIterator[PendingAnswer]] | None = None
    verdict: Reject | None = None
    window: Any = None
    matches: int = 3
    stored: list[Stored] = field(default_factory=list)
    aborted: int = 0
    infos: list[AssociationInfo] = field(default_factory=list)
    outcomes: asyncio.Queue[Outcome] = field(default_factory=asyncio.Queue)
    requests: list[tuple[AssociateRequest, Peer]] = field(default_factory=list)

    async def admit(self, request: AssociateRequest, peer: Peer) -> Accept | Reject:
        self.requests.append((request, peer))
        if self.verdict is not None:
            return self.verdict
        information = request.user_information
        wants_response = information.user_identity and information.user_identity.response_requested
        return Accept(
            negotiate(request.contexts, {}, otherwise=EVERYTHING),
            negotiate_roles(information.roles, {}, otherwise=EVERYTHING),
            b"" if wants_response else None,
            self.window,
        )

    async def echo(self, association: AssociationInfo) -> Answer:
        self.infos.append(association)
        return Answer()

    def store(self, association: AssociationInfo, request: Any, transfer_syntax: str) -> MemorySink:
        return MemorySink(self, request, transfer_syntax)

    async def find(
        self, association: AssociationInfo, request: Any, identifier: bytes, transfer_syntax: str
    ) -> AsyncIterator[PendingAnswer]:
        if self.on_find is not None:
            async for answer in self.on_find():
                yield answer
            return
        for _ in range(self.matches):
            yield PendingAnswer(identifier)

    async def get(
        self,
        association: AssociationInfo,
        request: Any,
        identifier: bytes,
        transfer_syntax: str,
        cancelled: asyncio.Event,
        send: Any,
    ) -> AsyncIterator[SubOperations]:
        total = len(self.stored)
        for number, stored in enumerate(list(self.stored), 1):
            uid = stored.request.affected_sop_instance_uid
            await send(stored.request.affected_sop_class_uid, uid, stored.transfer_syntax, stored.data)
            yield SubOperations(total - number, number)

    async def move(
        self,
        association: AssociationInfo,
        request: Any,
        identifier: bytes,
        transfer_syntax: str,
        cancelled: asyncio.Event,
    ) -> AsyncIterator[SubOperations]:
        yield SubOperations(1, 1)
        yield SubOperations(0, 1, failed=1)

    async def n_create(
        self, association: AssociationInfo, request: Any, data_set: bytes | None, transfer_syntax: str
    ) -> NAnswer:
        return NAnswer(data_set=data_set, fields={"affected_sop_instance_uid": "1.2.3.4"})

    async def closed(self, association: AssociationInfo, outcome: Outcome) -> None:
        self.outcomes.put_nowait(outcome)


@asynccontextmanager
async def serving(
    service: Any, *, tls: Any = None, grace_s: float = 5, **settings: Any
) -> AsyncIterator[DimseServer]:
    server = DimseServer(service, ServerSettings(**settings), tls=tls)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.shutdown(grace_s)


ALL = [Proposal(VERIFICATION), Proposal(CT), Proposal(STUDY_FIND), Proposal(STUDY_MOVE), Proposal(UPS_PUSH)]


async def associate(server: DimseServer, **options: Any) -> ClientAssociation:
    options.setdefault("contexts", ALL)
    return await connect(
        "127.0.0.1", server.port, calling_ae_title="TESTSCU", called_ae_title="ISOCENTER", **options
    )


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_both_loops(module: dict[str, Any]) -> None:
    """Makes each coroutine test of a module run twice, on asyncio's own loop and on uvloop."""
    for name, test in list(module.items()):
        if name.startswith("test_") and inspect.iscoroutinefunction(test):
            module[name] = _on_loop(test)


def _on_loop(test: Callable[..., Any]) -> Callable[..., None]:
    def run(loop_name: str, **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(test(**fixtures))

    signature = inspect.signature(test)
    first = inspect.Parameter("loop_name", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[first, *signature.parameters.values()])  # type: ignore[attr-defined]
    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    run.pytestmark = getattr(test, "pytestmark", [])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("loop_name", LOOPS)(run)
