"""Which contexts and roles are accepted, and what status codes mean."""

from __future__ import annotations

import pytest

from isocenter.dimse.protocol import rejections, statuses
from isocenter.dimse.protocol.negotiation import (
    AcceptedContext,
    SupportedSyntax,
    accepted_contexts,
    negotiate,
    negotiate_roles,
)
from isocenter.dimse.protocol.pdu import (
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    NegotiatedContext,
    ProposedContext,
)
from isocenter.dimse.protocol.user_information import RoleSelection, UserInformation

CT, MR, PRIVATE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
EXPLICIT, IMPLICIT, JPEG, ODD = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.4.50",
    "1.9.9",
)
TABLE = {CT: SupportedSyntax((EXPLICIT, IMPLICIT)), MR: SupportedSyntax((EXPLICIT,), any_other=True)}


@pytest.mark.parametrize(
    ("abstract", "proposed", "result", "chosen"),
    [
        (CT, (IMPLICIT, EXPLICIT), 0, EXPLICIT),
        (CT, (IMPLICIT,), 0, IMPLICIT),
        (CT, (JPEG, ODD), 4, JPEG),
        (MR, (ODD, JPEG), 0, ODD),
        (MR, (ODD, EXPLICIT), 0, EXPLICIT),
        (PRIVATE, (EXPLICIT,), 3, EXPLICIT),
    ],
)
def test_each_context_gets_its_answer(
    abstract: str, proposed: tuple[str, ...], result: int, chosen: str
) -> None:
    answers = negotiate([ProposedContext(5, abstract, proposed)], TABLE)
    assert answers == (NegotiatedContext(5, result, chosen),)


def test_unknown_abstract_syntaxes_by_setting() -> None:
    (answer,) = negotiate(
        [ProposedContext(1, PRIVATE, (ODD,))], TABLE, otherwise=SupportedSyntax((), any_other=True)
    )
    assert (answer.result, answer.transfer_syntax) == (0, ODD)


def test_roles_are_granted_never_offered() -> None:
    table = {CT: SupportedSyntax((), requestor_scp=True), MR: SupportedSyntax(())}
    proposed = [
        RoleSelection(CT, True, True),
        RoleSelection(MR, True, True),
        RoleSelection(PRIVATE, True, True),
    ]
    assert negotiate_roles(proposed, table) == (RoleSelection(CT, True, True), RoleSelection(MR, True, False))
    assert negotiate_roles([RoleSelection(CT, False, True)], table) == (RoleSelection(CT, False, True),)
    assert negotiate_roles([RoleSelection(CT, True, False)], table) == (RoleSelection(CT, True, False),)


def test_roles_of_contexts_in_use() -> None:
    def accepted(*proposed: RoleSelection) -> dict[int, AcceptedContext]:
        request = AssociateRequest(
            "B",
            "A",
            (ProposedContext(1, CT, (EXPLICIT,)), ProposedContext(3, MR, (EXPLICIT,))),
            UserInformation(roles=proposed),
        )
        accept = AssociateAccept(
            "B",
            "A",
            (NegotiatedContext(1, 0, EXPLICIT), NegotiatedContext(3, 4, EXPLICIT)),
            UserInformation(roles=(RoleSelection(CT, False, True),)),
        )
        return accepted_contexts(request, accept)

    assert accepted(RoleSelection(CT, True, True)) == {1: AcceptedContext(1, CT, EXPLICIT, False, True)}
    # an answer to a role that nobody proposed means nothing
    assert accepted() == {1: AcceptedContext(1, CT, EXPLICIT, True, False)}


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (0x0000, "success"),
        (0x0001, "warning"),
        (0x0107, "warning"),
        (0x0116, "warning"),
        (0xB000, "warning"),
        (0xBFFF, "warning"),
        (0x0110, "failure"),
        (0xA700, "failure"),
        (0xA9FF, "failure"),
        (0xC123, "failure"),
        (0x0999, "failure"),
        (0xFE00, "cancel"),
        (0xFF00, "pending"),
        (0xFF01, "pending"),
        (0xFF02, "failure"),
    ],
)
def test_families_of_statuses(status: int, family: str) -> None:
    assert statuses.family(status) == family


def test_statuses_and_rejections_in_words() -> None:
    assert statuses.describe(0xA700) == "A700H, failure: out of resources"
    assert statuses.describe(0xC123).endswith("cannot be understood or processed")
    assert statuses.describe(0xA7AA).endswith("out of resources")
    assert statuses.describe(0x0999) == "0999H, failure: no standard meaning"
    assert "calling AE title" in rejections.describe(rejections.CALLING_AE_TITLE_NOT_RECOGNIZED)
    assert rejections.describe(AssociateReject(9, 9, 9)) == "refused with result 9 by source 9: reason 9"
