"""Objects that we have fetched from another archive (C-GET): into ours, by the same road as all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace

from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import Answer, StoreSink
from isocenter.dimse.protocol.messages import CStoreRequest
from isocenter.doors.scp.statuses import answer_to_error, answer_to_outcome
from isocenter.features.archive.entry import Declared, Outcome, OutcomeKind, Source
from isocenter.features.archive.ingest import Ingest, Reception
from isocenter.features.archive.policies import BatchPolicy
from isocenter.kit.errors import IsocenterError

DOOR = "c-get"


@dataclass(slots=True)
class Fetched:
    """Takes what ``ae_title`` sends us; ``receive`` is what C-GET asks for. ``outcomes`` counts what became
    of it, ``studies`` by study; ``failures`` are SOP Instance UIDs with the reason, the first of them."""

    ingest: Ingest
    organization_id: int
    ae_title: str
    outcomes: Counter[OutcomeKind] = field(default_factory=Counter)
    studies: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    failures_max: int = 1000

    def receive(self, request: CStoreRequest, transfer_syntax_uid: str) -> StoreSink:
        declared = Declared(
            request.affected_sop_class_uid, request.affected_sop_instance_uid, transfer_syntax_uid
        )
        reception = self.ingest.receive(self.organization_id, Source(DOOR, self.ae_title), declared)
        return _Sink(self, request.affected_sop_instance_uid, reception)

    def note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.kind] += 1
        study = self.studies.setdefault(outcome.study_instance_uid, Counter())
        study[outcome.kind.value] += 1

    def failed(self, sop_instance_uid: str, reason: str) -> None:
        if len(self.failures) < self.failures_max:
            self.failures.append((sop_instance_uid, reason))


@dataclass(slots=True)
class _Sink:
    """One object's road; implements ``dimse.net.service.StoreSink``."""

    fetched: Fetched
    sop_instance_uid: str
    reception: Reception

    def write(self, fragment: memoryview) -> Awaitable[None] | None:
        try:
            waiting = self.reception.write(fragment)
        except IsocenterError as error:
            raise self._failure(error) from error
        return None if waiting is None else self._waited(waiting)

    async def finish(self) -> Answer:
        """Success only when object and index entry are durable."""
        fetched = self.fetched
        try:
            received = await self.reception.finish()
            policies = await fetched.ingest.policies.of(fetched.organization_id)
            policies = replace(policies, batch=BatchPolicy.ACCEPT_VALID)
            [outcome] = await fetched.ingest.commit(fetched.organization_id, [received], policies)
        except IsocenterError as error:
            fetched.failed(self.sop_instance_uid, error.detail)
            return answer_to_error(error)
        fetched.note(outcome)
        answer = answer_to_outcome(outcome)
        if not outcome.kind.accepted:
            fetched.failed(self.sop_instance_uid, answer.comment)
        return answer

    async def abort(self) -> None:
        await self.reception.abort()

    async def _waited(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except IsocenterError as error:
            raise self._failure(error) from error

    def _failure(self, error: IsocenterError) -> DimseFailure:
        self.fetched.failed(self.sop_instance_uid, error.detail)
        answer = answer_to_error(error)
        return DimseFailure(answer.status, answer.comment)
