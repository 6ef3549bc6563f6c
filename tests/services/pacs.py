"""A PACS that answers C-FIND out of a list of studies, at its own pace, with its own faults.

It speaks on the level of PDUs, not through our server: what it sends is made once and sent as bytes, so that
it costs little beside the client that is measured, and so that it can do what no server of ours would.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import uvloop

from isocenter.dicom.charsets import decoder_for
from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.dictionary import tag_of, vr_of
from isocenter.dicom.element import Element
from isocenter.dicom.matching import classify
from isocenter.dimse.protocol import command_set, rejections, statuses
from isocenter.dimse.protocol.limits import DEFAULT_LIMITS
from isocenter.dimse.protocol.messages import (
    CCancelRequest,
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CFindResponse,
)
from isocenter.dimse.protocol.pdu import (
    RELEASE_RP_BYTES,
    Abort,
    AssociateAccept,
    NegotiatedContext,
    PduType,
    data_header,
    decode_associate_request,
    encode_abort,
    encode_associate_accept,
    encode_associate_reject,
)
from isocenter.dimse.protocol.user_information import UserInformation

Study = dict[str, str]
"""Keyword → text."""

_QUERY_RETRIEVE_LEVEL = 0x00080052
_SPECIFIC_CHARACTER_SET = 0x00080005
_COMMAND_LAST, _DATA_LAST = 3, 2
_LEVEL_TAGS = {"STUDY": 0x0020000D, "SERIES": 0x0020000E, "IMAGE": 0x00080018}


class Fault(StrEnum):
    NONE = "none"
    HANGING = "hanging"  # takes the question and never answers
    STALLING = "stalling"  # gives one row and then nothing more
    REFUSING = "refusing"
    CONGESTED = "congested"  # refuses the first two associations for now
    ABORTING = "aborting"  # in the middle of the answer
    DROPPING = "dropping"  # the connection, in the middle of the answer
    BABBLING = "babbling"  # sends bytes that are no PDU
    MALFORMED = "malformed"  # answers with something that is no data set
    FLOODING = "flooding"  # pending answers without an end
    SLOPPY = "sloppy"  # ignores the keys and gives all it has
    BUSY = "busy"  # out of resources, the first two times


@dataclass
class SimulatedPacs:
    """``latency_s``: from the question to its answer. ``character_set``: what texts are written in;
    ``declared``: what it says they are in, None: the truth. ``rows_max``: it gives no more, 0: all."""

    studies: Sequence[Study] = ()
    latency_s: float = 0.0
    fault: Fault = Fault.NONE
    character_set: str = "ISO_IR 192"
    declared: str | None = None
    rows_max: int = 0
    port: int = 0
    questions: int = 0
    cancelled: int = 0
    associations: int = 0
    open: int = 0
    _server: Any = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _answers: dict[tuple[bytes, str], list[bytes]] = field(default_factory=dict)

    async def start(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Wire(self), "127.0.0.1", port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.close()

    async def until(self, what: Callable[[SimulatedPacs], object]) -> None:
        """Returns once that is true of its counts; five seconds are too long."""
        async with asyncio.timeout(5):
            while not what(self):
                await self._changed.wait()

    def tell(self) -> None:
        """One of its counts has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def rows(self, identifier: bytes, transfer_syntax: str) -> list[bytes]:
        """Identifiers of the matches; those of a question that was asked before are at hand."""
        key = identifier, transfer_syntax
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = self._matches(
                read_dataset(identifier, transfer_syntax), transfer_syntax
            )
        return known

    def _matches(self, asked: Sequence[Element], transfer_syntax: str) -> list[bytes]:
        declared = next((one.value for one in asked if one.tag == _SPECIFIC_CHARACTER_SET), None)
        decoder = decoder_for(declared if isinstance(declared, bytes) else None)
        texts = {one.tag: decoder.decode(one.value, one.vr) for one in asked if isinstance(one.value, bytes)}
        level = texts.pop(_QUERY_RETRIEVE_LEVEL, "STUDY")
        texts.pop(_SPECIFIC_CHARACTER_SET, None)
        found: dict[str, bytes] = {}
        for study in self.studies:
            values = {tag_of(keyword): text for keyword, text in study.items()}
            name = values.get(_LEVEL_TAGS.get(level, 0), "")
            if self.fault is Fault.SLOPPY or all(
                classify(vr_of(tag), text).matches(values.get(tag, "")) for tag, text in texts.items()
            ):
                found.setdefault(name, self._identifier(values, texts, level, transfer_syntax))
        rows = list(found.values())
        return rows[: self.rows_max] if self.rows_max else rows

    def _identifier(
        self, values: dict[int, str], asked: dict[int, str], level: str, transfer_syntax: str
    ) -> bytes:
        encoder = decoder_for(self.character_set.encode())
        elements = [
            Element(
                tag, vr_of(tag), [] if vr_of(tag) == "SQ" else encoder.encode(values.get(tag, ""), vr_of(tag))
            )
            for tag in asked
        ]
        said = self.character_set if self.declared is None else self.declared
        elements.append(Element(_QUERY_RETRIEVE_LEVEL, "CS", encoder.encode(level, "CS")))
        elements.append(Element(_SPECIFIC_CHARACTER_SET, "CS", encoder.encode(said, "CS")))
        return write_dataset(elements, transfer_syntax)


