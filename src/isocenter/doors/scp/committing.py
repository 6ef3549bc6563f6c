"""Storage commitment, Push Model (PS3.4 J): SCP for those who store here; reports from where we store.

A request is answered once it would survive a crash; what it asks for is looked at after that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from isocenter.dicom.sop_classes import STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import AskPeer, AssociationInfo, NAnswer
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import NActionRequest, NEventReportRequest, NRequest, sop_instance_uid
from isocenter.doors.scp.outgoing import Outgoing
from isocenter.doors.scp.statuses import comment
from isocenter.doors.scp.witness import AssociationWitness
from isocenter.features.ae_titles.admission import Admission
from isocenter.features.ae_titles.callers import Grant
from isocenter.features.ae_titles.entries import AeService
from isocenter.features.archive.holding import Holding, holdings
from isocenter.features.commitment.entries import Commitment, FailureReason, Reference
from isocenter.features.commitment.ledger import Ledger
from isocenter.features.commitment.messages import (
    COMPLETE,
    FAILURES_EXIST,
    REQUEST_STORAGE_COMMITMENT,
    Report,
    read_report,
    read_request,
)
from isocenter.features.commitment.worker import CommitmentWorker
from isocenter.kit.clock import Clock
from isocenter.kit.errors import IsocenterError, Kind
from isocenter.platform.db import Database
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

_REASONS = {
    Holding.HELD: FailureReason.COMMITTED,
    Holding.ABSENT: FailureReason.NO_SUCH_OBJECT_INSTANCE,
    Holding.OTHER_CLASS: FailureReason.CLASS_INSTANCE_CONFLICT,
    Holding.DAMAGED: FailureReason.PROCESSING_FAILURE,
}


@dataclass(frozen=True, slots=True)
class Committing:
    """The service's side; ``worker`` reports."""

    worker: CommitmentWorker
    admission: Admission
    witness: AssociationWitness

    async def n_action(
        self, association: AssociationInfo, request: NActionRequest, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        grant: Grant = association.grant
        reason, transaction_uid, references = "not-authorized", "", list[Reference]()
        try:
            if not await self.admission.upholds(grant, AeService.COMMIT):
                raise DimseFailure(statuses.NOT_AUTHORIZED)
            reason = "not understood"
            _check_instance(request)
            if request.action_type_id != REQUEST_STORAGE_COMMITMENT:
                raise DimseFailure(statuses.NO_SUCH_ACTION_TYPE)
            transaction_uid, references = read_request(data_set or b"", syntax)
            commitment = await self.worker.ledger.take_on(
                grant.organization_id,
                ae_title=association.calling_ae_title,
                own_ae_title=association.called_ae_title,
                transaction_uid=transaction_uid,
                references=references,
            )
            reason = ""
        except IsocenterError as error:
            raise _failure(error) from error
        finally:
            self.witness.asked_to_commit(association, transaction_uid, len(references), reason)
        return NAnswer(then=self._reporting(grant.organization_id, commitment, syntax))

    async def n_event_report(
        self, association: AssociationInfo, request: NEventReportRequest, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        """Over an association that the other has opened."""
        grant: Grant = association.grant
        if not await self.admission.upholds(grant, AeService.COMMIT):
            raise DimseFailure(statuses.NOT_AUTHORIZED)
        return await heard(self.worker.ledger, grant.organization_id, request, data_set, syntax)

    def _reporting(
        self, organization_id: int, commitment: Commitment, syntax: str
    ) -> Callable[[AskPeer], Awaitable[None]]:
        async def report(ask: AskPeer) -> None:
            await self.worker.report_over(organization_id, commitment, ask, syntax)

        return report


async def heard(
    ledger: Ledger, organization_id: int, request: NEventReportRequest, data_set: bytes | None, syntax: str
) -> NAnswer:
    """The answer to a report, which is durable then. Raises DimseFailure."""
    _check_instance(request)
    if request.event_type_id not in {COMPLETE, FAILURES_EXIST}:
        raise DimseFailure(statuses.NO_SUCH_EVENT_TYPE)
    try:
        report = read_report(data_set or b"", syntax)
        commitment = await ledger.answered(organization_id, report)
    except IsocenterError as error:
        raise _failure(error) from error
    _log_report(report, commitment)
    return NAnswer(fields={"event_type_id": request.event_type_id})


def commitment_worker(
    database: Database, store: ObjectStore, clock: Clock, outgoing: Outgoing
) -> CommitmentWorker:
    """Composed of the archive, which is to hold what we commit to, and of the destinations that are told."""
    ledger = Ledger(database, clock)

    async def judge(organization_id: int, references: Sequence[Reference]) -> list[int]:
        found = await holdings(database, store, organization_id, references)
        return [int(_REASONS[one]) for one in found]

    async def hear(organization_id: int, request: NRequest, data_set: bytes | None, syntax: str) -> NAnswer:
        if not isinstance(request, NEventReportRequest):
            raise DimseFailure(statuses.UNRECOGNIZED_OPERATION)
        return await heard(ledger, organization_id, request, data_set, syntax)

    return CommitmentWorker(ledger, judge, outgoing.association, hear)


def _check_instance(request: NRequest) -> None:
    """Raises DimseFailure for any other than the well-known SOP Instance (PS3.4 J.3.5)."""
    if sop_instance_uid(request) != STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE:
        raise DimseFailure(statuses.NO_SUCH_SOP_INSTANCE)


def _failure(error: IsocenterError) -> DimseFailure:
    """PS3.7 §10.1.1.1.8, §10.1.4.1.10."""
    if isinstance(error, DimseFailure):
        return error
    match error.kind:
        case Kind.INVALID | Kind.CONFLICT | Kind.NOT_FOUND:
            status = statuses.INVALID_ARGUMENT_VALUE
        case Kind.BUSY | Kind.OUT_OF_SPACE | Kind.TOO_LARGE | Kind.RATE_LIMITED:
            status = statuses.RESOURCE_LIMITATION
        case _:
            status = statuses.PROCESSING_FAILURE
    return DimseFailure(status, comment(error.detail))


def _log_report(report: Report, commitment: Commitment) -> None:
    log.info(
        "Storage commitment answered",
        ae_title=commitment.ae_title,
        transaction_uid=report.transaction_uid,
        committed=len(report.committed),
        failed=commitment.failed_count,
    )
