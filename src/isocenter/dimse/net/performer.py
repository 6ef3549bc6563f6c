"""Performs what a peer asks for: finds the service's method, feeds it, sends its answers.

Fragments go to the sink inside the read callback, without a task or a queue between; an operation
becomes a task once its message is complete. Each outstanding operation counts against the negotiated
asynchronous operations window; when that is full, the next request waits unread (C-CANCEL does not).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from isocenter.dimse.net.connection import Connection, finish_quietly
from isocenter.dimse.net.errors import AssociationAborted, DimseFailure
from isocenter.dimse.net.responses import (
    N_METHODS,
    NAMES,
    final_of_sub_operations,
    response_to,
    sub_operation_fields,
)
from isocenter.dimse.net.service import (
    Answer,
    AskPeer,
    AssociationInfo,
    NAnswer,
    PendingAnswer,
    SendSubOperation,
    StoreSink,
    SubOperations,
)
from isocenter.dimse.protocol import command_set, statuses
from isocenter.dimse.protocol.events import CommandReceived, DataFragment
from isocenter.dimse.protocol.messages import (
    CCancelRequest,
    CEchoRequest,
    CFindRequest,
    CFindResponse,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    Request,
)

logger = logging.getLogger(__name__)

IDENTIFIER_BYTES_MAX = 4 << 20

_PROCESSING_FAILURE = Answer(statuses.PROCESSING_FAILURE)
_NOT_SUPPORTED = Answer(statuses.SOP_CLASS_NOT_SUPPORTED)
_UNRECOGNIZED = Answer(statuses.UNRECOGNIZED_OPERATION)
_DUPLICATE = Answer(statuses.DUPLICATE_INVOCATION)
_NO_DATA_SET = Answer(statuses.CANNOT_UNDERSTAND, "the message has no data set")
_IDENTIFIER_TOO_LARGE = Answer(statuses.OUT_OF_RESOURCES, "the identifier is too large")


@dataclass(slots=True, eq=False)
class Operation:
    """One request, from its command set to its last answer."""

    context_id: int
    transfer_syntax: str
    request: Request
    sink: StoreSink | None = None
    data_set: bytearray | None = None
    refused: Answer | None = None
    task: asyncio.Task[None] | None = None
    started: bool = False
    cancelled_by_peer: bool = False
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Told to C-MOVE and C-GET, which end by themselves: a sub-operation cannot be taken back."""