class _Wire(asyncio.Protocol):
    """One association."""

    def __init__(self, pacs: SimulatedPacs) -> None:
        self._pacs = pacs
        self._received = bytearray()
        self._command = b""
        self._data = bytearray()
        self._contexts: dict[int, tuple[str, str]] = {}
        self._at_work: set[asyncio.Task[None] | asyncio.TimerHandle] = set()

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._writable = asyncio.Event()
        self._writable.set()
        self._pacs.associations += 1
        self._pacs.open += 1
        self._pacs.tell()

    def connection_lost(self, error: Exception | None) -> None:
        self._pacs.open -= 1
        self._pacs.tell()
        self._writable.set()
        for one in self._at_work:
            one.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= 6:
            length = int.from_bytes(self._received[2:6], "big")
            if len(self._received) < 6 + length:
                return
            kind, body = self._received[0], bytes(self._received[6 : 6 + length])
            del self._received[: 6 + length]
            self._pdu(kind, body)

    def _pdu(self, kind: int, body: bytes) -> None:
        match kind:
            case PduType.ASSOCIATE_RQ:
                self._associate(body)
            case PduType.P_DATA_TF:
                self._fragments(body)
            case PduType.RELEASE_RQ:
                self._transport.write(RELEASE_RP_BYTES)
                self._transport.close()
            case _:
                self._transport.close()

    def _associate(self, body: bytes) -> None:
        request = decode_associate_request(body, DEFAULT_LIMITS)
        fault = self._pacs.fault
        if fault is Fault.REFUSING or (fault is Fault.CONGESTED and self._pacs.associations <= 2):
            why = (
                rejections.CALLING_AE_TITLE_NOT_RECOGNIZED
                if fault is Fault.REFUSING
                else rejections.TEMPORARY_CONGESTION
            )
            self._transport.write(encode_associate_reject(why))
            return
        self._contexts = {
            one.context_id: (one.abstract_syntax, one.transfer_syntaxes[0]) for one in request.contexts
        }
        accepted = tuple(
            NegotiatedContext(number, 0, syntax) for number, (_, syntax) in self._contexts.items()
        )
        information = UserInformation(1 << 17, "1.2.3.4", "SIMULATED")
        self._transport.write(
            encode_associate_accept(
                AssociateAccept(request.called_ae_title, request.calling_ae_title, accepted, information)
            )
        )

    def _fragments(self, body: bytes) -> None:
        while body:
            length = int.from_bytes(body[:4], "big")
            context_id, control, fragment, body = body[4], body[5], body[6 : 4 + length], body[4 + length :]
            if control & 1:
                self._command += fragment
                if not control & 2:
                    continue
                message, has_data_set = command_set.decode(self._command)
                self._command = b""
                self._asked = message
                if not has_data_set:
                    self._answer(context_id, message, b"")
            else:
                self._data += fragment
                if control & 2:
                    data, self._data = bytes(self._data), bytearray()
                    self._answer(context_id, self._asked, data)

    def _answer(self, context_id: int, message: Any, data: bytes) -> None:
        match message:
            case CEchoRequest():
                answer = CEchoResponse(
                    affected_sop_class_uid=message.affected_sop_class_uid,
                    message_id_being_responded_to=message.message_id,
                    status=0,
                )
                self._send(context_id, answer, None)
            case CFindRequest():
                self._pacs.questions += 1
                self._pacs.tell()
                latency_s = self._pacs.latency_s
                self._later(latency_s, lambda: self._find(context_id, message, data))
            case CCancelRequest():
                self._pacs.cancelled += 1
                self._pacs.tell()
                for one in self._at_work:
                    one.cancel()
                self._end(context_id, message.message_id_being_responded_to, statuses.CANCEL)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if not seconds:
            call()
            return
        self._at_work.add(asyncio.get_running_loop().call_later(seconds, call))

    def _find(self, context_id: int, request: CFindRequest, identifier: bytes) -> None:
        pacs, number = self._pacs, request.message_id
        rows = pacs.rows(identifier, self._contexts[context_id][1])
        match pacs.fault:
            case Fault.HANGING:
                return
            case Fault.BABBLING:
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
                return
            case Fault.FLOODING:
                self._at_work.add(asyncio.create_task(self._flood(context_id, number, rows[0])))
                return
            case Fault.BUSY if pacs.questions <= 2:
                self._end(context_id, number, statuses.OUT_OF_RESOURCES)
                return
            case Fault.MALFORMED:
                rows = [b"\xff\xff\xff\xff no data set"]
            case Fault.ABORTING | Fault.DROPPING | Fault.STALLING:
                rows = rows[:1]
        self._transport.write(b"".join([self._pending(context_id, number, row) for row in rows]))
        match pacs.fault:
            case Fault.ABORTING:
                self._transport.write(encode_abort(Abort(2, 0)))
                self._transport.close()
            case Fault.DROPPING:
                self._transport.abort()
            case Fault.STALLING:
                return
            case _:
                self._end(context_id, number, statuses.SUCCESS)

    async def _flood(self, context_id: int, number: int, row: bytes) -> None:
        answer = self._pending(context_id, number, row) * 100
        while not self._transport.is_closing():
            self._transport.write(answer)
            await asyncio.sleep(0)  # somebody else's turn
            await self._writable.wait()

    def _pending(self, context_id: int, number: int, row: bytes) -> bytes:
        return _message(context_id, _response(number, statuses.PENDING), row)

    def _end(self, context_id: int, number: int, status: int) -> None:
        self._send(context_id, _response(number, status), None)

    def _send(self, context_id: int, message: Any, data: bytes | None) -> None:
        self._transport.write(_message(context_id, message, data))


