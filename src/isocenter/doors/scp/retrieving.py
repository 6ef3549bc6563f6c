"""C-MOVE and C-GET: objects of the archive as C-STORE sub-operations (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from isocenter.dimse.net.bodies import Body
from isocenter.dimse.net.errors import AssociationAborted, DimseFailure, DimseTimeout
from isocenter.dimse.net.service import AssociationInfo, SendSubOperation, SubOperations
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import CGetRequest, CMoveRequest, CStoreResponse
from isocenter.dimse.scu.contexts import not_in_that_syntax
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.dimse.scu.rewriting import Conversions
from isocenter.dimse.scu.sending import SendObjects
from isocenter.dimse.scu.streaming import Sender, SendPolicy, Waiting
from isocenter.doors.scp.archived_objects import archived_objects
from isocenter.doors.scp.carrying import Batches, Carrying, Tally, told_while
from isocenter.doors.scp.contexts import GET_SOP_CLASSES, MOVE_SOP_CLASSES
from isocenter.doors.scp.identifiers import MODEL_OF
from isocenter.doors.scp.outgoing import Outgoing
from isocenter.doors.scp.retrieval import Wanted, parse_retrieval
from isocenter.doors.scp.spanned import SpannedArchives, check_spanned, spanned_batches
from isocenter.doors.scp.statuses import answer_to_error, comment
from isocenter.doors.scp.witness import AssociationWitness, Retrieved
from isocenter.features.ae_titles.admission import Admission
from isocenter.features.ae_titles.callers import Grant
from isocenter.features.ae_titles.destinations import Destination
from isocenter.features.ae_titles.entries import AeService
from isocenter.features.archive.presented import presented
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.selection import select_instances
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import Database
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

_ATTEMPTS_MAX = 2  # the requester waits, and can ask again for what failed


@dataclass(frozen=True, slots=True)
class Retriever:
    """``associations``: how many one C-MOVE may use at once; with more than one the order is not kept.
    ``conversions``: what may become of objects whose transfer syntax the receiver does not take."""

    database: Database
    store: ObjectStore
    admission: Admission
    witness: AssociationWitness
    outgoing: Outgoing
    conversions: Conversions
    associations: int = 1
    spanned: SpannedArchives | None = None

    async def move(
        self,
        association: AssociationInfo,
        request: CMoveRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
        cancelled: asyncio.Event,
    ) -> AsyncIterator[SubOperations]:
        title = request.move_destination.strip(" ")
        told = Retrieved(destination=title)
        run = _Run(self, association, told, transfer_syntax_uid)
        try:
            wanted = await run.permitted(
                AeService.MOVE, MOVE_SOP_CLASSES, request.affected_sop_class_uid, identifier
            )
            destination = await self.outgoing.find(association.grant.organization_id, title)
            if destination is None:
                raise DimseFailure(statuses.MOVE_DESTINATION_UNKNOWN, "unknown to this organisation")
            told.destination_host = destination.address
            batches = await run.found(wanted)
            sending = self._sending(association, request, destination)

            async def send(instances: Sequence[StoredInstance]) -> None:
                await sending.run(archived_objects(self.store, instances), run.tally.tell)

            carrying = Carrying(batches, run.tally, send)
            running = asyncio.create_task(carrying.run(), name="c-move")

            def leave() -> None:
                carrying.leave()
                sending.leave()

            async with aclosing(told_while(running, run.tally, cancelled, leave)) as counts:
                async for now in counts:
                    yield now
            yield run.final()
        except IsocenterError as error:
            raise run.failure(error) from error
        finally:
            run.over()

    async def get(  # noqa: PLR0917 - the service's own signature
        self,
        association: AssociationInfo,
        request: CGetRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
        cancelled: asyncio.Event,
        send: SendSubOperation,
    ) -> AsyncIterator[SubOperations]:
        run = _Run(self, association, Retrieved(), transfer_syntax_uid)
        try:
            wanted = await run.permitted(
                AeService.GET, GET_SOP_CLASSES, request.affected_sop_class_uid, identifier
            )
            batches = await run.found(wanted)
            sender = Sender(run.tally.tell, SendPolicy(attempts_max=1, conversions=self.conversions))
            channel = _GetChannel(association, send)

            async def send_all(instances: Sequence[StoredInstance]) -> None:
                waiting = deque(Waiting(one) for one in archived_objects(self.store, instances))
                await sender.over(channel, waiting)

            carrying = Carrying(batches, run.tally, send_all)
            running = asyncio.create_task(_closing(sender, carrying.run()), name="c-get")

            def leave() -> None:
                carrying.leave()
                sender.leave = True

            async with aclosing(told_while(running, run.tally, cancelled, leave)) as counts:
                async for now in counts:
                    yield now
            yield run.final()
        except IsocenterError as error:
            raise run.failure(error) from error
        finally:
            run.over()

    def _sending(
        self, association: AssociationInfo, request: CMoveRequest, destination: Destination
    ) -> SendObjects:
        return SendObjects(
            self.outgoing.remotes,
            self.outgoing.peer(destination, association.called_ae_title),
            associations=min(self.associations, destination.associations_max),
            policy=SendPolicy(
                attempts_max=_ATTEMPTS_MAX,
                preferred=destination.transfer_syntaxes,
                conversions=self.conversions,
            ),
            move_originator=(association.calling_ae_title, request.message_id),
            wait_s=float("inf"),  # its requester hears that it still waits, and can cancel it
        )


class _Run:
    """One request from its permission to its event in the trail."""

    def __init__(
        self, retriever: Retriever, association: AssociationInfo, told: Retrieved, transfer_syntax_uid: str
    ) -> None:
        self._retriever = retriever
        self._association = association
        self._told = told
        self._syntax = transfer_syntax_uid
        self._began_s = asyncio.get_running_loop().time()
        self.tally = Tally()
        told.reason = "cancelled"  # until it is known to have ended otherwise

    async def permitted(
        self, service: AeService, models: Collection[str], sop_class_uid: str, identifier: bytes
    ) -> Wanted:
        """What is asked for. Raises DimseFailure."""
        if sop_class_uid not in models:
            raise DimseFailure(statuses.SOP_CLASS_NOT_SUPPORTED)
        grant: Grant = self._association.grant
        if not await self._retriever.admission.upholds(grant, service):
            raise DimseFailure(statuses.NOT_AUTHORIZED)
        wanted = parse_retrieval(identifier, self._syntax, MODEL_OF[sop_class_uid])
        self._told.asked = wanted.keys()
        return wanted

    async def found(self, wanted: Wanted) -> Batches:
        """The objects: of this archive, or of all that the called title stands for."""
        organization_id = self._association.grant.organization_id
        retriever = self._retriever
        if retriever.spanned is not None and self._association.grant.spans:
            check_spanned(wanted.selection)
            called = self._association.called_ae_title
            retrievals = await retriever.spanned.retrieve(organization_id, called, wanted.selection)
            self.tally = Tally(sum(one.expected for one in retrievals))
            return spanned_batches(retrievals, self.tally)
        selected = await select_instances(retriever.database, organization_id, wanted.selection)
        instances = await presented(retriever.store, selected)
        self.tally = Tally(len(instances))
        return _at_once(instances)

    def final(self) -> SubOperations:
        self._told.reason = "cancelled" if self.tally.remaining else ""
        return self.tally.final(self._syntax)

    def failure(self, error: IsocenterError) -> DimseFailure:
        if isinstance(error, DimseFailure):
            self._told.reason = error.comment or f"status {error.status:04X}"
            return error
        self._told.reason = error.code
        answer = answer_to_error(error)
        if answer.status == statuses.OUT_OF_RESOURCES:
            status = statuses.OUT_OF_RESOURCES_UNABLE_TO_CALCULATE_MATCHES
            return DimseFailure(status, answer.comment)
        return DimseFailure(answer.status, answer.comment)

    def over(self) -> None:
        tally, told = self.tally, self._told
        told.studies = {study: dict(counts) for study, counts in tally.studies.items()}
        told.remaining = tally.remaining
        self._retriever.witness.retrieved(self._association, told)
        log.info(
            "Objects sent for a C-MOVE" if told.destination else "Objects sent for a C-GET",
            calling_ae_title=self._association.calling_ae_title,
            peer_host=self._association.peer_host,
            destination=told.destination or self._association.calling_ae_title,
            objects=tally.completed + tally.warnings,
            failed=len(tally.failures),
            remaining=tally.remaining,
            duration_s=round(asyncio.get_running_loop().time() - self._began_s, 3),
            reason=told.reason or comment(tally.why),
        )


async def _closing(sender: Sender, running: Coroutine[Any, Any, None]) -> None:
    try:
        await running
    finally:
        await sender.close()


async def _at_once(instances: Sequence[StoredInstance]) -> Batches:
    yield instances


@dataclass(slots=True)
class _GetChannel:
    """The association that a C-GET came on, as ``streaming.Channel``; when it ends, so does the operation."""

    association: AssociationInfo
    send: SendSubOperation
    usable: bool = True

    @property
    def window(self) -> int:
        return self.send.window

    def accepted(self, sop_class_uid: str) -> Collection[str]:
        """Where the requester has taken the SCP role (PS3.4 C.5.3.1)."""
        return [
            context.transfer_syntax
            for context in self.association.contexts.values()
            if context.abstract_syntax == sop_class_uid and context.scp_role
        ]

    def why_not_accepted(self, one: OutgoingObject) -> str:
        return not_in_that_syntax(self.association.calling_ae_title, one)

    async def store(self, one: OutgoingObject, transfer_syntax_uid: str, body: Body) -> CStoreResponse:
        try:
            response = await self.send(one.sop_class_uid, one.sop_instance_uid, transfer_syntax_uid, body)
        except (AssociationAborted, DimseTimeout):
            self.usable = False
            raise
        if statuses.family(response.status) not in {statuses.Family.SUCCESS, statuses.Family.WARNING}:
            raise DimseFailure(response.status, response.error_comment or "")
        return response
