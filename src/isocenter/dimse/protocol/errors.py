"""Whose fault was it?

    ProtocolError
     ├─ LocalProtocolError            we asked for something that the standard does not allow now
     └─ RemoteProtocolError           the peer's bytes break the standard (or one of our limits)
         ├─ UnrecognizedPdu            a PDU type that does not exist
         ├─ UnexpectedPdu              a known PDU at the wrong time
         ├─ UnrecognizedPduParameter   an item that must not stand there
         ├─ UnexpectedPduParameter     a second one of what may be there once; a fragment out of turn
         └─ InvalidPduParameterValue   a length, count or value that is out of bounds

The reason that goes into the A-ABORT (PS3.8 Table 9-26) is pinned on the class, so that a raise site
never decides about the wire. ``feed`` never lets a RemoteProtocolError out: it becomes an A-ABORT and
an ``Aborted`` event that carries it.
"""

from __future__ import annotations

from typing import ClassVar

from isocenter.kit.errors import InternalError, InvalidInput, IsocenterError


class ProtocolError(IsocenterError):
    """Base of both sides' faults; raise one of its children."""


class LocalProtocolError(ProtocolError, InternalError):
    default_code = "dimse-local-protocol-error"


class RemoteProtocolError(ProtocolError, InvalidInput):
    default_code = "dimse-remote-protocol-error"
    abort_reason: ClassVar[int] = 0


class UnrecognizedPdu(RemoteProtocolError):
    default_code = "dimse-unrecognized-pdu"
    abort_reason = 1


class UnexpectedPdu(RemoteProtocolError):
    default_code = "dimse-unexpected-pdu"
    abort_reason = 2


class UnrecognizedPduParameter(RemoteProtocolError):
    default_code = "dimse-unrecognized-pdu-parameter"
    abort_reason = 4


class UnexpectedPduParameter(RemoteProtocolError):
    default_code = "dimse-unexpected-pdu-parameter"
    abort_reason = 5


class InvalidPduParameterValue(RemoteProtocolError):
    default_code = "dimse-invalid-pdu-parameter-value"
    abort_reason = 6
