"""Modality Performed Procedure Step as SCP (PS3.4 F.7), and its retrieval (F.8)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import AssociationInfo, NAnswer
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import NCreateRequest, NGetRequest, NSetRequest
from isocenter.doors.scp.statuses import comment
from isocenter.doors.scp.witness import AssociationWitness
from isocenter.features.ae_titles.admission import Admission
from isocenter.features.ae_titles.callers import Grant
from isocenter.features.ae_titles.entries import AeService
from isocenter.features.worklist.datasets import chosen, text
from isocenter.features.worklist.encoding import from_dimse, to_dimse
from isocenter.features.worklist.performed import (
    STATUS,
    NoSuchPerformedStep,
    PerformedStepExists,
    PerformedStepInvalid,
    PerformedStepOver,
    PerformedSteps,
)
from isocenter.kit.errors import IsocenterError, Kind
from isocenter.platform.security import Action

_MAY_NO_LONGER_BE_UPDATED = 0xA710  # error ID (PS3.4 F.7.2.2.3)


@dataclass(slots=True)
class _Told:
    """What the trail will hear of an operation."""

    action: Action
    uid: str
    state: str = ""
    reason: str = "failed"


@dataclass(frozen=True, slots=True)
class Performing:
    """Steps are durable before their creation or change is answered."""

    steps: PerformedSteps
    admission: Admission
    witness: AssociationWitness

    async def n_create(
        self, association: AssociationInfo, request: NCreateRequest, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        grant: Grant = association.grant
        with self._told(association, Action.STORE, request.affected_sop_instance_uid or "") as told:
            await self._check_grant(grant)
            given = from_dimse(data_set or b"", syntax)
            told.state = text(given, STATUS).strip()
            try:
                told.uid = await self.steps.create(
                    grant.organization_id, given, uid=told.uid, ae_title=association.calling_ae_title
                )
            except IsocenterError as error:
                if answer := _refusal(error, told):
                    return answer
                raise
            told.reason = ""
            return NAnswer(fields={"affected_sop_instance_uid": told.uid})

    async def n_set(
        self, association: AssociationInfo, request: NSetRequest, data_set: bytes | None, syntax: str
    ) -> NAnswer:
        grant: Grant = association.grant
        with self._told(association, Action.CHANGE, request.requested_sop_instance_uid) as told:
            await self._check_grant(grant)
            given = from_dimse(data_set or b"", syntax)
            told.state = text(given, STATUS).strip()
            try:
                left = await self.steps.set(grant.organization_id, told.uid, given)
            except IsocenterError as error:
                if answer := _refusal(error, told):
                    return answer
                raise
            told.reason = ""
            if left:
                # They may not change (Table F.7.2-1); the rest was done.
                return NAnswer(
                    statuses.WARNING_ATTRIBUTE_LIST_ERROR, fields={"attribute_identifier_list": left}
                )
            return NAnswer()

    async def n_get(self, association: AssociationInfo, request: NGetRequest, syntax: str) -> NAnswer:
        grant: Grant = association.grant
        with self._told(association, Action.READ, request.requested_sop_instance_uid) as told:
            await self._check_grant(grant)
            step = await self.steps.find(grant.organization_id, told.uid)
            told.state, told.reason = step.state.value, ""
            wanted = request.attribute_identifier_list
            document = chosen(step.document, wanted) if wanted else step.document
            return NAnswer(data_set=to_dimse(document, syntax))

    async def _check_grant(self, grant: Grant) -> None:
        if not await self.admission.upholds(grant, AeService.WORKLIST):
            raise DimseFailure(statuses.NOT_AUTHORIZED)

    @contextlib.contextmanager
    def _told(self, association: AssociationInfo, action: Action, uid: str) -> Iterator[_Told]:
        """Tells the trail how it ended, and turns what was raised into a status."""
        told = _Told(action, uid)
        try:
            yield told
        except DimseFailure as failure:
            told.reason = f"status {failure.status:04X}"
            raise
        except IsocenterError as error:
            told.reason = error.code
            raise DimseFailure(_status(error), comment(error.detail)) from error
        finally:
            self.witness.performs(association, action, told.uid, told.state, told.reason)


def _refusal(error: IsocenterError, told: _Told) -> NAnswer | None:
    """Refusals that say more than a status can."""
    told.reason = error.code
    if isinstance(error, PerformedStepOver):
        return NAnswer(
            statuses.PROCESSING_FAILURE,
            "performed procedure step may no longer be updated",
            fields={"error_id": _MAY_NO_LONGER_BE_UPDATED},
        )
    if isinstance(error, PerformedStepInvalid):
        for status, tags in (
            (statuses.MISSING_ATTRIBUTE, error.missing),
            (statuses.MISSING_ATTRIBUTE_VALUE, error.empty),
            (statuses.INVALID_ATTRIBUTE_VALUE, error.wrong),
        ):
            if tags:
                return NAnswer(status, comment(error.detail), tags)
    return None


def _status(error: IsocenterError) -> int:
    """PS3.7 §10.1.5.1.6 and §10.1.3.1.9."""
    if isinstance(error, PerformedStepExists):
        return statuses.DUPLICATE_SOP_INSTANCE
    if isinstance(error, NoSuchPerformedStep):
        return statuses.NO_SUCH_SOP_INSTANCE
    match error.kind:
        case Kind.INVALID:
            invalid_uid = error.code == "invalid-uid"
            return statuses.INVALID_SOP_INSTANCE if invalid_uid else statuses.INVALID_ATTRIBUTE_VALUE
        case Kind.BUSY | Kind.OUT_OF_SPACE | Kind.TOO_LARGE | Kind.RATE_LIMITED:
            return statuses.RESOURCE_LIMITATION
        case _:
            return statuses.PROCESSING_FAILURE
