"""C-MOVE and C-GET as SCU (PS3.4 C.4.2.2, C.4.3.2): objects of another archive, to whom we name or to us."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.scan_limits import ScanError
from isocenter.dicom.sop_classes import (
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from isocenter.dicom.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
)
from isocenter.dimse.net.client import CONTEXTS_MAX, Proposal
from isocenter.dimse.net.requestor import Receive
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import CGetResponse, CMoveResponse
from isocenter.dimse.protocol.user_information import RoleSelection
from isocenter.dimse.scu.finding import UNIQUE_KEYS, Level, Question
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.kit.errors import InvalidInput

FAILED_SOP_INSTANCE_UID_LIST = 0x00080058
_UNCOMPRESSED = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_COMPRESSED = (
    JPEG_LOSSLESS_SV1,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    JPEG_BASELINE,
    JPEG_2000,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    HTJ2K,
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless, Process 14
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC/H.264
    "1.2.840.10008.1.2.4.100",  # MPEG2
    "1.2.840.10008.1.2.1.99",  # Deflated
)
_COMMON = (
    "2 4 1 1.1 1.2 6.1 3.1 7 128 20 12.1 12.2 2.1 4.1 13.1.3 104.1 88.67 11.1 88.59 88.11 88.22 88.33 "
    "1.1.1 1.2.1 1.3 1.3.1 2.2 4.2 4.3 4.4 6.2 7.1 7.2 7.3 7.4 9.1.1 9.1.2 9.1.3 9.2.1 9.3.1 9.4.1 9.5.1 "
    "9.6.1 11.2 11.3 11.4 11.5 11.6 11.8 12.1.1 12.2.1 13.1.1 13.1.2 13.1.4 14.1 30 66 66.1 66.2 66.3 "
    "66.4 66.5 67 77.1.1 77.1.1.1 77.1.2 77.1.2.1 77.1.3 77.1.4 77.1.4.1 77.1.5.1 77.1.5.2 77.1.5.3 "
    "77.1.5.4 77.1.6 77.1.7 78.7 78.8 79.1 80.1 81.1 88.34 88.35 88.40 88.50 88.65 88.68 88.69 88.71 "
    "88.73 90.1 91.1 104.2 104.3 128.1 130 481.1 481.2 481.3 481.4 481.5 481.6 481.7 481.8 481.9 "
    "3 5 6 12.3"  # retired, and in many an archive
)
COMMON_SOP_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in _COMMON.split())
"""What is proposed where nobody says which SOP classes there are: an association has room for 127."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """``keys``: unique keys of the level and of those above it by tag; UIDs of the level itself may be
    several, separated by backslashes. The patient level is the patient root model's."""

    level: Level
    keys: Mapping[int, str]
    patient_root: bool = False

    @property
    def by_patient(self) -> bool:
        return self.patient_root or self.level is Level.PATIENT

    def identifier(self, transfer_syntax_uid: str) -> bytes:
        """Raises InvalidInput where the level's own key is missing, or a value is none of its attribute."""
        if not self.keys.get(UNIQUE_KEYS[self.level]):
            raise InvalidInput(f"A retrieval at the {self.level} level has to say which.")
        elements = Question(self.level, self.keys, patient_root=self.by_patient).elements()
        return write_dataset(elements, transfer_syntax_uid)


@dataclass(frozen=True, slots=True)
class Progress:
    """What the other has said last. ``remaining`` None: it does not say. ``status``: pending until the last
    one, which alone has ``failed_uids`` and ``comment``."""

    remaining: int | None
    completed: int
    failed: int
    warning: int
    status: int
    comment: str = ""
    failed_uids: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        return statuses.family(self.status) is not statuses.Family.PENDING

    @property
    def complete(self) -> bool:
        """Whether everything has arrived."""
        return self.status == statuses.SUCCESS and not self.failed

    def in_words(self) -> str:
        said = statuses.describe(self.status)
        return f"{said} ({self.comment})" if self.comment else said


