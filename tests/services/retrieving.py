"""Objects to be retrieved, receivers that count, and requests for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.sop_classes import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.net.server import DimseServer, ServerSettings
from isocenter.dimse.net.service import Answer, AssociationInfo
from isocenter.dimse.protocol.messages import Response
from isocenter.dimse.protocol.negotiation import SupportedSyntax, negotiate
from isocenter.dimse.protocol.user_information import AsynchronousOperationsWindow, RoleSelection
from services.archive import CT, EXPLICIT, Image
from services.scp import ScpDoor, identifier

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from dimse_service import MemoryService, MemorySink

SR = "1.2.840.10008.5.1.4.1.1.88.11"
FAILED_LIST = 0x00080058


def images(count: int, *, study: int = 1, first_series: int = 1, series: int = 1, **more: Any) -> list[Image]:
    """``count`` images in each of ``series`` series, in the order in which a person numbers them."""
    return [
        Image(
            study=f"1.5.{study}",
            series=f"1.5.{study}.{number}",
            sop=f"1.5.{study}.{number}.{position}",
            patient_id=f"P{study}",
            name=f"DOE^{study}",
            more=((0x00200011, "IS", str(number)), (0x00200013, "IS", str(position))),
        ).but(**more)
        for number in range(first_series, first_series + series)
        for position in range(1, count + 1)
    ]


class Receiver(MemoryService):
    """Keeps what it is sent. ``supported``: SOP classes and their transfer syntaxes; empty: all.
    ``statuses`` by SOP Instance UID; ``window``: operations at once."""

    def __init__(
        self,
        supported: dict[str, tuple[str, ...]] | None = None,
        *,
        statuses: dict[str, int] | None = None,
        window: int = 0,
    ) -> None:
        super().__init__()
        self._supported = {uid: SupportedSyntax(syntaxes) for uid, syntaxes in (supported or {}).items()}
        self.statuses = statuses or {}
        self.window = AsynchronousOperationsWindow(window, 1) if window else None
        self.under_way = self.most_under_way = self.associations = self.most_associations = 0
        self.on_finish = self._finishing

    async def admit(self, request: Any, peer: Any) -> Any:
        accept = await super().admit(request, peer)
        self.associations += 1
        self.most_associations = max(self.most_associations, self.associations)
        if not self._supported:
            return accept
        return type(accept)(negotiate(request.contexts, self._supported))

    def store(self, association: AssociationInfo, request: Any, transfer_syntax: str) -> MemorySink:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return super().store(association, request, transfer_syntax)

    def together(self, reached: Callable[[], bool]) -> None:
        """Answers nothing until that is reached: what it counts has to come together."""
        finishing, waiting = self.on_finish, asyncio.Condition()

        async def wait(sink: MemorySink) -> None:
            async with waiting:
                waiting.notify_all()
                await waiting.wait_for(reached)
            await finishing(sink)

        self.on_finish = wait

    async def _finishing(self, sink: MemorySink) -> None:
        self.under_way -= 1
        self.store_answer = Answer(self.statuses.get(sink.request.affected_sop_instance_uid, 0))

    async def closed(self, association: AssociationInfo, outcome: Any) -> None:
        self.associations -= 1
        await super().closed(association, outcome)

    @property
    def uids(self) -> list[str]:
        return [stored.request.affected_sop_instance_uid for stored in self.stored]


@asynccontextmanager
async def receiving(service: Any, port: int = 0) -> AsyncIterator[DimseServer]:
    server = DimseServer(service, ServerSettings(operations_max=64))
    await server.start("127.0.0.1", port)
    try:
        yield server
    finally:
        await server.shutdown(5)


@dataclass
class Responses:
    """What a C-MOVE or C-GET was answered; ``failed``: the UIDs of the final response's list."""

    pending: list[Response] = field(default_factory=list)
    final: Any = None
    failed: list[str] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Status; completed, failed and warning sub-operations."""
        final = self.final
        return (
            final.status,
            final.completed_sub_operations,
            final.failed_sub_operations,
            final.warning_sub_operations,
        )

    def take(self, response: Any, answer: bytes | None) -> None:
        if response.status == 0xFF00:
            self.pending.append(response)
            return
        self.final = response
        if answer is not None:
            [element] = read_dataset(answer, EXPLICIT)
            assert element.tag == FAILED_LIST and isinstance(element.value, bytes)
            self.failed = element.value.rstrip(b"\0").decode().split("\\")


async def move(
    door: ScpDoor,
    to: str,
    level: str = "STUDY",
    model_uid: str = STUDY_ROOT_MOVE,
    *,
    calling: str = "VIEWER",
    **keys: bytes,
) -> Responses:
    async with await door.connect(Proposal(model_uid, (EXPLICIT,)), calling=calling) as association:
        return await moved(association, to, identifier(level, **keys), model_uid)


async def moved(
    association: ClientAssociation, to: str, query: bytes, model_uid: str = STUDY_ROOT_MOVE
) -> Responses:
    responses = Responses()
    async for response, answer in association.move(model_uid, to, query):
        responses.take(response, answer)
    return responses


def get_contexts(
    sop_classes: Sequence[str] = (CT,), syntaxes: tuple[str, ...] = (EXPLICIT,), model: str = STUDY_ROOT_GET
) -> tuple[Proposal, ...]:
    return (Proposal(model, (EXPLICIT,)), *(Proposal(uid, syntaxes) for uid in sop_classes))


async def get(
    door: ScpDoor,
    receiver: Receiver,
    level: str = "STUDY",
    *,
    model_uid: str = STUDY_ROOT_GET,
    contexts: Sequence[Proposal] = (),
    calling: str = "VIEWER",
    roles: Sequence[RoleSelection] | None = None,
    performed_max: int = 1,
    **keys: bytes,
) -> Responses:
    proposals = contexts or get_contexts(model=model_uid)
    storage = dict.fromkeys(one.abstract_syntax for one in proposals if one.abstract_syntax != model_uid)
    offered = [RoleSelection(uid, False, True) for uid in storage] if roles is None else roles
    association = await door.connect(*proposals, calling=calling, roles=offered, performed_max=performed_max)
    async with association:
        return await got(association, receiver, identifier(level, **keys), model_uid)


async def got(
    association: ClientAssociation, receiver: Receiver, query: bytes, model_uid: str = STUDY_ROOT_GET
) -> Responses:
    responses = Responses()

    def sink(request: Any, transfer_syntax: str) -> MemorySink:
        return receiver.store(None, request, transfer_syntax)  # type: ignore[arg-type]

    async for response, answer in association.get(model_uid, query, sink):
        responses.take(response, answer)
    return responses


class Gate:
    """Lets a receiver wait in the middle of an object: ``reached`` once it has come so far."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def wait(self, _: Any = None) -> None:
        self.reached.set()
        await self.opened.wait()
