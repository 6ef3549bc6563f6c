"""AE titles of ours that stand for many archives: what is asked of them is asked of all (MISSION B7)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from isocenter.dimse.net.service import AssociationInfo, PendingAnswer
from isocenter.dimse.protocol import statuses
from isocenter.doors.scp.finding import AnswerEncoder
from isocenter.doors.scp.identifiers import Asked
from isocenter.features.ae_titles.callers import Grant
from isocenter.features.ae_titles.entries import AeService
from isocenter.features.archive.query import Match, Query

SPANNED_SERVICES = frozenset({AeService.FIND})
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
