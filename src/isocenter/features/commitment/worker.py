"""Reports what was asked of us, asks what is to be asked: again and again until the other has heard it.

At least once: who crashes between the other's answer and its own note reports again after the start. Before a
report each object is read to its end; not before somebody is there to hear it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from isocenter.dicom.sop_classes import (
    STORAGE_COMMITMENT_PUSH_MODEL,
    STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
)
from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.net.service import AskPeer, AssociationInfo, NAnswer
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import NActionRequest, NEventReportRequest, NRequest
from isocenter.dimse.protocol.user_information import RoleSelection
from isocenter.features.commitment.entries import Commitment, Judged, Reference, Role, State
from isocenter.features.commitment.ledger import LEASE_S, Due, Ledger
from isocenter.features.commitment.messages import REQUEST_STORAGE_COMMITMENT, report_of, request_of
from isocenter.kit.errors import InternalError, IsocenterError, Unavailable
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

CONTEXTS = (Proposal(STORAGE_COMMITMENT_PUSH_MODEL),)
_REPORTING = (RoleSelection(STORAGE_COMMITMENT_PUSH_MODEL, scu_role=False, scp_role=True),)
_AT_ONCE = 4
_PASSING = frozenset({statuses.PROCESSING_FAILURE, statuses.RESOURCE_LIMITATION})

Judge = Callable[[int, Sequence[Reference]], Awaitable[list[int]]]
"""Of an organisation's objects: 0 where we take responsibility, else the failure reason; in order."""


Hear = Callable[[int, NRequest, bytes | None, str], Awaitable[NAnswer]]
"""Takes a report to an organisation: the request, its data set and that one's transfer syntax."""


class Associate(Protocol):
    def __call__(
        self,
        organization_id: int,
        title: str,
        contexts: Sequence[Proposal],
        *,
        roles: Sequence[RoleSelection] = (),
        calling_ae_title: str = "",
    ) -> AbstractAsyncContextManager[ClientAssociation]:
        """An association with an organisation's destination. Raises NotFound, Unavailable."""
        ...


