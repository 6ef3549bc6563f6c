"""Cuts the byte stream into PDUs, and P-DATA-TF PDUs into pieces that are handed on as they come.

Nothing of a data set is ever copied or waited for: a piece is what one read brought of one fragment.
What has to be gathered (headers, the other six PDU types) is bounded by its announced length, and that
length is checked before the first byte is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from isocenter.dimse.protocol.errors import InvalidPduParameterValue, UnrecognizedPdu
from isocenter.dimse.protocol.limits import PDATA_TOLERANCE_BYTES, Limits
from isocenter.dimse.protocol.pdu import PDU_HEADER, PDV_HEADER, PduType

PDV_OVERHEAD_BYTES = PDV_HEADER.size
_P_DATA_TF = int(PduType.P_DATA_TF)
_WHOLE_HEADER = struct.Struct(">BxIIBB")
"""Of a PDU and its only fragment."""


@dataclass(slots=True)
class Pdu:
    """A PDU whose body is complete; ``body`` is empty where nobody wanted it."""

    pdu_type: PduType
    body: bytes


@dataclass(slots=True)
class Piece:
    """Part of a presentation data value; ``ends`` is True on the last part of each."""

    context_id: int
    control: int
    data: memoryview
    ends: bool


class _Reading(Enum):
    PDU_HEADER = auto()
    BODY = auto()
    PDV_HEADER = auto()
    PDV = auto()
    SKIPPED = auto()


class Framer:
    """``wants(pdu_type)`` is asked at each PDU's header whether its body is of any use in this state;
    if not, the PDU is reported at once and its body dropped as it arrives."""

    def __init__(self, limits: Limits, wants: Callable[[PduType], bool]) -> None:
        self._wants = wants
        self._reading = _Reading.PDU_HEADER
        self._gathered = bytearray()
        self._needed = PDU_HEADER.size
        self._pdu_type = PduType.ABORT
        self._pdu_left = 0
        self._pdv_left = 0
        self._context_id = 0
        self._control = 0
        self._bytes_max = {
            PduType.ASSOCIATE_RQ: limits.associate_bytes_max,
            PduType.ASSOCIATE_AC: limits.associate_bytes_max,
            PduType.P_DATA_TF: limits.pdata_bytes_max + PDATA_TOLERANCE_BYTES,
        }

    def feed(self, data: memoryview) -> Iterator[Pdu | Piece]:
        """Yields while it reads; raises RemoteProtocolError, after which the stream cannot be read on."""
        position, end = 0, len(data)
        while position < end:
            reading = self._reading
            if reading is _Reading.PDU_HEADER and (piece := self._whole(data, position, end)) is not None:
                position += _WHOLE_HEADER.size + len(piece.data)
                yield piece
            elif reading is _Reading.PDV:
                stop = min(position + self._pdv_left, end)
                self._pdv_left -= stop - position
                ends = not self._pdv_left
                yield Piece(self._context_id, self._control, data[position:stop], ends)
                position = stop
                if ends:
                    self._end_pdv()
            elif reading is _Reading.SKIPPED:
                stop = min(position + self._pdu_left, end)
                self._pdu_left -= stop - position
                position = stop
                if not self._pdu_left:
                    self._next(_Reading.PDU_HEADER, PDU_HEADER.size)
            elif end - position >= self._needed and not self._gathered:
                stop = position + self._needed
                frame = self._complete(reading, bytes(data[position:stop]))
                position = stop
                if frame is not None:
                    yield frame
            else:
                stop = min(position + self._needed - len(self._gathered), end)
                self._gathered += data[position:stop]
                position = stop
                if len(self._gathered) == self._needed:
                    gathered = bytes(self._gathered)
                    self._gathered.clear()
                    frame = self._complete(reading, gathered)
                    if frame is not None:
                        yield frame

    def _whole(self, data: memoryview, position: int, end: int) -> Piece | None:
        """A P-DATA-TF PDU of one fragment that is all here, as most answers to queries are."""
        if self._gathered or end - position < _WHOLE_HEADER.size:
            return None
        number, length, pdv_length, context_id, control = _WHOLE_HEADER.unpack_from(data, position)
        if (
            number != _P_DATA_TF
            or pdv_length != length - 4
            or not 2 < pdv_length <= end - position - 10
            or length > self._bytes_max[PduType.P_DATA_TF]
            or not self._wants(PduType.P_DATA_TF)
        ):
            return None
        start = position + _WHOLE_HEADER.size
        return Piece(context_id, control, data[start : start + pdv_length - 2], True)

    def _complete(self, reading: _Reading, gathered: bytes) -> Pdu | Piece | None:
        if reading is _Reading.PDV_HEADER:
            return self._begin_pdv(gathered)
        if reading is _Reading.PDU_HEADER:
            return self._begin_pdu(gathered)
        self._next(_Reading.PDU_HEADER, PDU_HEADER.size)
        return Pdu(self._pdu_type, gathered)

    def _begin_pdu(self, header: bytes) -> Pdu | None:
        number, length = PDU_HEADER.unpack(header)
        try:
            pdu_type = PduType(number)
        except ValueError:
            raise UnrecognizedPdu(f"no PDU has the type {number:02X}H") from None
        # The four PDUs without variable parts are four bytes long (PS3.8 §9.3.4, 9.3.6 to 9.3.8).
        if not 4 <= length <= self._bytes_max.get(pdu_type, 4):
            raise InvalidPduParameterValue(f"a {pdu_type.name} PDU of {length} bytes")
        self._pdu_type = pdu_type
        if not self._wants(pdu_type):
            self._pdu_left = length
            self._reading = _Reading.SKIPPED
            return Pdu(pdu_type, b"")
        if pdu_type == _P_DATA_TF:
            self._pdu_left = length
            self._next_pdv()
        else:
            self._next(_Reading.BODY, length)
        return None

    def _next_pdv(self) -> None:
        if self._pdu_left < PDV_HEADER.size:
            raise InvalidPduParameterValue(f"{self._pdu_left} bytes left in a P-DATA-TF PDU are no fragment")
        self._next(_Reading.PDV_HEADER, PDV_HEADER.size)

    def _begin_pdv(self, header: bytes) -> Piece | None:
        length, self._context_id, self._control = PDV_HEADER.unpack(header)
        self._pdu_left -= PDV_HEADER.size
        self._pdv_left = length - 2  # the length counts the two header bytes behind it
        if not 0 <= self._pdv_left <= self._pdu_left:
            raise InvalidPduParameterValue(f"a fragment of {length} bytes does not fit its P-DATA-TF PDU")
        if self._pdv_left:
            self._reading = _Reading.PDV
            self._pdu_left -= self._pdv_left
            return None
        self._end_pdv()
        return Piece(self._context_id, self._control, memoryview(b""), True)

    def _end_pdv(self) -> None:
        if self._pdu_left:
            self._next_pdv()
        else:
            self._next(_Reading.PDU_HEADER, PDU_HEADER.size)

    def _next(self, reading: _Reading, needed: int) -> None:
        self._reading = reading
        self._needed = needed