@dataclass(slots=True, eq=False)
class Performer:
    """For one established association. ``service`` is asked by ``getattr``: its methods are optional.
    ``on_quiet`` is called whenever the last open operation has been answered. ``answered`` counts operations
    by name and family of their last status; many associations may share it."""

    connection: Connection
    service: object
    info: AssociationInfo
    window: int
    sub_operation: Callable[[Request], SendSubOperation]
    ask_peer: Callable[[int], AskPeer]
    on_quiet: Callable[[], None]
    counts: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    _inbound: Operation | None = None
    _operations: set[Operation] = field(default_factory=set)
    _finishing: set[asyncio.Task[None]] = field(default_factory=set)
    _changed: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        return bool(self._operations)

    # ---- events, in the read callback

    def command(self, event: CommandReceived) -> Awaitable[None] | None:
        message = event.message
        if isinstance(message, CCancelRequest):
            self._cancel(message.message_id_being_responded_to)
            return None
        if len(self._operations) >= self.window:
            return self._begin_when_free(event)
        self._begin(event)
        return None

    def fragment(self, event: DataFragment) -> Awaitable[None] | None:
        operation = self._inbound
        if operation is None:
            return None  # the connection was lost while its command waited for a free place
        if operation.sink is not None:
            if event.data:
                try:
                    waiting = operation.sink.write(event.data)
                except Exception as error:
                    self._refuse(operation, error)
                else:
                    if waiting is not None:
                        return self._written(operation, waiting, event.is_last)
        elif operation.refused is None and operation.data_set is not None:
            if len(operation.data_set) + len(event.data) > IDENTIFIER_BYTES_MAX:
                operation.refused = _IDENTIFIER_TOO_LARGE
                operation.data_set = None
            else:
                operation.data_set += event.data
        if event.is_last:
            self._start(operation)
        return None

    async def quiet(self) -> None:
        """Returns when no operation is open."""
        while self._operations:
            await self._change()

    async def close(self) -> None:
        """The association is over: queries stop, what was completely received is still finished."""
        self.stop()
        tasks = [operation.task for operation in self._operations if operation.task is not None]
        if tasks or self._finishing:
            await asyncio.gather(*tasks, *self._finishing, return_exceptions=True)

    def stop(self) -> None:
        """There is nobody to answer: half an object is dropped, queries are cancelled. A store whose object
        is complete goes on: it may be kept."""
        inbound, self._inbound = self._inbound, None
        if inbound is not None:
            self._operations.discard(inbound)
            self._abort_sink(inbound)
        for operation in self._operations:
            if operation.task is not None and operation.sink is None:
                operation.task.cancel()

    def abandon(self) -> None:
        """Cancels whatever runs, stores as well."""
        for operation in self._operations:
            if operation.task is not None:
                operation.task.cancel()

    # ---- from the command set to the task

    def _begin(self, event: CommandReceived) -> None:
        request = cast(Request, event.message)
        transfer_syntax = self.info.contexts[event.context_id].transfer_syntax
        operation = Operation(event.context_id, transfer_syntax, request)
        if any(other.request.message_id == request.message_id for other in self._operations):
            operation.refused = _DUPLICATE
        self._operations.add(operation)
        if operation.refused is not None:
            pass
        elif isinstance(request, CStoreRequest):
            self._open_sink(operation, request, has_data_set=event.has_data_set)
        elif event.has_data_set:
            operation.data_set = bytearray()
        if event.has_data_set:
            self._inbound = operation
        else:
            self._start(operation)

    async def _begin_when_free(self, event: CommandReceived) -> None:
        while len(self._operations) >= self.window and not self.connection.lost:
            await self._change()
        if not self.connection.lost:
            self._begin(event)

    def _open_sink(self, operation: Operation, request: CStoreRequest, *, has_data_set: bool) -> None:
        store = getattr(self.service, "store", None)
        if store is None:
            operation.refused = _NOT_SUPPORTED
        elif not has_data_set:
            operation.refused = _NO_DATA_SET
        else:
            try:
                operation.sink = store(self.info, request, operation.transfer_syntax)
            except Exception as error:
                self._refuse(operation, error)

    async def _written(self, operation: Operation, waiting: Awaitable[None], is_last: bool) -> None:
        try:
            await waiting
        except Exception as error:
            self._refuse(operation, error)
        if is_last:
            self._start(operation)

    def _refuse(self, operation: Operation, error: Exception) -> None:
        """The rest of the message is read and dropped, then answered: the association lives on."""
        operation.refused = self._answer_for(error, operation)
        self._abort_sink(operation)

    def _abort_sink(self, operation: Operation) -> None:
        sink, operation.sink = operation.sink, None
        if sink is not None:
            task = self.connection.loop.create_task(finish_quietly(sink.abort()))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    def _start(self, operation: Operation) -> None:
        self._inbound = None
        operation.task = self.connection.loop.create_task(self._perform(operation))
        operation.task.add_done_callback(lambda _: self._ended(operation))

    def _ended(self, operation: Operation) -> None:
        self._operations.discard(operation)
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)
        if not self._operations:
            self.on_quiet()

    def _change(self) -> Awaitable[None]:
        if self._changed is None:
            self._changed = self.connection.loop.create_future()
        return asyncio.shield(self._changed)

    def _cancel(self, message_id: int) -> None:
        """No effect on an operation that is over or that cannot be cancelled (PS3.7 §9.3.2.3)."""
        for operation in self._operations:
            cancellable = isinstance(operation.request, CFindRequest | CMoveRequest | CGetRequest)
            if operation.request.message_id == message_id and cancellable:
                operation.cancelled_by_peer = True
                operation.cancelled.set()
                finds = isinstance(operation.request, CFindRequest)
                if finds and operation.started and operation.task is not None:
                    operation.task.cancel()

    # ---- tasks

    async def _perform(self, operation: Operation) -> None:
        operation.started = True
        request = operation.request
        self.counts[NAMES[type(request)]] += 1
        try:
            if operation.refused is not None:
                await self._respond(operation, operation.refused)
            elif operation.cancelled_by_peer:
                await self._respond(operation, Answer(statuses.CANCEL))
            else:
                await self._run(operation)
        except asyncio.CancelledError:
            if not operation.cancelled_by_peer or self.connection.lost:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            with contextlib.suppress(AssociationAborted):
                await self._respond(operation, Answer(statuses.CANCEL))
        except AssociationAborted:
            pass  # there is nobody left to answer
        except Exception as error:
            with contextlib.suppress(AssociationAborted):
                await self._respond(operation, self._answer_for(error, operation))

    def _run(self, operation: Operation) -> Coroutine[Any, Any, None]:
        request = operation.request
        if isinstance(request, CStoreRequest):
            return self._finish_store(operation)
        if isinstance(request, CFindRequest):
            return self._find(operation, request)
        if isinstance(request, CMoveRequest | CGetRequest):
            return self._sub_operations(operation, request)
        if isinstance(request, CEchoRequest):
            return self._echo(operation)
        return self._normalized(operation)

    async def _finish_store(self, operation: Operation) -> None:
        assert operation.sink is not None
        await self._respond(operation, await operation.sink.finish())

    async def _echo(self, operation: Operation) -> None:
        echo = getattr(self.service, "echo", None)
        await self._respond(operation, _NOT_SUPPORTED if echo is None else await echo(self.info))

    async def _find(self, operation: Operation, request: CFindRequest) -> None:
        find = getattr(self.service, "find", None)
        if find is None or operation.data_set is None:
            await self._respond(operation, _NOT_SUPPORTED if find is None else _NO_DATA_SET)
            return
        heads: dict[int, bytes] = {}
        matches: AsyncIterator[PendingAnswer] = find(
            self.info, request, bytes(operation.data_set), operation.transfer_syntax
        )
        async with aclosing_any(matches):
            async for match in matches:
                head = heads.get(match.status)
                if head is None:  # all pending responses of one query have the same command set
                    head = heads[match.status] = command_set.encode(
                        CFindResponse(
                            message_id_being_responded_to=request.message_id,
                            status=match.status,
                            affected_sop_class_uid=request.affected_sop_class_uid,
                        ),
                        has_data_set=True,
                    )
                await self.connection.send_encoded(
                    operation.context_id, head, match.identifier, at_once=False
                )
        await self._respond(operation, Answer())

    async def _sub_operations(self, operation: Operation, request: CMoveRequest | CGetRequest) -> None:
        handler = getattr(self.service, "move" if isinstance(request, CMoveRequest) else "get", None)
        if handler is None or operation.data_set is None:
            await self._respond(operation, _NOT_SUPPORTED if handler is None else _NO_DATA_SET)
            return
        arguments: list[Any] = [self.info, request, bytes(operation.data_set), operation.transfer_syntax]
        arguments.append(operation.cancelled)
        if isinstance(request, CGetRequest):
            arguments.append(self.sub_operation(request))
        progress: AsyncIterator[SubOperations] = handler(*arguments)
        last = SubOperations(0, 0)
        try:
            async with aclosing_any(progress):
                async for last in progress:
                    if last.remaining and not operation.cancelled_by_peer:
                        pending = response_to(
                            request, Answer(statuses.PENDING), **sub_operation_fields(last, final=False)
                        )
                        await self.connection.send_message(operation.context_id, pending)
        except DimseFailure as failure:
            answer = self._answer_for(failure, operation)
        else:
            stopped = operation.cancelled_by_peer and last.remaining
            answer = Answer(statuses.CANCEL) if stopped else final_of_sub_operations(last)
        fields = sub_operation_fields(last, final=answer.status != statuses.CANCEL)
        self._count(operation, answer.status)
        response = response_to(request, answer, **fields)
        await self.connection.send_message(operation.context_id, response, last.failed_identifier)

    async def _normalized(self, operation: Operation) -> None:
        method = getattr(self.service, N_METHODS.get(type(operation.request), ""), None)
        if method is None:
            await self._respond(operation, _UNRECOGNIZED)
            return
        data_set = None if operation.data_set is None else bytes(operation.data_set)
        answer: NAnswer = await method(self.info, operation.request, data_set, operation.transfer_syntax)
        self._count(operation, answer.status)
        plain = Answer(answer.status, answer.comment, answer.offending_elements)
        response = response_to(operation.request, plain, **(answer.fields or {}))
        await self.connection.send_message(operation.context_id, response, answer.data_set)
        if answer.then is not None:
            following = self._follow(operation, answer.then)
            self.connection.keep(self.connection.loop.create_task(following))

    async def _follow(self, operation: Operation, then: Callable[[AskPeer], Awaitable[None]]) -> None:
        try:
            await then(self.ask_peer(operation.context_id))
        except AssociationAborted:
            pass
        except Exception as error:
            self._log_fault(error, operation)

    # ---- answers

    async def _respond(self, operation: Operation, answer: Answer) -> None:
        self._count(operation, answer.status)
        await self.connection.send_message(operation.context_id, response_to(operation.request, answer))

    def _count(self, operation: Operation, status: int) -> None:
        family = statuses.family(status)
        self.answered[NAMES[type(operation.request)], family] += 1
        if family is statuses.Family.FAILURE:
            self.failures += 1

    def _answer_for(self, error: Exception, operation: Operation) -> Answer:
        if isinstance(error, DimseFailure):
            return Answer(error.status, error.comment, error.offending_elements)
        self._log_fault(error, operation)
        return _PROCESSING_FAILURE

    def _log_fault(self, error: Exception, operation: Operation) -> None:
        """The message of a foreign exception may hold a patient's name: only where it happened is logged."""
        where = "".join(traceback.format_tb(error.__traceback__)[-4:])
        logger.error(
            "%s while performing %s for %s\n%s",
            type(error).__name__,
            NAMES[type(operation.request)],
            self.info.calling_ae_title,
            where,
        )


def aclosing_any(iterator: AsyncIterator[Any]) -> contextlib.AbstractAsyncContextManager[Any]:
    """Closes an async generator at the end of a block; any other iterator is left alone."""
    if hasattr(iterator, "aclose"):
        return aclosing(iterator)
    return contextlib.nullcontext(iterator)
