"""Admission, and who does what: the archive as the DIMSE server's service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from isocenter.dicom.sop_classes import PATIENT_ROOT_FIND
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import (
    Accept,
    Answer,
    AssociationInfo,
    Outcome,
    Peer,
    PendingAnswer,
    Reject,
    StoreSink,
)
from isocenter.dimse.protocol import rejections, statuses
from isocenter.dimse.protocol.messages import CFindRequest, CStoreRequest
from isocenter.dimse.protocol.pdu import AssociateRequest
from isocenter.dimse.protocol.user_information import (
    AsynchronousOperationsWindow,
    UserIdentity,
    UserIdentityType,
)
from isocenter.doors.scp.contexts import (
    FIND_SOP_CLASSES,
    asks_for_combined_datetime,
    negotiate_contexts,
    settle_extended,
    settle_roles,
)
from isocenter.doors.scp.finding import find_answers
from isocenter.doors.scp.identifiers import parse_identifier
from isocenter.doors.scp.statuses import answer_to_error
from isocenter.doors.scp.storing import IngestSink
from isocenter.features.ae_titles.admission import Admission
from isocenter.features.ae_titles.entries import RefusalReason
from isocenter.features.archive.ingest import Ingest
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import Database
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

# 0 stands for the server's own bound; of us nobody may have more than one operation open at a time.
_WINDOW = AsynchronousOperationsWindow(invoked=0, performed=1)


@dataclass(frozen=True, slots=True)
class _Door:
    database: Database
    ingest: Ingest
    admission: Admission
    organization_id: int
    ae_titles: frozenset[str]
    accept_unknown_sop_classes: bool


class DicomService(_Door):
    """Verification, Storage and Query/Retrieve FIND as SCP; implements ``dimse.net.service.Service``."""

    __slots__ = ()

    async def admit(self, request: AssociateRequest, peer: Peer) -> Accept | Reject:
        calling, called = request.calling_ae_title, request.called_ae_title
        if called not in self.ae_titles:
            self.admission.refuse(calling, peer.host, called, RefusalReason.CALLED_NOT_OURS)
            return rejections.CALLED_AE_TITLE_NOT_RECOGNIZED
        try:
            admitted = await self.admission.admits(calling, peer.host, called)
        except IsocenterError as error:
            log.warning("Nobody can be let in now", reason=error.detail, remedy=error.remedy)
            return rejections.TEMPORARY_CONGESTION
        if not admitted:
            return rejections.CALLING_AE_TITLE_NOT_RECOGNIZED
        proposed = request.user_information
        unknown = self.accept_unknown_sop_classes
        return Accept(
            negotiate_contexts(request.contexts, accept_unknown_sop_classes=unknown),
            roles=settle_roles(proposed.roles, accept_unknown_sop_classes=unknown),
            user_identity_response=_identity_response(proposed.user_identity),
            asynchronous_operations_window=_WINDOW,
            extended_negotiations=settle_extended(proposed.extended_negotiations),
        )

    async def closed(self, association: AssociationInfo, outcome: Outcome) -> None:
        """The network layer logs the association; nothing of ours outlives its operations."""

    async def echo(self, association: AssociationInfo) -> Answer:
        return Answer()

    def store(
        self, association: AssociationInfo, request: CStoreRequest, transfer_syntax_uid: str
    ) -> StoreSink:
        return IngestSink(self.ingest, self.organization_id, association, request, transfer_syntax_uid)

    async def find(
        self,
        association: AssociationInfo,
        request: CFindRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
    ) -> AsyncIterator[PendingAnswer]:
        sop_class_uid = request.affected_sop_class_uid
        if sop_class_uid not in FIND_SOP_CLASSES:
            raise DimseFailure(statuses.SOP_CLASS_NOT_SUPPORTED)
        extended = association.extended_negotiations
        try:
            asked = parse_identifier(
                identifier,
                transfer_syntax_uid,
                patient_root=sop_class_uid == PATIENT_ROOT_FIND,
                combined_datetime=asks_for_combined_datetime(extended, sop_class_uid),
            )
            answers = find_answers(
                self.database, self.organization_id, asked, transfer_syntax_uid, association.called_ae_title
            )
            async for answer in answers:
                yield answer
        except DimseFailure:
            raise
        except IsocenterError as error:
            log.warning(
                "Query not answered",
                calling_ae_title=association.calling_ae_title,
                peer_host=association.peer_host,
                reason=error.detail,
            )
            answer_to = answer_to_error(error)
            raise DimseFailure(answer_to.status, answer_to.comment) from error


def _identity_response(identity: UserIdentity | None) -> bytes | None:
    """PS3.7 D.3.3.7.2: an empty response says that the identity was taken note of. Only AE titles decide
    who may do what, so every identity is; for Kerberos we have no ticket to answer with."""
    if identity is None or not identity.response_requested:
        return None
    return None if identity.identity_type == UserIdentityType.KERBEROS else b""
