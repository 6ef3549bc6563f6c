"""Objects one after the other over an association, as many at once as its window allows.

The association may be ours (C-STORE of whatever is to be sent, sub-operations of a C-MOVE) or the one that a
C-GET came on: a ``Channel`` either way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from isocenter.dimse.net.bodies import Body
from isocenter.dimse.net.errors import AssociationAborted, DimseFailure, DimseTimeout
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import CStoreResponse
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.dimse.scu.reading_ahead import ReadAhead
from isocenter.dimse.scu.rewriting import UNCOMPRESSED, Conversions
from isocenter.kit.errors import IsocenterError

ATTEMPTS_MAX = 4
_FIRST_PAUSE_S = 1.0
_PAUSE_MAX_S = 30.0
_BROKEN_MAX = 3
"""So many objects in a row that ended with a broken association mean that it is not the objects. A peer that
says nothing for as long as it is given, as often as an object is tried, is given up at once."""


class SendOutcome(StrEnum):
    STORED = "stored"
    WARNING = "stored-with-warning"
    REFUSED = "refused"  # the peer answered with a failure
    NOT_ACCEPTED = "not-accepted"  # the peer takes no such objects, or not in that transfer syntax
    FAILED = "failed"  # it could not be read, or the peer could not be spoken to

    @property
    def arrived(self) -> bool:
        return self in {SendOutcome.STORED, SendOutcome.WARNING}


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one object. ``status`` is the peer's, where it answered; ``says`` is for people;
    ``rewritten_to`` the transfer syntax it was sent in, where that is not its own."""

    object: OutgoingObject
    outcome: SendOutcome
    says: str
    status: int | None = None
    attempts: int = 1
    rewritten_to: str = ""


@dataclass(slots=True)
class Waiting:
    object: OutgoingObject
    attempts: int = 0


class Channel(Protocol):
    """An association that takes objects."""

    @property
    def window(self) -> int:
        """How many may be under way at once."""
        ...

    @property
    def usable(self) -> bool: ...

    def accepted(self, sop_class_uid: str) -> Collection[str]:
        """The transfer syntaxes in which its objects are taken."""
        ...

    def why_not_accepted(self, one: OutgoingObject) -> str: ...

    async def store(self, one: OutgoingObject, transfer_syntax_uid: str, body: Body) -> CStoreResponse:
        """The response with success or a warning. Raises DimseFailure, AssociationAborted, DimseTimeout."""
        ...


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """``preferred``: transfer syntaxes that the receiver likes best, as far as they can be had. ``pause``
    waits between attempts."""

    attempts_max: int = ATTEMPTS_MAX
    preferred: tuple[str, ...] = ()
    conversions: Conversions = UNCOMPRESSED
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


