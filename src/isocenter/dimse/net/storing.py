"""C-STORE requests of ours: on an association that we opened, or on a peer's, for its C-GET."""

from __future__ import annotations

from isocenter.dimse.net.bodies import CHUNK_BYTES, Body, chunks
from isocenter.dimse.net.connection import Connection
from isocenter.dimse.net.errors import AssociationAborted
from isocenter.dimse.net.invoker import Invoker
from isocenter.dimse.protocol import command_set
from isocenter.dimse.protocol.messages import CStoreRequest, Response


async def send_store(
    connection: Connection, invoker: Invoker, context_id: int, request: CStoreRequest, body: Body
) -> Response:
    """The response, whatever its status. Raises AssociationAborted, DimseTimeout.

    What is large goes in parts, so that a peer which takes long is seen to take them. When ``body`` itself
    fails half-way, the association is aborted, since a message cannot be taken back.
    """
    if isinstance(body, bytes | bytearray | memoryview) and len(body) <= CHUNK_BYTES:
        response, _ = await invoker.single(context_id, request, body)
        return response
    exchange = await invoker.open(context_id)
    try:
        request.message_id = exchange.message_id
        lock = await connection.lock_sending()
        try:
            await _send_parts(connection, context_id, request, body)
        except BaseException as error:
            if not isinstance(error, AssociationAborted):
                connection.end("the object that we were sending could not be read to its end")
                connection.hang_up()
            raise
        finally:
            lock.release()
        response, _ = await exchange.next()
        return response
    finally:
        invoker.close(exchange)


async def _send_parts(connection: Connection, context_id: int, request: CStoreRequest, body: Body) -> None:
    connection.check_open()
    connection.association.send_command_bytes(context_id, command_set.encode(request, has_data_set=True))
    async for chunk, is_last in chunks(body):
        connection.check_open()
        if chunk or is_last:
            connection.association.send_data(context_id, chunk, is_last=is_last)
            connection.flush()
            await connection.drain()
