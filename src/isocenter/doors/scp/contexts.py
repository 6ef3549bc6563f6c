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
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    MODALITY_WORKLIST_FIND,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    PATIENT_STUDY_ONLY_FIND,
    PATIENT_STUDY_ONLY_GET,
    PATIENT_STUDY_ONLY_MOVE,
    SERVICE_SOP_CLASSES,
    STORAGE_COMMITMENT_PUSH_MODEL,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
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

FIND_SOP_CLASSES = frozenset({STUDY_ROOT_FIND, PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND})
MOVE_SOP_CLASSES = frozenset({STUDY_ROOT_MOVE, PATIENT_ROOT_MOVE, PATIENT_STUDY_ONLY_MOVE})
GET_SOP_CLASSES = frozenset({STUDY_ROOT_GET, PATIENT_ROOT_GET, PATIENT_STUDY_ONLY_GET})

# The services beside Storage; None: for everybody who may call.
_SERVICE_OF: dict[str, AeService | None] = {
    VERIFICATION: None,
    **dict.fromkeys(FIND_SOP_CLASSES, AeService.FIND),
    **dict.fromkeys(MOVE_SOP_CLASSES, AeService.MOVE),
    **dict.fromkeys(GET_SOP_CLASSES, AeService.GET),
    STORAGE_COMMITMENT_PUSH_MODEL: AeService.COMMIT,
    MODALITY_WORKLIST_FIND: AeService.WORKLIST,
    MODALITY_PERFORMED_PROCEDURE_STEP: AeService.WORKLIST,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE: AeService.WORKLIST,
}

# Requests are answered in what costs least to read; a deflated or big-endian one only where asked for.
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
    roles: Iterable[RoleSelection] = (),
) -> tuple[NegotiatedContext, ...]:
    """An answer to each proposed context, in the same order; of a service that is not among those granted
    the user is refused (PS3.8 Table 9-18), not the SOP class. ``roles``: what the requestor wants to be."""
    receivers = {role.sop_class_uid for role in roles if role.scp_role}
    answers = []
    for context in proposed:
        uid = context.abstract_syntax
        result, syntax = _answer(uid, context.transfer_syntaxes, accept_unknown_sop_classes)
        # Who gets objects by C-GET need not be let store any.
        gets = AeService.GET in services and uid in receivers and uid not in _SERVICE_OF
        if result is ContextResult.ACCEPTANCE and not gets and service_of(uid) not in {None, *services}:
            result = ContextResult.USER_REJECTION
        answers.append(NegotiatedContext(context.context_id, result, syntax))
    return tuple(answers)


def served_sop_classes() -> list[tuple[str, AeService | None]]:
    """The SOP classes beside Storage that we serve, each with the service that is granted; for the
    conformance statement."""
    return sorted(_SERVICE_OF.items())


def query_transfer_syntaxes() -> tuple[str, ...]:
    """Of everything but Storage, best first."""
    return _QUERY_SYNTAXES


def storage_transfer_syntaxes() -> list[str]:
    """Those in which objects are received."""
    return [uid for uid in TRANSFER_SYNTAXES if uid not in _NOT_FOR_OBJECTS]


def service_of(sop_class_uid: str) -> AeService | None:
    """The service that a SOP class which we serve belongs to; None for Verification."""
    return _SERVICE_OF.get(sop_class_uid, AeService.STORE)


def settle_roles(
    proposed: Iterable[RoleSelection],
    *,
    accept_unknown_sop_classes: bool,
    services: frozenset[AeService] = ALL_SERVICES,
) -> tuple[RoleSelection, ...]:
    """The requestor may be SCU of what we serve; SCP of Storage, to be sent what it gets (PS3.4 C.5.3.1.1),
    and of Storage Commitment, to report what we asked for (PS3.4 J.3.3)."""
    return tuple(
        RoleSelection(
            role.sop_class_uid,
            role.scu_role and service_of(role.sop_class_uid) in {None, *services},
            role.scp_role and _may_be_scp(role.sop_class_uid, services),
        )
        for role in proposed
        if _is_served(role.sop_class_uid, accept_unknown_sop_classes)
    )


def settle_extended(proposed: Iterable[ExtendedNegotiation]) -> tuple[ExtendedNegotiation, ...]:
    """Where asked for: of queries what there is of `Matching`, relational retrieval (PS3.4 C.5.1.1, C.5.2.1,
    C.5.3.1)."""
    return tuple(
        ExtendedNegotiation(
            one.sop_class_uid, _granted(one.application_information, _granted_to(one.sop_class_uid))
        )
        for one in proposed
        if _granted_to(one.sop_class_uid)
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


def _granted_to(sop_class_uid: str) -> frozenset[int]:
    if sop_class_uid in FIND_SOP_CLASSES:
        return frozenset(map(int, Matching))
    if sop_class_uid in MOVE_SOP_CLASSES or sop_class_uid in GET_SOP_CLASSES:
        return frozenset({int(Matching.RELATIONAL)})
    return frozenset()


def _granted(asked: bytes, positions: frozenset[int]) -> bytes:
    return bytes(1 if position in positions and wanted == 1 else 0 for position, wanted in enumerate(asked))


def _may_be_scp(sop_class_uid: str, services: frozenset[AeService]) -> bool:
    if sop_class_uid == STORAGE_COMMITMENT_PUSH_MODEL:
        return AeService.COMMIT in services
    return sop_class_uid not in _SERVICE_OF and AeService.GET in services


def _is_served(sop_class_uid: str, accept_unknown_sop_classes: bool) -> bool:
    if sop_class_uid in _SERVICE_OF or is_storage_sop_class(sop_class_uid):
        return True
    return accept_unknown_sop_classes and sop_class_uid not in SERVICE_SOP_CLASSES


@lru_cache(maxsize=4096)
def _answer(
    abstract_syntax: str, transfer_syntaxes: tuple[str, ...], accept_unknown_sop_classes: bool
) -> tuple[ContextResult, str]:
    """The result and the transfer syntax; peers propose the same contexts again and again."""
    first = transfer_syntaxes[0]
    if not _is_served(abstract_syntax, accept_unknown_sop_classes):
        return ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, first
    if abstract_syntax in _SERVICE_OF:
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
