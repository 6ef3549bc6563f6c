"""C-FIND: the archive's one search, answered as data sets (PS3.4 C.4.1.1.3.2).

Every key that was asked for is in every answer, empty where the archive has no value; so are the unique
keys, the level and the AE title to retrieve from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE, TextDecoder, encoder_for
from isocenter.dicom.dataset import write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.json_dataset import element_from_json
from isocenter.dicom.tags import SPECIFIC_CHARACTER_SET
from isocenter.dimse.net.service import PendingAnswer
from isocenter.dimse.protocol import statuses
from isocenter.doors.scp.identifiers import QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, Asked
from isocenter.features.archive.query import Match, Search
from isocenter.platform.db import Database

_PLAIN_TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UI", "UT"})


async def find_answers(
    database: Database, organization_id: int, asked: Asked, transfer_syntax_uid: str, retrieve_ae_title: str
) -> AsyncIterator[PendingAnswer]:
    """One answer for each match; a page of matches is in memory at a time.

    Raises InvalidInput for a value that its attribute cannot have, Unavailable.
    """
    search = Search(database, organization_id, asked.query)
    supported = asked.all_supported and not (search.unsupported or search.unsupported_items)
    status = statuses.PENDING if supported else statuses.PENDING_WITH_WARNINGS
    encoder = AnswerEncoder(asked, transfer_syntax_uid, retrieve_ae_title)
    async for matches in search.pages():
        for match in matches:
            yield PendingAnswer(encoder.encode(match), status)


class AnswerEncoder:
    """From a match's ready JSON lines to a data set, for one query."""

    def __init__(self, asked: Asked, transfer_syntax_uid: str, retrieve_ae_title: str) -> None:
        self._transfer_syntax_uid = transfer_syntax_uid
        self._character_sets = asked.character_sets
        self._empty = {f"{tag:08X}": Element(tag, vr, [] if vr == "SQ" else b"") for tag, vr in asked.keys}
        self._constant = [
            Element(QUERY_RETRIEVE_LEVEL, "CS", DEFAULT_REPERTOIRE.encode(asked.level, "CS")),
            Element(RETRIEVE_AE_TITLE, "AE", DEFAULT_REPERTOIRE.encode(retrieve_ae_title, "AE")),
        ]

    def encode(self, match: Match) -> bytes:
        encoder = self._encoder_for(match)
        elements = dict(self._empty)
        attributes = orjson.loads("{" + ",".join(match.lines) + "}")
        for tag, attribute in attributes.items():
            elements[tag] = _element(int(tag, 16), attribute, encoder)
        declared = [Element(SPECIFIC_CHARACTER_SET, "CS", encoder.encode(encoder.term, "CS"))]
        constant = self._constant + declared if encoder.term else self._constant
        return write_dataset([*elements.values(), *constant], self._transfer_syntax_uid)

    def _encoder_for(self, match: Match) -> TextDecoder:
        """The requester's character sets where they hold the answer's text, else UTF-8."""
        text = "".join(match.lines)
        if text.isascii():
            return encoder_for(self._character_sets, ())
        beyond = "".join([character for character in text if not character.isascii()])
        return encoder_for(self._character_sets, (beyond,))


def _element(tag: int, attribute: dict[str, Any], encoder: TextDecoder) -> Element:
    """One string value, as nearly every answer's attributes have, takes the short road."""
    vr, values = attribute["vr"], attribute.get("Value", ())
    if vr in _PLAIN_TEXT and len(values) == 1 and isinstance(values[0], str):
        return Element(tag, vr, encoder.encode(values[0], vr))
    return element_from_json(tag, attribute, encoder)
