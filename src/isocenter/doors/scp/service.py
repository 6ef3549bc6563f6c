"""Admission, and who does what: the archive as the DIMSE server's service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

from isocenter.dicom.sop_classes import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    MODALITY_WORKLIST_FIND,
    STORAGE_COMMITMENT_PUSH_MODEL,
)
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import (
    Accept,
    Answer,
    AssociationInfo,
    NAnswer,
    Outcome,
    Peer,
    PendingAnswer,
    Reject,
    SendSubOperation,
    StoreSink,
    SubOperations,
)
from isocenter.dimse.protocol import rejections, statuses
from isocenter.dimse.protocol.messages import (
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    NActionRequest,
    NCreateRequest,
    NEventReportRequest,
    NGetRequest,
    NSetRequest,
)
from isocenter.dimse.protocol.pdu import AssociateRequest
from isocenter.dimse.protocol.user_information import (
    AsynchronousOperationsWindow,
    UserIdentity,
    UserIdentityType,
)
from isocenter.doors.scp.committing import Committing
from isocenter.doors.scp.contexts import (
    FIND_SOP_CLASSES,
    negotiate_contexts,
    negotiated_matching,
    settle_extended,
    settle_roles,
)
from isocenter.doors.scp.finding import find_answers
from isocenter.doors.scp.identifiers import MODEL_OF, Asked, parse_identifier
from isocenter.doors.scp.identity import IdentityVerifier, narrowed
from isocenter.doors.scp.performing import Performing
from isocenter.doors.scp.retrieving import Retriever
from isocenter.doors.scp.spanned import SPANNED_SERVICES, SpannedArchives, find_spanned
from isocenter.doors.scp.statuses import answer_to_error
from isocenter.doors.scp.storing import IngestSink
from isocenter.doors.scp.witness import AssociationWitness
from isocenter.doors.scp.worklist import ModalityWorklist
from isocenter.features.ae_titles.admission import Admission
from isocenter.features.ae_titles.callers import Caller, Grant
from isocenter.features.ae_titles.certificates import peer_certificate
from isocenter.features.ae_titles.entries import AeService, RefusalReason
from isocenter.features.archive.ingest import Ingest
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import Database
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

# 0 stands for the server's own bound, in both directions.
_WINDOW = AsynchronousOperationsWindow(invoked=0, performed=0)


@dataclass(frozen=True, slots=True)
class _Door:
    database: Database
    ingest: Ingest
    admission: Admission
    ae_titles: frozenset[str]
    accept_unknown_sop_classes: bool
    witness: AssociationWitness
    retriever: Retriever
    committing: Committing
    worklist: ModalityWorklist
    performing: Performing
    spanned: SpannedArchives | None = None
    verifier: IdentityVerifier | None = None


class DicomService(_Door):
    """Verification, Storage, Query/Retrieve and Storage Commitment as SCP; implements
    ``dimse.net.service.Service``."""

    __slots__ = ()

    async def admit(self, request: AssociateRequest, peer: Peer) -> Accept | Reject:
        caller, called = _caller(request, peer), request.called_ae_title
        proposed = request.user_information
        try:
            spanned_for = await self._spanned_for(called)
            if called not in self.ae_titles and spanned_for is None:
                return self._not_ours(caller, called)
            granted = await self.admission.admit(caller, called)
            if granted is None:  # the same for whatever is wrong with it: nobody learns what is registered
                self.witness.refused(
                    caller.ae_title, caller.host, called, RefusalReason.CALLING_NOT_REGISTERED
                )
                return rejections.CALLING_AE_TITLE_NOT_RECOGNIZED
            if spanned_for is not None:
                if granted.organization_id != spanned_for:
                    return self._not_ours(caller, called)
                granted = replace(granted, services=granted.services & SPANNED_SERVICES, spans=True)
            grant = await self._identified(granted, proposed.user_identity, called)
        except IsocenterError as error:
            log.warning("Nobody can be let in now", reason=error.detail, remedy=error.remedy)
            return rejections.TEMPORARY_CONGESTION
        if grant is None:
            return rejections.NO_REASON
        unknown = self.accept_unknown_sop_classes
        return Accept(
            negotiate_contexts(
                request.contexts,
                accept_unknown_sop_classes=unknown,
                services=grant.services,
                roles=proposed.roles,
            ),
            roles=settle_roles(proposed.roles, accept_unknown_sop_classes=unknown, services=grant.services),
            user_identity_response=_identity_response(proposed.user_identity),
            asynchronous_operations_window=_WINDOW,
            extended_negotiations=settle_extended(proposed.extended_negotiations),
            grant=grant,
        )

    async def _spanned_for(self, called: str) -> int | None:
        """Whose archives are asked under that title; None: it is ours, or nobody's. Raises Unavailable."""
        if self.spanned is None or called in self.ae_titles:
            return None
        return await self.spanned.organization_of(called)

    def _not_ours(self, caller: Caller, called: str) -> Reject:
        self.admission.refuse(caller, called, RefusalReason.CALLED_NOT_OURS)
        self.witness.refused(caller.ae_title, caller.host, called, RefusalReason.CALLED_NOT_OURS)
        return rejections.CALLED_AE_TITLE_NOT_RECOGNIZED

    async def _identified(self, grant: Grant, identity: UserIdentity | None, called: str) -> Grant | None:
        if self.verifier is None:
            return grant
        found = await narrowed(grant, identity, self.verifier)
        if found is None:
            self.admission.refuse(
                grant.caller,
                called,
                RefusalReason.IDENTITY_NOT_ACCEPTED,
                organization_id=grant.organization_id,
            )
            self.witness.refused(
                grant.caller.ae_title,
                grant.caller.host,
                called,
                RefusalReason.IDENTITY_NOT_ACCEPTED,
                organization_id=grant.organization_id,
            )
        return found

    async def closed(self, association: AssociationInfo, outcome: Outcome) -> None:
        """The network layer logs the association."""
        self.witness.closed(association)

    async def echo(self, association: AssociationInfo) -> Answer:
        upheld = await self.admission.upholds(association.grant)
        return Answer() if upheld else Answer(statuses.NOT_AUTHORIZED)

    def store(
        self, association: AssociationInfo, request: CStoreRequest, transfer_syntax_uid: str
    ) -> StoreSink:
        if AeService.STORE not in association.grant.services:
            self.witness.stored(association, "", "failed")
            raise DimseFailure(statuses.NOT_AUTHORIZED)
        return IngestSink(
            self.ingest, self.admission, association, request, transfer_syntax_uid, witness=self.witness
        )

    async def find(
        self,
        association: AssociationInfo,
        request: CFindRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
    ) -> AsyncIterator[PendingAnswer]:
        sop_class_uid = request.affected_sop_class_uid
        if sop_class_uid == MODALITY_WORKLIST_FIND:
            async with aclosing(self.worklist.find(association, identifier, transfer_syntax_uid)) as items:
                async for item in items:
                    yield item
            return
        if sop_class_uid not in FIND_SOP_CLASSES:
            raise DimseFailure(statuses.SOP_CLASS_NOT_SUPPORTED)
        extended = association.extended_negotiations
        grant: Grant = association.grant
        if not await self.admission.upholds(grant, AeService.FIND):
            self.witness.found(association, None, 0, "not-authorized")
            raise DimseFailure(statuses.NOT_AUTHORIZED)
        asked: Asked | None = None
        answered, reason = 0, "cancelled"
        try:
            asked = parse_identifier(
                identifier,
                transfer_syntax_uid,
                model=MODEL_OF[sop_class_uid],
                negotiated=negotiated_matching(extended, sop_class_uid),
            )
            async for answer in self._answers(association, asked, transfer_syntax_uid):
                answered += 1
                yield answer
            reason = ""
        except DimseFailure as failure:
            reason = failure.comment or f"status {failure.status:04X}"
            raise
        except IsocenterError as error:
            reason = error.code
            log.warning(
                "Query not answered",
                calling_ae_title=association.calling_ae_title,
                peer_host=association.peer_host,
                code=error.code,  # its detail quotes what was asked for
            )
            answer_to = answer_to_error(error)
            raise DimseFailure(answer_to.status, answer_to.comment) from error
        finally:
            self.witness.found(association, None if asked is None else asked.query, answered, reason)

    def _answers(
        self, association: AssociationInfo, asked: Asked, transfer_syntax_uid: str
    ) -> AsyncIterator[PendingAnswer]:
        """Of this archive, or of all that the called title stands for."""
        called = association.called_ae_title
        if self.spanned is not None and association.grant.spans:
            return find_spanned(self.spanned, association, asked, transfer_syntax_uid)
        organization_id = association.grant.organization_id
        return find_answers(self.database, organization_id, asked, transfer_syntax_uid, called)

    def move(
        self,
        association: AssociationInfo,
        request: CMoveRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
        cancelled: asyncio.Event,
    ) -> AsyncIterator[SubOperations]:
        return self.retriever.move(association, request, identifier, transfer_syntax_uid, cancelled)

    def get(  # noqa: PLR0917
        self,
        association: AssociationInfo,
        request: CGetRequest,
        identifier: bytes,
        transfer_syntax_uid: str,
        cancelled: asyncio.Event,
        send: SendSubOperation,
    ) -> AsyncIterator[SubOperations]:
        return self.retriever.get(association, request, identifier, transfer_syntax_uid, cancelled, send)

    async def n_action(
        self, association: AssociationInfo, request: NActionRequest, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        if request.requested_sop_class_uid == STORAGE_COMMITMENT_PUSH_MODEL:
            return await self.committing.n_action(association, request, data_set, syntax)
        raise DimseFailure(statuses.NO_SUCH_SOP_CLASS)

    async def n_event_report(
        self, association: AssociationInfo, request: NEventReportRequest, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        if request.affected_sop_class_uid == STORAGE_COMMITMENT_PUSH_MODEL:
            return await self.committing.n_event_report(association, request, data_set, syntax)
        raise DimseFailure(statuses.NO_SUCH_SOP_CLASS)

    async def n_create(
        self, association: AssociationInfo, request: NCreateRequest, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        if request.affected_sop_class_uid == MODALITY_PERFORMED_PROCEDURE_STEP:
            return await self.performing.n_create(association, request, data_set, syntax)
        raise DimseFailure(statuses.NO_SUCH_SOP_CLASS)

    async def n_set(
        self, association: AssociationInfo, request: NSetRequest, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        if request.requested_sop_class_uid == MODALITY_PERFORMED_PROCEDURE_STEP:
            return await self.performing.n_set(association, request, data_set, syntax)
        raise DimseFailure(statuses.NO_SUCH_SOP_CLASS)

    async def n_get(
        self, association: AssociationInfo, request: NGetRequest, _: bytes | None, syntax: str
    ) -> NAnswer:
        if request.requested_sop_class_uid == MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE:
            return await self.performing.n_get(association, request, syntax)
        raise DimseFailure(statuses.NO_SUCH_SOP_CLASS)


def _caller(request: AssociateRequest, peer: Peer) -> Caller:
    shown = peer_certificate(peer.certificate_der, peer.certificate or {}) if peer.certificate_der else None
    return Caller(request.calling_ae_title, peer.host, shown)


def _identity_response(identity: UserIdentity | None) -> bytes | None:
    """PS3.7 D.3.3.7.2: an empty response says that the identity was taken note of: what was wrong with it
    would have ended the association before. For Kerberos we have no ticket to answer with."""
    if identity is None or not identity.response_requested:
        return None
    return None if identity.identity_type == UserIdentityType.KERBEROS else b""
