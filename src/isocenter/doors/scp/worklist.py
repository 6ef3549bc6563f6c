"""The modality worklist as SCP (PS3.4 K): C-FIND for scheduled procedure steps.

Every attribute may be matched on, inside sequences too; a date range and a time range of the scheduled
start are one range (K.2.2.1.1). Answers come in the requester's character sets where they hold them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE
from isocenter.dicom.dictionary import keyword_of
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.net.service import AssociationInfo, PendingAnswer
from isocenter.dimse.protocol import statuses
from isocenter.doors.scp.statuses import answer_to_error
from isocenter.doors.scp.witness import AssociationWitness
from isocenter.features.ae_titles.admission import Admission
from isocenter.features.ae_titles.callers import Grant
from isocenter.features.ae_titles.entries import AeService
from isocenter.features.worklist.datasets import DataSet, items, text
from isocenter.features.worklist.encoding import SPECIFIC_CHARACTER_SET, from_dimse, shaped, to_dimse
from isocenter.features.worklist.items import WorklistItems
from isocenter.features.worklist.matching import keys_of_data_set
from isocenter.kit.errors import IsocenterError

_KEYS_TOLD_MAX = 50


@dataclass(frozen=True, slots=True)
class ModalityWorklist:
    items: WorklistItems
    admission: Admission
    witness: AssociationWitness

    async def find(
        self, association: AssociationInfo, identifier: bytes, transfer_syntax_uid: str
    ) -> AsyncGenerator[PendingAnswer, None]:
        grant: Grant = association.grant
        asked: DataSet = {}
        answered, reason = 0, "cancelled"
        try:
            if not await self.admission.upholds(grant, AeService.WORKLIST):
                reason = "not-authorized"
                raise DimseFailure(statuses.NOT_AUTHORIZED)
            asked = from_dimse(identifier, transfer_syntax_uid)
            character_sets = character_sets_of(asked)
            keys = keys_of_data_set(
                {name: one for name, one in asked.items() if name != SPECIFIC_CHARACTER_SET}
            )
            async for page in self.items.pages(grant.organization_id, keys):
                for item in page:
                    answered += 1
                    answer = shaped(asked, item.document)
                    yield PendingAnswer(to_dimse(answer, transfer_syntax_uid, character_sets))
            reason = ""
        except DimseFailure:
            raise
        except IsocenterError as error:
            reason = error.code
            answer_to = answer_to_error(error)
            raise DimseFailure(answer_to.status, answer_to.comment) from error
        finally:
            self.witness.listed_work(association, dict(_told(asked)), answered, reason)


def character_sets_of(data_set: Mapping[str, Any]) -> bytes | None:
    found = text(data_set, int(SPECIFIC_CHARACTER_SET, 16))
    return DEFAULT_REPERTOIRE.encode(found, "CS") if found else None


def _told(asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys with a value, those of the scheduled step among them."""
    for name, attribute in list(asked.items())[:_KEYS_TOLD_MAX]:
        tag = int(name, 16)
        for inner in items(asked, tag)[:1]:
            yield from _told(inner)
        if attribute["vr"] != "SQ" and attribute.get("Value"):
            yield keyword_of(tag) or name, text(asked, tag)
