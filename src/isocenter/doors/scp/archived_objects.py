"""The archive's objects as what is sent, in transfer syntaxes that whoever gets them takes.

What the receiver does not take as it is stored is transcoded, never with a loss: whoever moves objects for a
diagnosis must not get less than was stored (PS3.4 C.4.2: sub-operations are C-STOREs like any other).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from isocenter.dicom.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    HTJ2K_LOSSLESS,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
)
from isocenter.dimse.net.bodies import Body
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.dimse.scu.rewriting import Conversions
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.selection import data_set_of
from isocenter.features.archive.transcoding import GivenObject, Transcoder
from isocenter.imaging.transcoding import can_transcode
from isocenter.kit.errors import Unsupported
from isocenter.platform.storage.interface import ObjectStore

_TARGETS = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_LS_LOSSLESS,
    JPEG_2000_LOSSLESS,
    HTJ2K_LOSSLESS,
    RLE_LOSSLESS,
)
"""Best first: what costs the receiver least to read, then what is the most common."""


@dataclass(frozen=True, slots=True)
class ArchivedObject(OutgoingObject):
    instance: StoredInstance


def archived_objects(store: ObjectStore, instances: Sequence[StoredInstance]) -> list[OutgoingObject]:
    return [
        ArchivedObject(
            one.sop_class_uid,
            one.sop_instance_uid,
            one.transfer_syntax_uid,
            data_set_of(store, one),
            one.size - one.header_size,
            one.sop_instance_uid,
            one,
        )
        for one in instances
    ]


def archive_conversions(transcoder: Transcoder) -> Conversions:
    """For `archived_objects`."""

    async def as_transfer_syntax(one: OutgoingObject, _: Body, target_uid: str) -> Body:
        assert isinstance(one, ArchivedObject)
        given = await transcoder.given(one.instance, target_uid)
        if given.transfer_syntax_uid != target_uid:
            raise Unsupported("it has no pixels, so nothing that could be compressed")
        return _data_set(given)

    return Conversions(_targets, as_transfer_syntax)


@lru_cache(maxsize=64)
def _targets(transfer_syntax_uid: str) -> tuple[str, ...]:
    return tuple(
        target
        for target in _TARGETS
        if target != transfer_syntax_uid and can_transcode(transfer_syntax_uid, target)
    )


async def _data_set(given: GivenObject) -> AsyncIterator[bytes]:
    """The file without its preamble and file meta information."""
    left_out = given.header_size
    async for piece in given.stream():
        if left_out >= len(piece):
            left_out -= len(piece)
            continue
        yield piece[left_out:]
        left_out = 0
