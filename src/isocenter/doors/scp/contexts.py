"""Which presentation contexts we accept, in which transfer syntax and role (PS3.8 §7.1.1.13, PS3.7 D.3.3.4).

Objects are kept as they arrive, so for storage every transfer syntax that we know is welcome. Where one
context offers several, the proposer's order decides: senders put first what they have or were set to send
(DCMTK, dcm4che and Orthanc do), and any other choice would make them convert. One exception: Implicit VR
Little Endian gives way to Explicit VR Little Endian offered beside it. Everybody must be able to read
implicit VR, so many list it first whatever they have; it forgets the VRs of private elements.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache

from isocenter.dicom.sop_classes import (
    PATIENT_ROOT_FIND,
    SERVICE_SOP_CLASSES,
    STUDY_ROOT_FIND,
    VERIFICATION,
    is_storage_sop_class,
)
from isocenter.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)
from isocenter.dimse.protocol.pdu import ContextResult, NegotiatedContext, ProposedContext
from isocenter.dimse.protocol.user_information import ExtendedNegotiation, RoleSelection
from isocenter.features.ae_titles.entries import ALL_SERVICES, AeService

FIND_SOP_CLASSES = frozenset({STUDY_ROOT_FIND, PATIENT_ROOT_FIND})

# Queries are answered in what costs least to read; a deflated or big-endian one only where asked for.
_QUERY_SYNTAXES = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)

# PS3.6 Table A-1 lists them as transfer syntaxes, but no C-STORE data set is encoded in them.
_NOT_FOR_OBJECTS = frozenset({"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.20"})


class Matching(IntEnum):
    """What PS3.4 Table C.5-1 lets a requestor negotiate: the byte, counted from 0.

    Of the others, timezone adjustment of answers and conversion of multi-frame images are not offered; that
    keys are told in the identifier's own time zone needs no negotiation (C.2.2.2.5).
    """

    RELATIONAL = 0
    DATE_TIME = 1
    FUZZY_NAMES = 2
    EMPTY_VALUES = 5
    ALL_VALUES = 6


def negotiate_contexts(
    proposed: Iterable[ProposedContext],
    *,
    accept_unknown_sop_classes: bool,
    services: frozenset[AeService] = ALL_SERVICES,
) -> tuple[NegotiatedContext, ...]:
    """An answer to each proposed context, in the same order; of a service that is not among those granted
    the user is refused (PS3.8 Table 9-18), not the SOP class."""
    return tuple(
        NegotiatedContext(
            context.context_id,
            *_granted_answer(
                _answer(context.abstract_syntax, context.transfer_syntaxes, accept_unknown_sop_classes),
                context.abstract_syntax,
                services,
            ),
        )
        for context in proposed
    )


def service_of(sop_class_uid: str) -> AeService | None:
    """The service that a SOP class which we serve belongs to; None for Verification."""
    if sop_class_uid == VERIFICATION:
        return None
    return AeService.FIND if sop_class_uid in FIND_SOP_CLASSES else AeService.STORE


def settle_roles(
    proposed: Iterable[RoleSelection], *, accept_unknown_sop_classes: bool
) -> tuple[RoleSelection, ...]:
    """The requestor may be SCU of what we serve; we are SCU of nothing here, so it may not be SCP."""
    return tuple(
        RoleSelection(role.sop_class_uid, role.scu_role, False)
        for role in proposed
        if _is_served(role.sop_class_uid, accept_unknown_sop_classes)
    )


def settle_extended(proposed: Iterable[ExtendedNegotiation]) -> tuple[ExtendedNegotiation, ...]:
    """PS3.4 C.5.1.1: what there is of `Matching`, where asked for."""
    return tuple(
        ExtendedNegotiation(one.sop_class_uid, _granted(one.application_information))
        for one in proposed
        if one.sop_class_uid in FIND_SOP_CLASSES
    )


def negotiated_matching(proposed: Iterable[ExtendedNegotiation], sop_class_uid: str) -> frozenset[Matching]:
    """How the keys of a query may be matched beyond the ordinary."""
    asked = [one.application_information for one in proposed if one.sop_class_uid == sop_class_uid]
    return frozenset(
        matching
        for matching in Matching
        for information in asked
        if information[matching : matching + 1] == b"\1"
    )


def _granted(asked: bytes) -> bytes:
    offered = set(map(int, Matching))
    return bytes(1 if position in offered and wanted == 1 else 0 for position, wanted in enumerate(asked))


def _is_served(sop_class_uid: str, accept_unknown_sop_classes: bool) -> bool:
    if sop_class_uid == VERIFICATION or sop_class_uid in FIND_SOP_CLASSES:
        return True
    if is_storage_sop_class(sop_class_uid):
        return True
    return accept_unknown_sop_classes and sop_class_uid not in SERVICE_SOP_CLASSES


def _granted_answer(
    answer: tuple[ContextResult, str], abstract_syntax: str, services: frozenset[AeService]
) -> tuple[ContextResult, str]:
    result, syntax = answer
    if result is ContextResult.ACCEPTANCE and service_of(abstract_syntax) not in {None, *services}:
        return ContextResult.USER_REJECTION, syntax
    return answer


@lru_cache(maxsize=4096)
def _answer(
    abstract_syntax: str, transfer_syntaxes: tuple[str, ...], accept_unknown_sop_classes: bool
) -> tuple[ContextResult, str]:
    """The result and the transfer syntax; peers propose the same contexts again and again."""
    first = transfer_syntaxes[0]
    if not _is_served(abstract_syntax, accept_unknown_sop_classes):
        return ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, first
    if abstract_syntax == VERIFICATION or abstract_syntax in FIND_SOP_CLASSES:
        chosen = next((syntax for syntax in _QUERY_SYNTAXES if syntax in transfer_syntaxes), None)
    else:
        chosen = _storage_syntax(transfer_syntaxes)
    if chosen is None:
        return ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, first
    return ContextResult.ACCEPTANCE, chosen


def _storage_syntax(offered: tuple[str, ...]) -> str | None:
    storable = [uid for uid in offered if uid in TRANSFER_SYNTAXES and uid not in _NOT_FOR_OBJECTS]
    if not storable:
        return None
    if storable[0] == IMPLICIT_VR_LITTLE_ENDIAN and EXPLICIT_VR_LITTLE_ENDIAN in storable:
        return EXPLICIT_VR_LITTLE_ENDIAN
    return storable[0]
