"""The group committer: while one transaction commits, the next batch gathers (DESIGN §4).

Many associations store at once, each waiting for its own object to be durable. One synced commit can carry
all of them, so the cost of syncing is shared, and a single sender still pays for one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from isocenter.features.archive.entry import Outcome, Received
from isocenter.features.archive.filing import Filed, file_objects
from isocenter.features.archive.policies import BatchPolicy, Policies
from isocenter.features.archive.quota import QuotaReached, Quotas, check_quota
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Busy, IsocenterError, Kind, OutOfSpace, Unavailable
from isocenter.platform.db import Database, DatabaseUnreachable, IntegrityViolation, Work

_ATTEMPTS = 4


class BatchRefused(IsocenterError):
    """An all-or-nothing batch held an object that could not be accepted: none of it was filed."""

    kind = Kind.CONFLICT
    default_code = "batch-refused"

    def __init__(self, outcomes: list[Outcome]) -> None:
        refused = sum(not outcome.kind.accepted for outcome in outcomes)
        super().__init__(
            f"{refused} of {len(outcomes)} objects could not be accepted, so none was stored.",
            remedy="Correct or leave out the objects named, or set the batch policy to accept-valid.",
        )
        self.outcomes = outcomes


@dataclass(slots=True)
class _Submission:
    organization_id: int
    received: Sequence[Received]
    policies: Policies
    done: asyncio.Future[list[Outcome]]


class GroupCommitter:
    """Files submissions in as few transactions as the load allows; each lands whole or not at all."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        objects_per_commit_max: int = 512,
        waiting_max: int = 10_000,
    ) -> None:
        self.quotas = Quotas(database)
        self._database = database
        self._clock = clock
        self._objects_per_commit_max = objects_per_commit_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Submission] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(
        self, organization_id: int, received: Sequence[Received], policies: Policies
    ) -> list[Outcome]:
        """Return once the objects are durably in the index. Raises what the database raises, Busy when the
        queue is full, QuotaReached, BatchRefused under the all-or-nothing policy; then none of them is
        visible."""
        if self._closed:
            raise Unavailable("The archive is shutting down.", retry_after_s=10)
        if len(self._waiting) >= self._waiting_max:
            raise Busy("Too many objects wait for the database.", retry_after_s=5)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="group-committer")
        done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Submission(organization_id, received, policies, done))
        self._arrived.set()
        return await done

    def now_us(self) -> int:
        """The clock's time as the index has it."""
        return microseconds(self._clock.now())

    async def close(self) -> None:
        """Commit what was submitted, then stop."""
        self._closed = True
        self._arrived.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._waiting or not self._closed:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            group = self._next_group()
            try:
                await self._commit(group)
            except DatabaseUnreachable as error:
                # All who wait have waited as long: nobody's answer shall take one time-out after another.
                group += self._waiting
                self._waiting.clear()
                _fail(group, error)
            except Exception as error:
                _fail(group, error)
            except BaseException:
                _fail(group, Unavailable("The archive is shutting down.", retry_after_s=10))
                raise

    def _next_group(self) -> list[_Submission]:
        """Submissions of one organisation and one set of policies, up to the commit's size."""
        first = self._waiting.popleft()
        group, objects = [first], len(first.received)
        while self._waiting and objects < self._objects_per_commit_max:
            following = self._waiting[0]
            if (following.organization_id, following.policies) != (first.organization_id, first.policies):
                break
            if first.policies.batch is BatchPolicy.ALL_OR_NOTHING:
                break  # its refusal must roll back nobody else's objects
            group.append(self._waiting.popleft())
            objects += len(following.received)
        return group

    async def _commit(self, group: list[_Submission]) -> None:
        try:
            outcomes = await self._write(group)
        except Exception as error:
            if len(group) == 1 or _fails_all(error):
                raise
            # One submission must not fail the others: each alone.
            for submission in group:
                await self._commit_alone(submission)
            return
        for submission in group:
            count = len(submission.received)
            _answer(submission, outcomes[:count])
            outcomes = outcomes[count:]

    async def _commit_alone(self, submission: _Submission) -> None:
        try:
            outcomes = await self._write([submission])
        except DatabaseUnreachable:
            raise
        except Exception as error:
            _fail([submission], error)
        else:
            _answer(submission, outcomes)

    async def _write(self, group: list[_Submission]) -> list[Outcome]:
        first = group[0]
        received = [one for submission in group for one in submission.received]
        now_us = self.now_us()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                filed = await self._database.write(
                    _file_batch, first.organization_id, received, first.policies, now_us
                )
            except QuotaReached as error:
                self.quotas.note(first.organization_id, error.used_bytes)
                raise
            except IntegrityViolation:
                # Another process filed the same UID between our look and our insert: look again.
                if attempt == _ATTEMPTS:
                    raise
            else:
                self.quotas.filed(first.organization_id, first.policies.quota_bytes, filed)
                return filed.outcomes
        raise AssertionError("unreachable: the last attempt returns or raises")


def _fails_all(error: Exception) -> bool:
    """A quota does not: a smaller submission may fit."""
    return isinstance(error, DatabaseUnreachable | OutOfSpace) and not isinstance(error, QuotaReached)


def _answer(submission: _Submission, outcomes: list[Outcome]) -> None:
    if not submission.done.done():  # its waiter may have been cancelled; the objects are filed all the same
        submission.done.set_result(outcomes)


def _fail(group: Sequence[_Submission], error: Exception) -> None:
    for submission in group:
        if not submission.done.done():
            submission.done.set_exception(error)


def _file_batch(
    organization_id: int, received: Sequence[Received], policies: Policies, now_us: int
) -> Work[Filed]:
    filed = yield from file_objects(organization_id, received, policies.conflict, now_us)
    if policies.batch is BatchPolicy.ALL_OR_NOTHING and not all(o.kind.accepted for o in filed.outcomes):
        raise BatchRefused(filed.outcomes)
    check_quota(policies.quota_bytes, filed)
    return filed
