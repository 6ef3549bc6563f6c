"""Presentation contexts for objects to be sent (PS3.4 B.3.1, PS3.8 §9.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from isocenter.dicom.sop_classes import sop_class_name
from isocenter.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    lookup,
)
from isocenter.dimse.net.client import CONTEXTS_MAX, ClientAssociation, Proposal
from isocenter.dimse.protocol.pdu import ContextResult
from isocenter.features.remotes.outgoing import OutgoingObject

# What an object can be rewritten to without a change of Pixel Data's bytes, best first.
FALLBACKS = {
    EXPLICIT_VR_LITTLE_ENDIAN: (IMPLICIT_VR_LITTLE_ENDIAN,),
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
}


@dataclass(slots=True)
class Load:
    """What goes over associations with the same contexts."""

    contexts: tuple[Proposal, ...] = ()
    objects: list[OutgoingObject] = field(default_factory=list)


def plan(objects: Iterable[OutgoingObject]) -> list[Load]:
    """As few loads as the number of contexts allows; the order of the objects is kept within each."""
    by_class: dict[str, list[OutgoingObject]] = {}
    for one in objects:
        by_class.setdefault(one.sop_class_uid, []).append(one)
    loads: list[Load] = []
    for sop_class_uid, of_class in by_class.items():
        contexts = _contexts(sop_class_uid, {one.transfer_syntax_uid: None for one in of_class})
        if not loads or len(loads[-1].contexts) + len(contexts) > CONTEXTS_MAX:
            loads.append(Load())
        loads[-1].contexts += contexts
        loads[-1].objects += of_class
    return loads


def _contexts(sop_class_uid: str, own: dict[str, None]) -> tuple[Proposal, ...]:
    syntaxes = dict(own)
    for uid in own:
        syntaxes |= dict.fromkeys(FALLBACKS.get(uid, ()))
    # No SOP class has objects in more transfer syntaxes than the standard knows; private ones could.
    return tuple(Proposal(sop_class_uid, (uid,)) for uid in list(syntaxes)[:CONTEXTS_MAX])


def accepted_syntax(association: ClientAssociation, one: OutgoingObject) -> str | None:
    """The transfer syntax to send the object in: its own if that was accepted; None if nothing fits."""
    accepted = {
        context.transfer_syntax
        for context in association.contexts.values()
        if context.abstract_syntax == one.sop_class_uid
    }
    candidates = (one.transfer_syntax_uid, *FALLBACKS.get(one.transfer_syntax_uid, ()))
    return next((uid for uid in candidates if uid in accepted), None)


def why_not_accepted(association: ClientAssociation, one: OutgoingObject) -> str:
    """In plain words: the SOP class, or the transfer syntax alone?"""
    ids = {
        context.context_id
        for context in association.request.contexts
        if context.abstract_syntax == one.sop_class_uid
    }
    results = {context.result for context in association.accept.contexts if context.context_id in ids}
    called = association.request.called_ae_title
    kind = sop_class_name(one.sop_class_uid)
    if results == {ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED}:
        return f"{called} does not take {kind}"
    syntax = lookup(one.transfer_syntax_uid)
    encoding = syntax.name if syntax else one.transfer_syntax_uid
    return f"{called} does not take {kind} encoded as {encoding}"
