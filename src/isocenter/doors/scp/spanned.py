"""AE titles of ours that stand for many archives: what is asked of them is asked of all (MISSION B7)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from isocenter.dicom.tags import STUDY_INSTANCE_UID
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import AssociationInfo, PendingAnswer
from isocenter.dimse.protocol import statuses
from isocenter.doors.scp.carrying import Batches, Tally
from isocenter.doors.scp.finding import AnswerEncoder
from isocenter.doors.scp.identifiers import Asked
from isocenter.features.ae_titles.callers import Grant
from isocenter.features.ae_titles.entries import AeService
from isocenter.features.archive.query import Match, Query
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.selection import Selection
from isocenter.features.spanner.retrieval.under_way import Retrieval

SPANNED_SERVICES = frozenset({AeService.FIND, AeService.MOVE, AeService.GET})
"""What such a title offers; verification everybody does."""


class SpannedArchives(Protocol):
    async def organization_of(self, called_ae_title: str) -> int | None:
        """Whose title that is; None: nobody's. Raises Unavailable."""
        ...

    async def find(
        self, organization_id: int, called_ae_title: str, query: Query, *, calling_ae_title: str
    ) -> Sequence[Match]:
        """What all archives of the title have, as one answer.

        Raises NotFound where the title has gone meanwhile, InvalidInput, and Unavailable where the answer
        cannot do without sources that failed.
        """
        ...

    async def retrieve(
        self, organization_id: int, called_ae_title: str, selection: Selection
    ) -> list[Retrieval[StoredInstance]]:
        """What the archives have of it, study by study. Raises as `find` does; Conflict where they tell of
        two patients."""
        ...


def check_spanned(selection: Selection) -> None:
    """Raises DimseFailure for what cannot be looked for in other archives."""
    if not selection.studies:
        raise DimseFailure(
            statuses.IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
            "across archives objects are had study by study",
            (STUDY_INSTANCE_UID,),
        )


async def spanned_batches(retrievals: Sequence[Retrieval[StoredInstance]], tally: Tally) -> Batches:
    """Objects as they come; the tally hears what could not be had."""
    with contextlib.ExitStack() as attended:
        for one in retrievals:
            attended.enter_context(one.attending())
        for one in retrievals:
            async with contextlib.aclosing(one.batches()) as batches:
                async for batch in batches:
                    tally.total = sum(each.expected for each in retrievals)
                    yield batch
            if one.missing_uids:
                tally.could_not_be_had(one.wanted.study_uid, one.missing_uids, one.reasons()[0])


async def find_spanned(
    archives: SpannedArchives,
    association: AssociationInfo,
    asked: Asked,
    transfer_syntax_uid: str,
) -> AsyncIterator[PendingAnswer]:
    """One answer for each match. What is matched in sequences, or by the sound of a name, is not matched
    across archives; the status says so (PS3.4 C.4.1.1.4)."""
    query = asked.query
    supported = asked.all_supported and not (query.item_matches or query.fuzzy)
    status = statuses.PENDING if supported else statuses.PENDING_WITH_WARNINGS
    called = association.called_ae_title
    encoder = AnswerEncoder(asked, transfer_syntax_uid, called)
    grant: Grant = association.grant
    for match in await archives.find(
        grant.organization_id, called, query, calling_ae_title=association.calling_ae_title
    ):
        yield PendingAnswer(encoder.encode(match), status)
