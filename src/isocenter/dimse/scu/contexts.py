"""Presentation contexts for objects to be sent (PS3.4 B.3.1, PS3.8 §9.3.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from isocenter.dicom.sop_classes import sop_class_name
from isocenter.dicom.transfer_syntaxes import lookup
from isocenter.dimse.net.client import CONTEXTS_MAX, ClientAssociation, Proposal
from isocenter.dimse.protocol.pdu import ContextResult
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.dimse.scu.rewriting import Conversions


@dataclass(slots=True)
class Load:
    """What goes over associations with the same contexts."""

    contexts: tuple[Proposal, ...] = ()
    objects: list[OutgoingObject] = field(default_factory=list)


def plan(
    objects: Sequence[OutgoingObject], conversions: Conversions, preferred: tuple[str, ...] = ()
) -> list[Load]:
    """As few loads as the number of contexts allows; the order of the objects is kept within each."""
    own: dict[str, dict[str, None]] = {}
    for one in objects:
        own.setdefault(one.sop_class_uid, {})[one.transfer_syntax_uid] = None
    loads: list[Load] = []
    load_of: dict[str, Load] = {}
    for sop_class_uid, syntaxes in own.items():
        contexts = _contexts(sop_class_uid, syntaxes, conversions, preferred)
        if not loads or len(loads[-1].contexts) + len(contexts) > CONTEXTS_MAX:
            loads.append(Load())
        loads[-1].contexts += contexts
        load_of[sop_class_uid] = loads[-1]
    for one in objects:
        load_of[one.sop_class_uid].objects.append(one)
    return loads


def _contexts(
    sop_class_uid: str, own: dict[str, None], conversions: Conversions, preferred: tuple[str, ...]
) -> tuple[Proposal, ...]:
    syntaxes = dict(own)
    for uid in own:
        syntaxes |= dict.fromkeys(conversions.candidates(uid, preferred))
    # No SOP class has objects in more transfer syntaxes than the standard knows; private ones could.
    return tuple(Proposal(sop_class_uid, (uid,)) for uid in list(syntaxes)[:CONTEXTS_MAX])


def why_not_accepted(association: ClientAssociation, one: OutgoingObject) -> str:
    """In plain words: the SOP class, or the transfer syntax alone?"""
    ids = {
        context.context_id
        for context in association.request.contexts
        if context.abstract_syntax == one.sop_class_uid
    }
    results = {context.result for context in association.accept.contexts if context.context_id in ids}
    called = association.request.called_ae_title
    if results == {ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED}:
        return f"{called} does not take {sop_class_name(one.sop_class_uid)}"
    return not_in_that_syntax(called, one)


def not_in_that_syntax(called: str, one: OutgoingObject) -> str:
    syntax = lookup(one.transfer_syntax_uid)
    encoding = syntax.name if syntax else one.transfer_syntax_uid
    return f"{called} does not take {sop_class_name(one.sop_class_uid)} encoded as {encoding}"
