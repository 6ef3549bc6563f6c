"""Which presentation contexts of a request are accepted (PS3.8 §7.1.1.13, PS3.7 D.3.3.4): pure, no policy
of its own beyond the tables it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isocenter.dimse.protocol.pdu import (
    AssociateAccept,
    AssociateRequest,
    ContextResult,
    NegotiatedContext,
    ProposedContext,
)
from isocenter.dimse.protocol.user_information import RoleSelection


@dataclass(frozen=True, slots=True)
class SupportedSyntax:
    """What is accepted for one abstract syntax.

    ``transfer_syntaxes`` in the order in which we like them. With ``any_other``, one that we do not
    know is taken as well, when none of ours is proposed: objects can be kept as they are.
    ``requestor_scu`` and ``requestor_scp``: the roles that a requestor may play.
    """

    transfer_syntaxes: tuple[str, ...]
    any_other: bool = False
    requestor_scu: bool = True
    requestor_scp: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context in use. The roles are the requestor's."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    scu_role: bool = True
    scp_role: bool = False


def negotiate(
    proposed: Iterable[ProposedContext],
    supported: Mapping[str, SupportedSyntax],
    *,
    otherwise: SupportedSyntax | None = None,
) -> tuple[NegotiatedContext, ...]:
    """An answer to each proposed context, in the same order.

    ``otherwise`` serves the abstract syntaxes that ``supported`` does not name (unknown and private ones);
    without it they get result 3. The transfer syntax of a rejected context echoes the first proposed: the
    standard calls it not significant, some peers read it all the same.
    """
    return tuple(_answer(context, supported.get(context.abstract_syntax, otherwise)) for context in proposed)


def _answer(context: ProposedContext, supported: SupportedSyntax | None) -> NegotiatedContext:
    first = context.transfer_syntaxes[0]
    if supported is None:
        return NegotiatedContext(context.context_id, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, first)
    for transfer_syntax in supported.transfer_syntaxes:
        if transfer_syntax in context.transfer_syntaxes:
            return NegotiatedContext(context.context_id, ContextResult.ACCEPTANCE, transfer_syntax)
    if supported.any_other:
        return NegotiatedContext(context.context_id, ContextResult.ACCEPTANCE, first)
    return NegotiatedContext(context.context_id, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, first)


def negotiate_roles(
    proposed: Iterable[RoleSelection],
    supported: Mapping[str, SupportedSyntax],
    *,
    otherwise: SupportedSyntax | None = None,
) -> tuple[RoleSelection, ...]:
    """An answer to each proposed role selection whose SOP class we know: a role is granted or not,
    never offered (PS3.7 D.3.3.4.2)."""
    answers = []
    for role in proposed:
        known = supported.get(role.sop_class_uid, otherwise)
        if known is not None:
            scu = role.scu_role and known.requestor_scu
            scp = role.scp_role and known.requestor_scp
            answers.append(RoleSelection(role.sop_class_uid, scu, scp))
    return tuple(answers)


def accepted_contexts(request: AssociateRequest, accept: AssociateAccept) -> dict[int, AcceptedContext]:
    """The contexts in use, by number. Without a role selection the requestor is SCU only (PS3.7 D.3.3.4)."""
    abstract_syntaxes = {context.context_id: context.abstract_syntax for context in request.contexts}
    proposed = {role.sop_class_uid for role in request.user_information.roles}
    roles = {role.sop_class_uid: role for role in accept.user_information.roles}
    accepted = {}
    for context in accept.contexts:
        if context.result != ContextResult.ACCEPTANCE:
            continue
        abstract_syntax = abstract_syntaxes[context.context_id]
        role = roles.get(abstract_syntax) if abstract_syntax in proposed else None
        accepted[context.context_id] = AcceptedContext(
            context.context_id,
            abstract_syntax,
            context.transfer_syntax,
            role.scu_role if role else True,
            role.scp_role if role else False,
        )
    return accepted
