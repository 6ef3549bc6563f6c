"""The seven protocol data units of PS3.8 §9.3, to and from bytes.

P-DATA-TF is the exception: it is never built or read whole. :mod:`framing` hands its fragments on as
they arrive, :func:`data_header` makes the twelve bytes that go before a fragment.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from isocenter.dimse.protocol.errors import (
    InvalidPduParameterValue,
    LocalProtocolError,
    UnexpectedPduParameter,
)
from isocenter.dimse.protocol.limits import Limits
from isocenter.dimse.protocol.user_information import (
    NO_USER_INFORMATION,
    ItemBudget,
    UserInformation,
    decode_uid,
    decode_user_information,
    encode_user_information,
    item,
    items,
    printable,
)

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
PROTOCOL_VERSION = 1  # bit 0; all other bits are for the future (PS3.8 Table 9-11)

PDU_HEADER = struct.Struct(">BxI")
PDV_HEADER = struct.Struct(">IBB")
_DATA_HEADER = struct.Struct(">BxIIBB")
_ASSOCIATE_FIXED = struct.Struct(">H2x16s16s32x")

PDV_COMMAND = 1  # bits of the message control header (PS3.8 E.2)
PDV_LAST = 2

_T = TypeVar("_T")


class PduType(IntEnum):
    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class ContextResult(IntEnum):
    """What became of a proposed presentation context (PS3.8 Table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class ProposedContext:
    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NegotiatedContext:
    """The answer to a proposed context; ``transfer_syntax`` means nothing unless it was accepted."""

    context_id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ (PS3.8 §9.3.2). AE titles are stripped of padding."""

    called_ae_title: str
    calling_ae_title: str
    contexts: tuple[ProposedContext, ...]
    user_information: UserInformation = NO_USER_INFORMATION
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC (PS3.8 §9.3.3). The AE titles only echo the request and must not be tested."""

    called_ae_title: str
    calling_ae_title: str
    contexts: tuple[NegotiatedContext, ...]
    user_information: UserInformation = NO_USER_INFORMATION
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 Table 9-26): source 0 is the service user, 2 the service provider."""

    source: int
    reason: int


def encode_associate_request(request: AssociateRequest) -> bytes:
    contexts = []
    for context in request.contexts:
        syntaxes = b"".join(item(0x40, uid.encode("ascii")) for uid in context.transfer_syntaxes)
        abstract = item(0x30, context.abstract_syntax.encode("ascii"))
        contexts.append(item(0x20, bytes((context.context_id, 0, 0, 0)) + abstract + syntaxes))
    titles = encode_ae_title(request.called_ae_title), encode_ae_title(request.calling_ae_title)
    return _encode_associate(PduType.ASSOCIATE_RQ, request, titles, b"".join(contexts))


def encode_associate_accept(accept: AssociateAccept) -> bytes:
    contexts = b"".join(
        item(
            0x21,
            bytes((context.context_id, 0, context.result, 0))
            + item(0x40, context.transfer_syntax.encode("ascii")),
        )
        for context in accept.contexts
    )
    titles = _echoed(accept.called_ae_title), _echoed(accept.calling_ae_title)
    return _encode_associate(PduType.ASSOCIATE_AC, accept, titles, contexts)


def _encode_associate(
    pdu_type: PduType,
    associate: AssociateRequest | AssociateAccept,
    titles: tuple[bytes, bytes],
    contexts: bytes,
) -> bytes:
    body = b"".join(
        (
            _ASSOCIATE_FIXED.pack(associate.protocol_version, *titles),
            item(0x10, associate.application_context.encode("ascii")),
            contexts,
            item(0x50, encode_user_information(associate.user_information)),
        )
    )
    return PDU_HEADER.pack(pdu_type, len(body)) + body


def encode_associate_reject(reject: AssociateReject) -> bytes:
    return PDU_HEADER.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, reject.result, reject.source, reject.reason))


RELEASE_RQ_BYTES = PDU_HEADER.pack(PduType.RELEASE_RQ, 4) + bytes(4)
RELEASE_RP_BYTES = PDU_HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4)


def encode_abort(abort: Abort) -> bytes:
    return PDU_HEADER.pack(PduType.ABORT, 4) + bytes((0, 0, abort.source, abort.reason))


def data_header(context_id: int, control: int, fragment_bytes: int) -> bytes:
    """PDU and PDV header of a P-DATA-TF PDU that holds one fragment."""
    return _DATA_HEADER.pack(PduType.P_DATA_TF, fragment_bytes + 6, fragment_bytes + 2, context_id, control)


def decode_associate_request(body: bytes, limits: Limits) -> AssociateRequest:
    """Raises RemoteProtocolError."""
    version, called, calling = _fixed(body)
    budget = ItemBudget(limits.associate_items_max)
    contexts: list[ProposedContext] = []
    application_context: str | None = None
    information: UserInformation | None = None
    for item_type, start, end in items(body, _ASSOCIATE_FIXED.size, len(body), budget):
        if item_type == 0x20:
            if len(contexts) >= limits.presentation_contexts_max:
                raise InvalidPduParameterValue("more presentation contexts than there are numbers for")
            contexts.append(_proposed(body, start, end, budget))
        elif item_type == 0x10:
            application_context = _once(application_context, decode_uid(body[start:end]))
        elif item_type == 0x50:
            information = _once(information, decode_user_information(body, start, end, budget))
    if len({context.context_id for context in contexts}) < len(contexts):
        raise InvalidPduParameterValue("two presentation contexts with one number")
    return AssociateRequest(
        called,
        calling,
        tuple(contexts),
        information or NO_USER_INFORMATION,
        application_context or "",
        version,
    )


def decode_associate_accept(body: bytes, limits: Limits) -> AssociateAccept:
    """Raises RemoteProtocolError."""
    version, called, calling = _fixed(body)
    budget = ItemBudget(limits.associate_items_max)
    contexts: dict[int, NegotiatedContext] = {}
    application_context: str | None = None
    information: UserInformation | None = None
    for item_type, start, end in items(body, _ASSOCIATE_FIXED.size, len(body), budget):
        if item_type == 0x21:
            negotiated = _negotiated(body, start, end, budget)
            contexts[negotiated.context_id] = _once(contexts.get(negotiated.context_id), negotiated)
        elif item_type == 0x10:
            application_context = _once(application_context, decode_uid(body[start:end]))
        elif item_type == 0x50:
            information = _once(information, decode_user_information(body, start, end, budget))
    return AssociateAccept(
        called,
        calling,
        tuple(contexts.values()),
        information or NO_USER_INFORMATION,
        application_context or "",
        version,
    )


def decode_associate_reject(body: bytes) -> AssociateReject:
    return AssociateReject(body[1], body[2], body[3])


def decode_abort(body: bytes) -> Abort:
    return Abort(body[2], body[3])


def encode_ae_title(title: str) -> bytes:
    """Sixteen bytes, padded with spaces (PS3.5 Table 6.2-1, VR AE). Raises LocalProtocolError."""
    if not title.isascii() or not title.isprintable() or len(title) > 16 or "\\" in title:
        raise LocalProtocolError(f"{title!r} is not an AE title: at most 16 printable ASCII characters")
    return title.ljust(16).encode("ascii")


def _echoed(title: str) -> bytes:
    """In an accept the titles only repeat the peer's own, good or bad (PS3.8 Table 9-17)."""
    return title.ljust(16).encode("ascii", "replace")[:16]