async def move(
    remotes: Remotes, peer: Peer, wanted: Wanted, destination: str
) -> AsyncGenerator[Progress, None]:
    """Have ``peer`` send objects to the AE title ``destination``, as it knows it: ours, or another's.

    Leaving early cancels. Raises InvalidInput, ConnectFailed, AssociationRejected, AssociationAborted,
    DimseTimeout, ContextNotAccepted.
    """
    model = PATIENT_ROOT_MOVE if wanted.by_patient else STUDY_ROOT_MOVE
    async with remotes.association(peer, (Proposal(model),)) as association:
        syntax = association.context_for(model).transfer_syntax
        answers = association.move(model, destination, wanted.identifier(syntax))
        async with aclosing(_progress(answers, syntax)) as told:
            async for one in told:
                yield one


async def get(
    remotes: Remotes,
    peer: Peer,
    wanted: Wanted,
    receive: Receive,
    *,
    sop_classes: Sequence[str] = COMMON_SOP_CLASSES,
) -> AsyncGenerator[Progress, None]:
    """Have ``peer`` send objects over our own association, into the sinks that ``receive`` gives.

    Objects of other SOP classes than these fail there. Leaving early cancels. Raises as `move` does.
    """
    model = PATIENT_ROOT_GET if wanted.by_patient else STUDY_ROOT_GET
    contexts = (Proposal(model), *storage_contexts(sop_classes, CONTEXTS_MAX - 1))
    roles = [RoleSelection(uid, scu_role=False, scp_role=True) for uid in sop_classes]
    async with remotes.association(peer, contexts, roles=roles) as association:
        syntax = association.context_for(model).transfer_syntax
        answers = association.get(model, wanted.identifier(syntax), receive)
        async with aclosing(_progress(answers, syntax)) as told:
            async for one in told:
                yield one


def storage_contexts(sop_classes: Sequence[str], contexts_max: int) -> tuple[Proposal, ...]:
    """A context for each compressed transfer syntax as far as there is room, so that the other can send each
    object as it has it (only one transfer syntax of a context is accepted); the rest together in one.

    Raises InvalidInput for more classes than contexts.
    """
    if not 0 < len(sop_classes) <= contexts_max:
        raise InvalidInput(
            f"{len(sop_classes)} SOP classes do not fit into an association.", code="too-many-contexts"
        )
    alone = min(contexts_max // len(sop_classes) - 1, len(_COMPRESSED))
    together = _UNCOMPRESSED if alone == len(_COMPRESSED) else _UNCOMPRESSED + _COMPRESSED[max(alone, 0) :]
    return tuple(
        Proposal(uid, syntaxes)
        for uid in sop_classes
        for syntaxes in (together, *((one,) for one in _COMPRESSED[: max(alone, 0)]))
    )


async def _progress(
    answers: AsyncGenerator[tuple[CMoveResponse | CGetResponse, bytes | None], None], syntax: str
) -> AsyncGenerator[Progress, None]:
    async with aclosing(answers):
        async for response, identifier in answers:
            yield Progress(
                response.remaining_sub_operations,
                response.completed_sub_operations or 0,
                response.failed_sub_operations or 0,
                response.warning_sub_operations or 0,
                response.status,
                response.error_comment or "",
                _failed(identifier, syntax),
            )


def _failed(identifier: bytes | None, syntax: str) -> tuple[str, ...]:
    if identifier is None:
        return ()
    try:
        elements = read_dataset(identifier, syntax)
    except ScanError:
        return ()  # what it says of single objects is a courtesy
    for one in elements:
        if one.tag == FAILED_SOP_INSTANCE_UID_LIST and isinstance(one.value, bytes):
            return _uids(one)
    return ()


def _uids(element: Element) -> tuple[str, ...]:
    assert isinstance(element.value, bytes)
    text = element.value.decode("ascii", "replace")
    return tuple(uid.strip(" \0") for uid in text.split("\\") if uid.strip(" \0"))
