"""C-STORE: each object goes through the archive's door while its bytes arrive (PS3.4 B, DESIGN §4)."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import Answer, AssociationInfo
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import CStoreRequest
from isocenter.doors.scp.statuses import answer_to_error, answer_to_outcome
from isocenter.doors.scp.witness import AssociationWitness
from isocenter.features.ae_titles.admission import Admission
from isocenter.features.ae_titles.callers import Grant
from isocenter.features.ae_titles.entries import AeService
from isocenter.features.archive.entry import Declared, Outcome, Received, Source, patient_told_by
from isocenter.features.archive.ingest import Ingest, Reception
from isocenter.features.archive.policies import BatchPolicy
from isocenter.kit.errors import IsocenterError
from isocenter.platform.telemetry import get_logger
from isocenter.platform.telemetry.privacy import logged_uid
from isocenter.platform.telemetry.tokens import LoggedPatient

log = get_logger(__name__)

DOOR = "dimse"


class IngestSink:
    """One object's road; implements ``dimse.net.service.StoreSink``."""

    __slots__ = (
        "_admission",
        "_association",
        "_grant",
        "_ingest",
        "_patient",
        "_reception",
        "_request",
        "_witness",
    )

    def __init__(
        self,
        ingest: Ingest,
        admission: Admission,
        association: AssociationInfo,
        request: CStoreRequest,
        transfer_syntax_uid: str,
        *,
        witness: AssociationWitness,
    ) -> None:
        self._ingest = ingest
        self._grant: Grant = association.grant
        self._admission = admission
        self._association = association
        self._request = request
        self._witness = witness
        self._patient = ("", "")
        self._reception: Reception = ingest.receive(
            self._grant.organization_id,
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
            if not await self._admission.upholds(self._grant, AeService.STORE):
                await self._reception.abort()
                self._witness.stored(self._association, "", "failed")
                return self._told(Answer(statuses.NOT_AUTHORIZED))
            received = await self._reception.finish()
            self._patient = patient_told_by(received)
            [outcome] = await self._commit(received)
        except IsocenterError as error:
            self._witness.stored(self._association, "", "failed")
            return self._told(answer_to_error(error), error.code)
        self._witness.stored(self._association, outcome.study_instance_uid, outcome.kind.value)
        answer = answer_to_outcome(outcome)
        if outcome.kind.accepted:
            return answer
        return self._told(answer, *(problem.code for problem in outcome.problems))

    async def abort(self) -> None:
        await self._reception.abort()

    async def _commit(self, received: Received) -> list[Outcome]:
        """All-or-nothing is said of requests with many objects; a bad one of a C-STORE goes to quarantine."""
        policies = await self._ingest.policies.of(self._grant.organization_id)
        if policies.batch is not BatchPolicy.ACCEPT_VALID:
            policies = replace(policies, batch=BatchPolicy.ACCEPT_VALID)
        return await self._ingest.commit(self._grant.organization_id, [received], policies)

    async def _waited(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except IsocenterError as error:
            raise self._failure(error) from error

    def _failure(self, error: IsocenterError) -> DimseFailure:
        self._witness.stored(self._association, "", "failed")
        answer = self._told(answer_to_error(error), error.code)
        return DimseFailure(answer.status, answer.comment, answer.offending_elements)

    def _told(self, answer: Answer, *codes: str) -> Answer:
        """One log line for an object that was not archived; UIDs are no patient data (PS3.5 §9)."""
        issuer, patient_id = self._patient
        log.warning(
            "Object not archived",
            calling_ae_title=self._association.calling_ae_title,
            peer_host=self._association.peer_host,
            sop_class_uid=logged_uid(self._request.affected_sop_class_uid),
            sop_instance_uid=logged_uid(self._request.affected_sop_instance_uid),
            patient_token=LoggedPatient(self._grant.organization_id, issuer, patient_id),
            status=f"{answer.status:04X}",
            reason=answer.comment,
            codes=",".join(dict.fromkeys(codes)),
        )
        return answer
