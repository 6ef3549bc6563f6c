"""What retrieving needs of whoever keeps objects: this feature knows of none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from isocenter.dimse.net.service import StoreSink
from isocenter.dimse.protocol.messages import CStoreRequest
from isocenter.features.spanner.entries import Source
from isocenter.features.spanner.persons import Person
from isocenter.features.spanner.retrieval.wanted import Key, Wanted
from isocenter.kit.errors import IsocenterError


class HeldObject(Protocol):
    """An object that is at hand."""

    @property
    def study_instance_uid(self) -> str: ...

    @property
    def series_instance_uid(self) -> str: ...

    @property
    def sop_instance_uid(self) -> str: ...


H = TypeVar("H", bound=HeldObject)
H_co = TypeVar("H_co", bound=HeldObject, covariant=True)
H_contra = TypeVar("H_contra", bound=HeldObject, contravariant=True)


def key_of(one: HeldObject) -> Key:
    return one.series_instance_uid, one.sop_instance_uid


class Arrivals(Protocol[H_contra]):
    """Who hears what became of each object that a source gave.

    ``keep``: they are archived; else they are at hand for a while. ``reads_archive``: what a source sends to
    our own door may be read in the archive, whose study is the same patient's.
    """

    @property
    def wanted(self) -> Wanted: ...

    @property
    def keep(self) -> bool: ...

    @property
    def reads_archive(self) -> bool: ...

    def expects(self, one: H_contra) -> bool:
        """Whether it belongs to what was asked for; what does not is neither kept nor passed on."""
        ...

    def came(self, one: H_contra) -> None: ...

    def refused(self, sop_instance_uid: str, why: str) -> None:
        """It cannot be used: another source may have it in a better state."""
        ...

    def broke(self, error: IsocenterError) -> None:
        """Nothing can be taken in at present, whoever gives it."""
        ...


class Landing(Protocol):
    """Where what one source gives comes in. ``heard``: how often anything was heard of it."""

    heard: int

    def receive(self, request: CStoreRequest | None, transfer_syntax_uid: str) -> StoreSink:
        """The sink for the next object: the data set of a C-STORE, or, without a request, a file (PS3.10)."""
        ...

    async def look(self) -> None:
        """Objects may have come by our own door: a source was asked to send them there (C-MOVE). Raises
        SourceFailed where they cannot be told from another patient's."""
        ...

    async def settle(self) -> None:
        """Returns when all that has come is at hand, or cannot be."""
        ...


class Keeper(Protocol[H_co]):
    """The archive, as retrieving sees it."""

    async def here(self, organization_id: int, wanted: Wanted) -> Sequence[H_co]:
        """What it has of it, in display order. Raises Unavailable; Conflict where some must not leave."""
        ...

    async def patient_here(self, organization_id: int, study_uid: str) -> Person | None:
        """Whose study that is here; None: it is not here. Raises Unavailable."""
        ...

    def landing(self, organization_id: int, source: Source, arrivals: Arrivals[H_co]) -> Landing: ...
