"""Fragments to messages (PS3.7 §6.3, PS3.8 Annex E): a command set whole, its data set as it comes.

The fragments of one message may not be mixed with those of another; a peer that does so is cut off.
"""

from __future__ import annotations

from isocenter.dimse.protocol import command_set
from isocenter.dimse.protocol.errors import InvalidPduParameterValue, UnexpectedPduParameter
from isocenter.dimse.protocol.events import CommandReceived, DataFragment
from isocenter.dimse.protocol.framing import Piece
from isocenter.dimse.protocol.limits import Limits
from isocenter.dimse.protocol.messages import Message
from isocenter.dimse.protocol.pdu import PDV_COMMAND, PDV_LAST


class Assembler:
    """``accepted_ids`` are the presentation contexts on which messages may come."""

    def __init__(self, limits: Limits) -> None:
        self.accepted_ids: frozenset[int] = frozenset()
        self._limits = limits
        self._command = bytearray()
        self._command_context_id: int | None = None
        self._data_context_id: int | None = None
        self._data_bytes = 0
        self._last_command: bytes | None = None
        self._last_decoded: tuple[Message, bool]

    @property
    def mid_message(self) -> bool:
        return self._command_context_id is not None or self._data_context_id is not None

    def receive(self, piece: Piece) -> CommandReceived | DataFragment | None:
        """Raises RemoteProtocolError."""
        if self._data_context_id is None:
            return self._receive_command(piece)
        context_id = piece.context_id
        if piece.control & PDV_COMMAND or context_id != self._data_context_id:
            raise UnexpectedPduParameter("a fragment of another message inside of a data set")
        self._data_bytes += len(piece.data)
        if self._data_bytes > self._limits.data_set_bytes_max:
            raise InvalidPduParameterValue("the data set is larger than any that is allowed")
        is_last = piece.ends and bool(piece.control & PDV_LAST)
        if is_last:
            self._data_context_id = None
        return DataFragment(context_id, piece.data, is_last)

    def _receive_command(self, piece: Piece) -> CommandReceived | None:
        context_id = piece.context_id
        if context_id not in self.accepted_ids:
            raise InvalidPduParameterValue(f"presentation context {context_id} was not accepted")
        if not piece.control & PDV_COMMAND:
            raise UnexpectedPduParameter("a data set without a command set before it")
        if self._command_context_id not in (None, context_id):
            raise UnexpectedPduParameter("a fragment of another message inside of a command set")
        if len(self._command) + len(piece.data) > self._limits.command_bytes_max:
            raise InvalidPduParameterValue("the command set is larger than any that is allowed")
        self._command_context_id = context_id
        self._command += piece.data
        if not (piece.ends and piece.control & PDV_LAST):
            return None
        message, has_data_set = self._decoded(bytes(self._command))
        self._command.clear()
        self._command_context_id = None
        if has_data_set:
            self._data_context_id = context_id
            self._data_bytes = 0
        return CommandReceived(context_id, message, has_data_set)

    def _decoded(self, command: bytes) -> tuple[Message, bool]:
        """Pending responses of one query are all the same bytes. Nobody changes a message that came."""
        if command != self._last_command:
            self._last_decoded = command_set.decode(command)
            self._last_command = command
        return self._last_decoded
