"""What the DIMSE door asks of many archives for a workstation."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.features.archive.query import Match, Query
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.selection import Selection
from isocenter.features.spanner.called_titles import CalledTitles
from isocenter.features.spanner.merge import Answer
from isocenter.features.spanner.query_log import Asker
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.retrieval.service import Retrievals
from isocenter.features.spanner.retrieval.under_way import Retrieval
from isocenter.features.spanner.retrieval.wanted import Wanted
from isocenter.features.spanner.service import Spanner
from isocenter.kit.errors import NotFound
from isocenter.platform.security import SubjectKind
from isocenter.platform.telemetry import get_logger

ANSWERS_MAX = 10_000

log = get_logger(__name__)


class Workstations:
    """Implements ``doors.scp.spanned.SpannedArchives``."""

    def __init__(
        self, titles: CalledTitles, spanner: Spanner, retrievals: Retrievals[StoredInstance]
    ) -> None:
        self._titles = titles
        self._spanner = spanner
        self._retrievals = retrievals

    async def organization_of(self, called_ae_title: str) -> int | None:
        found = await self._titles.find(called_ae_title)
        return None if found is None else found.organization_id

    async def find(
        self, organization_id: int, called_ae_title: str, query: Query, *, calling_ae_title: str
    ) -> Sequence[Match]:
        config_id = await self._config_of(organization_id, called_ae_title)
        matches = {tag: text for tag, text in query.matches.items() if text}
        question = Question(query.level, matches, query.returned, limit=ANSWERS_MAX)
        asker = Asker(SubjectKind.AE_TITLE, calling_ae_title, calling_ae_title)
        spanned = await self._spanner.ask(organization_id, config_id, question, asker=asker)
        if missing := spanned.result.missing:
            # C-FIND has no status for an answer that lacks something (PS3.4 Table C.4-1).
            log.warning(
                "Answered a workstation without some archives",
                called_ae_title=called_ae_title,
                missing=[f"{one.source.name}: {one.ended}" for one in missing],
            )
        return [_match(answer, query.returned) for answer in spanned.result.answers]

    async def retrieve(
        self, organization_id: int, called_ae_title: str, selection: Selection
    ) -> list[Retrieval[StoredInstance]]:
        config_id = await self._config_of(organization_id, called_ae_title)
        found = []
        for study_uid in selection.studies:
            wanted = Wanted(study_uid, selection.series, selection.instances)
            try:
                found.append(await self._retrievals.begin(organization_id, config_id, wanted))
            except NotFound:
                continue  # no match is no failure (PS3.4 C.4.2.1.5)
        return found

    async def _config_of(self, organization_id: int, called_ae_title: str) -> int:
        called = await self._titles.find(called_ae_title)
        if called is None or called.organization_id != organization_id:
            raise NotFound("That AE title is nobody's any more.", code="no-such-spanner-config")
        return called.config_id


def _match(answer: Answer, returned: frozenset[int]) -> Match:
    """What was asked for; answers are told apart by more than that."""
    lines = [f'"{tag:08X}":{value}' for tag, value in answer.row.items() if tag in returned]
    uids = (*answer.identity, "", "", "")
    return Match(uids[0], uids[1], uids[2], lines)
