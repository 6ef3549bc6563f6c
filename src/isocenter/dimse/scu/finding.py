"""C-FIND as SCU at the levels of the Query/Retrieve models (PS3.4 C.4.1, C.6.1, C.6.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE, UNICODE, TextDecoder
from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.dictionary import keyword_of, vr_of
from isocenter.dicom.element import Element
from isocenter.dicom.json_values import TEXT_VRS, encode_numbers
from isocenter.dicom.sop_classes import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from isocenter.dicom.tags import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
)
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.kit.errors import InvalidInput

QUERY_RETRIEVE_LEVEL = 0x00080052


class Level(StrEnum):
    """As (0008,0052) spells them."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


UNIQUE_KEYS = {
    Level.PATIENT: PATIENT_ID,
    Level.STUDY: STUDY_INSTANCE_UID,
    Level.SERIES: SERIES_INSTANCE_UID,
    Level.IMAGE: SOP_INSTANCE_UID,
}


@dataclass(frozen=True, slots=True)
class Question:
    """``keys`` maps tags to matching keys as text (PS3.4 C.2.2.2); an empty one asks for the value.

    The patient level is asked of the patient root model, which ``patient_root`` chooses for the others too.
    ``encoder``: what text beyond ASCII is written in.
    """

    level: Level
    keys: Mapping[int, str]
    patient_root: bool = False
    encoder: TextDecoder = UNICODE

    @property
    def model_uid(self) -> str:
        by_patient = self.patient_root or self.level is Level.PATIENT
        return PATIENT_ROOT_FIND if by_patient else STUDY_ROOT_FIND

    def identifier(self, transfer_syntax_uid: str) -> bytes:
        """The request's, encoded. Raises InvalidInput as `elements` does."""
        return _identifier(
            self.level, tuple(self.keys.items()), self.encoder, transfer_syntax_uid, self.patient_root
        )

    def elements(self) -> list[Element]:
        """The request's identifier. Raises InvalidInput for a value that its attribute cannot have."""
        keys = {UNIQUE_KEYS[self.level]: "", **self.keys}
        elements = [self._element(tag, text) for tag, text in keys.items()]
        elements.append(
            Element(QUERY_RETRIEVE_LEVEL, "CS", DEFAULT_REPERTOIRE.encode(self.level.value, "CS"))
        )
        if not all(text.isascii() for text in keys.values()):
            declared = self.encoder.encode(self.encoder.term, "CS")
            elements.append(Element(SPECIFIC_CHARACTER_SET, "CS", declared))
        return elements

    def _element(self, tag: int, text: str) -> Element:
        vr = vr_of(tag)
        if not text:
            return Element(tag, vr, [] if vr == "SQ" else b"")
        if vr in TEXT_VRS:
            return Element(tag, vr, self.encoder.encode(text, vr))
        try:
            return Element(tag, vr, encode_numbers(text.split("\\") if vr == "AT" else _integers(text), vr))
        except ValueError:
            raise InvalidInput(
                f"{keyword_of(tag) or f'{tag:08X}'} ({vr}) cannot be matched by that value",
                remedy="Leave its value out to have it returned.",
            ) from None


async def find(remotes: Remotes, peer: Peer, question: Question) -> AsyncGenerator[list[Element], None]:
    """The matches, each as the elements of its identifier, as they come. Leaving early ends the query.

    Raises InvalidInput for the question, ConnectFailed, AssociationRejected, AssociationAborted,
    DimseTimeout, ContextNotAccepted, DimseFailure.
    """
    async with aclosing(find_encoded(remotes, peer, question)) as batches:
        async for matches, transfer_syntax_uid in batches:
            for match in matches:
                yield read_dataset(match, transfer_syntax_uid)


async def find_encoded(
    remotes: Remotes, peer: Peer, question: Question
) -> AsyncGenerator[tuple[list[bytes], str], None]:
    """The same as data sets that nobody has read, as many at a time as have come together, and their transfer
    syntax."""
    model_uid = question.model_uid
    question.identifier(EXPLICIT_VR_LITTLE_ENDIAN)  # raises before anybody is called
    async with remotes.association(peer, (Proposal(model_uid),)) as association:
        syntax = association.context_for(model_uid).transfer_syntax
        async with aclosing(association.find_batches(model_uid, question.identifier(syntax))) as batches:
            async for matches in batches:
                yield matches, syntax


@lru_cache(maxsize=256)
def _identifier(
    level: Level, keys: tuple[tuple[int, str], ...], encoder: TextDecoder, syntax: str, patient_root: bool
) -> bytes:
    """One question goes to many peers."""
    return write_dataset(Question(level, dict(keys), patient_root, encoder).elements(), syntax)


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split("\\")]