def _fixed(body: bytes) -> tuple[int, str, str]:
    if len(body) < _ASSOCIATE_FIXED.size:
        raise InvalidPduParameterValue("the A-ASSOCIATE PDU is cut off")
    version, called, calling = _ASSOCIATE_FIXED.unpack_from(body)
    return version, printable(called), printable(calling)


def _proposed(body: bytes, start: int, end: int, budget: ItemBudget) -> ProposedContext:
    context_id = _context_id(body, start, end)
    abstract_syntax: str | None = None
    transfer_syntaxes = []
    for item_type, first, last in items(body, start + 4, end, budget):
        if item_type == 0x30:
            abstract_syntax = _once(abstract_syntax, decode_uid(body[first:last]))
        elif item_type == 0x40:
            transfer_syntaxes.append(decode_uid(body[first:last]))
    if not abstract_syntax or not transfer_syntaxes:
        raise InvalidPduParameterValue(f"presentation context {context_id} lacks a syntax")
    return ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))


def _negotiated(body: bytes, start: int, end: int, budget: ItemBudget) -> NegotiatedContext:
    context_id = _context_id(body, start, end)
    transfer_syntax = ""
    for item_type, first, last in items(body, start + 4, end, budget):
        if item_type == 0x40:
            transfer_syntax = decode_uid(body[first:last])
    return NegotiatedContext(context_id, body[start + 2], transfer_syntax)


def _context_id(body: bytes, start: int, end: int) -> int:
    if end - start < 4:
        raise InvalidPduParameterValue("a presentation context item is cut off")
    if not body[start] & 1:
        raise InvalidPduParameterValue(f"presentation context number {body[start]} is not odd")
    return body[start]


def _once(seen: _T | None, value: _T) -> _T:
    if seen is not None:
        raise UnexpectedPduParameter("an item that may be there once is there twice")
    return value
