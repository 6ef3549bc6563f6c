"""What HTTP routes tell the audit trail: one event a request, however it ended."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.requests import Request

from isocenter.doors.http.gate import client_address
from isocenter.kit.errors import IsocenterError
from isocenter.platform.security import Action, EventOutcome, Recorder, Subject, event_of

Told = dict[str, str | int | float | bool | None]


def caller(request: Request) -> Subject:
    """The admitted subject, with where the request came from also where nobody logged in."""
    subject: Subject = request.state.subject
    return subject if subject.address else replace(subject, address=client_address(request))


class Witness:
    """Of one kind of resource."""

    def __init__(self, recorder: Recorder, resource_kind: str) -> None:
        self._recorder = recorder
        self._resource_kind = resource_kind

    @contextlib.asynccontextmanager
    async def of(
        self, request: Request, action: Action, resource_id: str = "", *, durable: bool = False
    ) -> AsyncIterator[Told]:
        """Around what an admitted subject does; add details to what is yielded. ``durable``: the answer waits
        until the trail is written, for what must not go unwitnessed.

        A full trail raises Busy after the deed, not before it; it is full while the database is away, and
        then there is no deed either.
        """
        told: Told = {}
        try:
            yield told
        except Exception as error:
            told["reason"] = error.code if isinstance(error, IsocenterError) else type(error).__name__
            self._record(request, action, resource_id, EventOutcome.FAILED, told)
            raise
        self._record(request, action, resource_id, EventOutcome.SUCCESS, told)
        if durable:
            await self._recorder.settled()

    def _record(
        self, request: Request, action: Action, resource_id: str, outcome: EventOutcome, told: Told
    ) -> None:
        self._recorder.record(
            event_of(
                caller(request),
                action,
                outcome=outcome,
                resource_kind=self._resource_kind,
                resource_id=resource_id,
                details=told,
                trace_id=request.state.trace_id,
            )
        )