def _response(number: int, status: int) -> CFindResponse:
    return CFindResponse(
        affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.1",
        message_id_being_responded_to=number,
        status=status,
    )


def _message(context_id: int, message: Any, data: bytes | None) -> bytes:
    command = command_set.encode(message, has_data_set=data is not None)
    encoded = data_header(context_id, _COMMAND_LAST, len(command)) + command
    return encoded if data is None else encoded + data_header(context_id, _DATA_LAST, len(data)) + data


@contextlib.asynccontextmanager
async def simulated(*fleet: SimulatedPacs) -> AsyncIterator[None]:
    """All of them listening, on ports of their own."""
    for pacs in fleet:
        await pacs.start()
    try:
        yield
    finally:
        for pacs in fleet:
            pacs.stop()


def study(number: int, patient: int = 1, **values: str) -> Study:
    """A study of a patient, as every archive that has it would tell it."""
    return {
        "StudyInstanceUID": f"2.25.99.{number}",
        "StudyDate": f"202601{number % 28 + 1:02}",
        "StudyTime": "120000",
        "StudyDescription": f"STUDY {number}",
        "AccessionNumber": f"A{number}",
        "ModalitiesInStudy": "CT",
        "PatientID": f"P{patient}",
        "PatientName": f"FAMILY{patient}^GIVEN",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "NumberOfStudyRelatedInstances": "10",
        **values,
    }


def main() -> None:
    """An archive in a process of its own: ``python -m services.pacs PORT LATENCY_S PATIENTS STUDIES``."""
    port, patients, each = (int(sys.argv[position]) for position in (1, 3, 4))
    latency_s = float(sys.argv[2])
    studies = {
        f"P{patient}": [study(patient * 1000 + number, patient) for number in range(each)]
        for patient in range(patients)
    }

    class Indexed(SimulatedPacs):
        """Looks at the studies of the patient alone: many archives share two cores with who is measured."""

        def _matches(self, asked: Sequence[Element], transfer_syntax: str) -> list[bytes]:
            key = next((one.value for one in asked if one.tag == tag_of("PatientID")), b"")
            assert isinstance(key, bytes)
            self.studies = studies.get(key.decode().strip(), [])
            return super()._matches(asked, transfer_syntax)

    async def run() -> None:
        await Indexed(latency_s=latency_s).start(port)
        await asyncio.Event().wait()

    uvloop.run(run())


if __name__ == "__main__":
    main()