class CommitmentWorker:
    """``start``, then ``stop``. ``hear``: takes a report that comes over an association of ours.

    ``poll_s``: how often what is due is looked for; ``nudge`` makes it now. ``hear_s``: how long an
    association stays open after a request, for those who report over the same one.
    """

    def __init__(
        self,
        ledger: Ledger,
        judge: Judge,
        associate: Associate,
        hear: Hear,
        *,
        poll_s: float = 5.0,
        hear_s: float = 5.0,
    ) -> None:
        self.ledger = ledger
        self._judge = judge
        self._associate = associate
        self._hear = hear
        self._poll_s = poll_s
        self._hear_s = hear_s
        self._nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._working: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="commitments")

    async def stop(self) -> None:
        """Leave off; what was begun is taken up again later."""
        tasks = [*self._working, *([self._task] if self._task else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def nudge(self) -> None:
        self._nudged.set()

    async def report_over(
        self, organization_id: int, commitment: Commitment, ask: AskPeer, syntax: str
    ) -> None:
        """Report over the association that the request came on, as long as it lives; else over our own."""
        task = asyncio.current_task()
        assert task is not None
        self._working.add(task)
        try:
            async with self._kept(organization_id, commitment.id):
                await self._report(organization_id, commitment, ask, syntax)
        except Unavailable as error:
            log.info(
                "A commitment is reported over an association of our own",
                ae_title=commitment.ae_title,
                reason=error.detail,
            )
            await self.ledger.try_again(organization_id, commitment.id)
            self.nudge()
        except IsocenterError as error:
            await self._failed(organization_id, commitment, error)
        finally:
            self._working.discard(task)

    async def _run(self) -> None:
        while True:
            self._nudged.clear()
            try:
                due = await self.ledger.due()
                claimed = [one for one in due if await self.ledger.claim(one)]
            except IsocenterError as error:
                log.warning("Commitments cannot be looked at now", reason=error.detail)
                claimed = []
            for one in claimed:
                task = asyncio.create_task(self._work(one), name="commitment")
                self._working.add(task)
                task.add_done_callback(self._working.discard)
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._nudged.wait()
            except TimeoutError:
                pass

    async def _work(self, due: Due) -> None:
        async with self._places:
            try:
                await self._work_on(due.organization_id, await self.ledger.get(due.organization_id, due.id))
            except IsocenterError as error:
                log.warning("A commitment cannot be worked on now", reason=error.detail)

    async def _work_on(self, organization_id: int, commitment: Commitment) -> None:
        doing = self._call_back if commitment.role is Role.SCP else self._ask
        try:
            async with self._kept(organization_id, commitment.id):
                await doing(organization_id, commitment)
        except IsocenterError as error:
            await self._failed(organization_id, commitment, error)
        except Exception as error:
            log.error("A commitment could not be worked on", error=type(error).__name__)
            await self._failed(organization_id, commitment, InternalError("a fault of ours"))

    @contextlib.asynccontextmanager
    async def _kept(self, organization_id: int, commitment_id: int) -> AsyncIterator[None]:
        """Nobody else takes it up meanwhile."""

        async def keep() -> None:
            while True:
                await asyncio.sleep(LEASE_S / 3)
                with contextlib.suppress(IsocenterError):
                    await self.ledger.keep(organization_id, commitment_id)

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    # --- asked of us

    async def _call_back(self, organization_id: int, commitment: Commitment) -> None:
        async with self._associate(
            organization_id,
            commitment.ae_title,
            CONTEXTS,
            roles=_REPORTING,
            calling_ae_title=commitment.own_ae_title,
        ) as association:
            context = association.context_for(STORAGE_COMMITMENT_PUSH_MODEL)
            await self._report(organization_id, commitment, association.n_request, context.transfer_syntax)

    async def _report(
        self, organization_id: int, commitment: Commitment, ask: AskPeer, transfer_syntax_uid: str
    ) -> None:
        """Raises Unavailable where the other cannot be told, or does not take it."""
        references = [one.reference for one in await self.ledger.instances(organization_id, commitment.id)]
        reasons = await self._judge(organization_id, references)
        judged = [Judged(*one) for one in zip(references, reasons, strict=True)]
        event_type, data_set = report_of(
            commitment.transaction_uid, judged, transfer_syntax_uid, commitment.own_ae_title
        )
        request = NEventReportRequest(
            message_id=0,
            affected_sop_class_uid=STORAGE_COMMITMENT_PUSH_MODEL,
            affected_sop_instance_uid=STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
            event_type_id=event_type,
        )
        response, _ = await ask(request, data_set)
        if statuses.family(response.status) is statuses.Family.FAILURE:
            raise Unavailable(f"{commitment.ae_title} answered {statuses.describe(response.status)}")
        await self.ledger.settle(organization_id, commitment.id, judged)
        log.info(
            "Storage commitment reported",
            ae_title=commitment.ae_title,
            transaction_uid=commitment.transaction_uid,
            instances=len(judged),
            failed=sum(reason != 0 for reason in reasons),
        )

    # --- asked by us

    async def _ask(self, organization_id: int, commitment: Commitment) -> None:
        references = [one.reference for one in await self.ledger.instances(organization_id, commitment.id)]
        heard = asyncio.Event()

        async def hear(
            info: AssociationInfo, request: NRequest, data_set: bytes | None, syntax: str
        ) -> NAnswer:
            answer = await self._hear(organization_id, request, data_set, syntax)
            heard.set()
            return answer

        async with self._associate(
            organization_id, commitment.ae_title, CONTEXTS, calling_ae_title=commitment.own_ae_title
        ) as association:
            association.offer_events(hear)
            syntax = association.context_for(STORAGE_COMMITMENT_PUSH_MODEL).transfer_syntax
            request = NActionRequest(
                message_id=0,
                requested_sop_class_uid=STORAGE_COMMITMENT_PUSH_MODEL,
                requested_sop_instance_uid=STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
                action_type_id=REQUEST_STORAGE_COMMITMENT,
            )
            data_set = request_of(commitment.transaction_uid, references, syntax)
            response, _ = await association.n_request(request, data_set)
            if statuses.family(response.status) is statuses.Family.FAILURE:
                said = f"{commitment.ae_title} answered {statuses.describe(response.status)}"
                if response.status in _PASSING:
                    raise Unavailable(said)
                await self.ledger.refused(organization_id, commitment.id, said)
                return
            await self.ledger.asked(organization_id, commitment.id)
            try:
                async with asyncio.timeout(self._hear_s):
                    await heard.wait()
            except TimeoutError:
                pass  # it will call us

    async def _failed(self, organization_id: int, commitment: Commitment, error: IsocenterError) -> None:
        state = await self.ledger.failed(commitment, organization_id, error.detail)
        log.warning(
            "A commitment was given up"
            if state is State.GIVEN_UP
            else "A commitment waits for its other side",
            ae_title=commitment.ae_title,
            transaction_uid=commitment.transaction_uid,
            attempts=commitment.attempts + 1,
            reason=error.detail,
            remedy=error.remedy,
        )
