"""Which presentation contexts are accepted, and which of several transfer syntaxes."""

from __future__ import annotations

import pytest

from isocenter.dicom.sop_classes import (
    ENHANCED_MR_IMAGE_STORAGE,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    VERIFICATION,
)
from isocenter.dicom.storage_sop_classes import STORAGE_SOP_CLASSES
from isocenter.dicom.transfer_syntaxes import TRANSFER_SYNTAXES
from isocenter.dimse.protocol.pdu import ContextResult, ProposedContext
from isocenter.dimse.protocol.user_information import ExtendedNegotiation, RoleSelection
from isocenter.doors.scp.contexts import (
    Matching,
    negotiate_contexts,
    negotiated_matching,
    settle_extended,
    settle_roles,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
PRIVATE = "1.2.3.4.5.6"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG, J2K = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
GE = "1.2.840.113619.5.2"


def answer(abstract: str, *syntaxes: str, unknown: bool = False) -> tuple[int, str]:
    [context] = negotiate_contexts(
        [ProposedContext(1, abstract, syntaxes)], accept_unknown_sop_classes=unknown
    )
    assert context.context_id == 1
    return context.result, context.transfer_syntax


def test_every_storage_class_of_the_standard_is_accepted() -> None:
    assert len(STORAGE_SOP_CLASSES) > 150
    for uid in STORAGE_SOP_CLASSES:
        assert answer(uid, EXPLICIT) == (ContextResult.ACCEPTANCE, EXPLICIT)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG, J2K, GE])
def test_every_syntax_is_kept_as_it_is(syntax: str) -> None:
    assert answer(CT, syntax) == (ContextResult.ACCEPTANCE, syntax)


def test_nearly_every_known_syntax_is_accepted_alone() -> None:
    refused = {uid for uid in TRANSFER_SYNTAXES if answer(CT, uid)[0] != ContextResult.ACCEPTANCE}
    assert refused == {"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.20"}


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((JPEG, EXPLICIT, IMPLICIT), JPEG),
        ((J2K, JPEG), J2K),
        ((BIG, EXPLICIT), BIG),
        ((EXPLICIT, BIG, IMPLICIT), EXPLICIT),
        ((IMPLICIT, EXPLICIT), EXPLICIT),  # implicit VR forgets the VRs of private elements
        ((IMPLICIT, JPEG), IMPLICIT),
        (("1.2.3.4", IMPLICIT), IMPLICIT),
        ((IMPLICIT, EXPLICIT, DEFLATED, BIG), EXPLICIT),  # pynetdicom's own order
    ],
)
def test_the_proposer_decides_among_several(offered: tuple[str, ...], chosen: str) -> None:
    assert answer(CT, *offered) == (ContextResult.ACCEPTANCE, chosen)


def test_what_nobody_knows_is_refused_with_the_right_result() -> None:
    assert answer(CT, "1.2.3.4")[0] == ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    assert answer(PRIVATE, EXPLICIT)[0] == ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert answer(STUDY_ROOT_MOVE, EXPLICIT)[0] == ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


def test_private_classes_by_setting_but_never_services_that_we_have_not() -> None:
    assert answer(PRIVATE, JPEG, EXPLICIT, unknown=True) == (ContextResult.ACCEPTANCE, JPEG)
    assert answer(STUDY_ROOT_MOVE, EXPLICIT, unknown=True)[0] == ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


@pytest.mark.parametrize("service", [VERIFICATION, STUDY_ROOT_FIND, PATIENT_ROOT_FIND])
def test_services_prefer_what_is_cheap_to_read(service: str) -> None:
    assert answer(service, BIG, DEFLATED, IMPLICIT) == (ContextResult.ACCEPTANCE, IMPLICIT)
    assert answer(service, BIG) == (ContextResult.ACCEPTANCE, BIG)
    assert answer(service, JPEG)[0] == ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


def test_answers_come_in_the_order_asked() -> None:
    proposed = [ProposedContext(number, CT, (EXPLICIT,)) for number in (5, 1, 255)]
    answers = negotiate_contexts(proposed, accept_unknown_sop_classes=False)
    assert [one.context_id for one in answers] == [5, 1, 255]


def test_a_requestor_may_be_scu_only() -> None:
    proposed = [
        RoleSelection(CT, True, True),
        RoleSelection(ENHANCED_MR_IMAGE_STORAGE, False, True),
        RoleSelection(PRIVATE, True, True),
    ]
    assert settle_roles(proposed, accept_unknown_sop_classes=False) == (
        RoleSelection(CT, True, False),
        RoleSelection(ENHANCED_MR_IMAGE_STORAGE, False, False),
    )


def test_extended_negotiation_grants_what_we_do() -> None:
    asked = [ExtendedNegotiation(STUDY_ROOT_FIND, b"\1\1\1\1\1\1\1\1"), ExtendedNegotiation(CT, b"\1")]
    assert settle_extended(asked) == (ExtendedNegotiation(STUDY_ROOT_FIND, b"\1\1\1\0\0\1\1\0"),)
    assert negotiated_matching(asked, STUDY_ROOT_FIND) == frozenset(Matching)
    assert not negotiated_matching(asked, PATIENT_ROOT_FIND)
    some = [ExtendedNegotiation(STUDY_ROOT_FIND, b"\1\0\1\2")]
    assert negotiated_matching(some, STUDY_ROOT_FIND) == {Matching.RELATIONAL, Matching.FUZZY_NAMES}
    assert settle_extended(some)[0].application_information == b"\1\0\1\0"
    assert settle_extended([ExtendedNegotiation(STUDY_ROOT_FIND, b"")])[0].application_information == b""