class Sender:
    """Sends what waits over one channel after the other; ``tell`` hears of each object once.

    ``done`` counts those; ``stopped`` says why the rest is not tried, once the peer has shown that it is of
    no use; with ``leave`` set nothing new is begun.
    """

    def __init__(self, tell: Callable[[Sent], None], policy: SendPolicy) -> None:
        self._tell = tell
        self._policy = policy
        self._read_ahead = ReadAhead()
        self._turn = asyncio.Lock()
        self._unanswered = 0
        self.done = 0
        self.leave = False
        self.stopped: IsocenterError | None = None

    async def over(
        self,
        channel: Channel,
        waiting: deque[Waiting],
        *,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send until nothing waits, the channel ends, or it is ``enough``; what was not done waits on."""
        lanes = min(channel.window, len(waiting))
        if lanes <= 1:
            await self._lane(channel, waiting, enough)
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(self._lane(channel, waiting, enough))

    async def close(self) -> None:
        await self._read_ahead.close()

    def told(self, sent: Sent) -> None:
        self.done += 1
        self._tell(sent)

    @property
    def goes_on(self) -> bool:
        return not self.leave and self.stopped is None

    async def _lane(self, channel: Channel, waiting: deque[Waiting], enough: Callable[[], bool]) -> None:
        while waiting and self.goes_on and channel.usable and not enough():
            await self._send_next(channel, waiting)

    async def _send_next(self, channel: Channel, waiting: deque[Waiting]) -> None:
        async with self._turn:  # lanes send in order: whoever comes next waits until this one is read
            if not waiting:
                return
            item = waiting.popleft()
            item.attempts += 1
            try:
                sending = await self._begun(channel, item, waiting)
            except BaseException:
                waiting.appendleft(item)
                raise
        try:
            sent = sending if isinstance(sending, Sent) else await self._send(channel, item, *sending)
        except BaseException:
            waiting.appendleft(item)
            raise
        if sent is not None:
            self.told(sent)
            return
        # First in line again: an order that peers may count on is kept as far as it can be.
        waiting.appendleft(item)
        await self._policy.pause(pause_s(item.attempts))

    async def _begun(
        self, channel: Channel, item: Waiting, waiting: deque[Waiting]
    ) -> Sent | tuple[str, Body]:
        """The transfer syntax and the body to send, or why it is not sent."""
        one, policy = item.object, self._policy
        accepted = channel.accepted(one.sop_class_uid)
        candidates = policy.conversions.candidates(one.transfer_syntax_uid, policy.preferred)
        syntax = next((uid for uid in candidates if uid in accepted), None)
        if syntax is None:
            reason = channel.why_not_accepted(one)
            return Sent(one, SendOutcome.NOT_ACCEPTED, reason, attempts=item.attempts)
        try:
            body = await self._read_ahead.body(one)
            self._read_ahead.expect(next_one.object for next_one in waiting)
            if syntax != one.transfer_syntax_uid:
                body = await policy.conversions.as_transfer_syntax(one, body, syntax)
        except (IsocenterError, OSError) as error:
            return _failed(item, error)
        return syntax, body

    async def _send(self, channel: Channel, item: Waiting, syntax: str, body: Body) -> Sent | None:
        """None when it is to be tried again."""
        one, attempts = item.object, item.attempts
        other = syntax if syntax != one.transfer_syntax_uid else ""
        try:
            answer = await channel.store(one, syntax, body)
        except (IsocenterError, OSError) as error:
            if attempts < self._policy.attempts_max and _is_passing(error):
                return None
            self._note_unanswered(error)
            return _failed(item, error)
        self._unanswered = 0
        if statuses.family(answer.status) is statuses.Family.WARNING:
            says = statuses.describe(answer.status)
            return Sent(one, SendOutcome.WARNING, says, answer.status, attempts, other)
        return Sent(one, SendOutcome.STORED, "stored", answer.status, attempts, other)

    def _note_unanswered(self, error: IsocenterError | OSError) -> None:
        if not isinstance(error, AssociationAborted | DimseTimeout):
            self._unanswered = 0
            return
        self._unanswered += 1
        given_up = isinstance(error, DimseTimeout) or self._unanswered >= _BROKEN_MAX
        if given_up and self.stopped is None:
            self.stopped = error


def _is_passing(error: IsocenterError | OSError) -> bool:
    """Whether another attempt may do better."""
    if isinstance(error, DimseFailure):
        return error.status >> 8 == statuses.OUT_OF_RESOURCES >> 8
    return isinstance(error, AssociationAborted | DimseTimeout)


def _failed(item: Waiting, error: IsocenterError | OSError) -> Sent:
    if isinstance(error, DimseFailure):
        return Sent(item.object, SendOutcome.REFUSED, error.detail, error.status, item.attempts)
    if isinstance(error, IsocenterError):
        return Sent(item.object, SendOutcome.FAILED, error.detail, attempts=item.attempts)
    says = error.strerror or type(error).__name__
    return Sent(item.object, SendOutcome.FAILED, says, attempts=item.attempts)


def pause_s(attempts: int) -> float:
    return min(_PAUSE_MAX_S, _FIRST_PAUSE_S * 2.0 ** (attempts - 1))
