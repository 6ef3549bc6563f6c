"""C-STORE: each object goes through the archive's door while its bytes arrive (PS3.4 B, DESIGN §4)."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import Answer, AssociationInfo
from isocenter.dimse.protocol.messages import CStoreRequest
from isocenter.doors.scp.statuses import answer_to_error, answer_to_outcome
from isocenter.features.archive.entry import Declared, Outcome, Received, Source
from isocenter.features.archive.ingest import Ingest, Reception
from isocenter.features.archive.policies import BatchPolicy
from isocenter.kit.errors import IsocenterError
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

DOOR = "dimse"


class IngestSink:
    """One object's road; implements ``dimse.net.service.StoreSink``."""

    __slots__ = ("_association", "_ingest", "_organization_id", "_reception", "_request")

    def __init__(
        self,
        ingest: Ingest,
        organization_id: int,
        association: AssociationInfo,
        request: CStoreRequest,
        transfer_syntax_uid: str,
    ) -> None:
        self._ingest = ingest
        self._organization_id = organization_id
        self._association = association
        self._request = request
        self._reception: Reception = ingest.receive(
            organization_id,
            Source(DOOR, association.calling_ae_title),
            Declared(
                request.affected_sop_class_uid,
                request.affected_sop_instance_uid,
                transfer_syntax_uid,
            ),
        )

    def write(self, fragment: memoryview) -> Awaitable[None] | None:
        try:
            waiting = self._reception.write(fragment)
        except IsocenterError as error:
            raise self._failure(error) from error
        return None if waiting is None else self._waited(waiting)

    async def finish(self) -> Answer:
        """Success only when object and index entry are durable (MISSION A1)."""
        try:
            received = await self._reception.finish()
            [outcome] = await self._commit(received)
        except IsocenterError as error:
            return self._told(answer_to_error(error), error.code)
        answer = answer_to_outcome(outcome)
        if outcome.kind.accepted:
            return answer
        return self._told(answer, *(problem.code for problem in outcome.problems))

    async def abort(self) -> None:
        await self._reception.abort()

    async def _commit(self, received: Received) -> list[Outcome]:
        """All-or-nothing is said of requests with many objects; a bad one of a C-STORE goes to quarantine."""
        policies = await self._ingest.policies.of(self._organization_id)
        if policies.batch is not BatchPolicy.ACCEPT_VALID:
            policies = replace(policies, batch=BatchPolicy.ACCEPT_VALID)
        return await self._ingest.commit(self._organization_id, [received], policies)

    async def _waited(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except IsocenterError as error:
            raise self._failure(error) from error

    def _failure(self, error: IsocenterError) -> DimseFailure:
        answer = self._told(answer_to_error(error), error.code)
        return DimseFailure(answer.status, answer.comment, answer.offending_elements)

    def _told(self, answer: Answer, *codes: str) -> Answer:
        """One log line for an object that was not archived; UIDs are no patient data (PS3.5 §9)."""
        log.warning(
            "Object not archived",
            calling_ae_title=self._association.calling_ae_title,
            peer_host=self._association.peer_host,
            sop_class_uid=self._request.affected_sop_class_uid[:64],
            sop_instance_uid=self._request.affected_sop_instance_uid[:64],
            status=f"{answer.status:04X}",
            reason=answer.comment,
            codes=",".join(dict.fromkeys(codes)),
        )
        return answer
