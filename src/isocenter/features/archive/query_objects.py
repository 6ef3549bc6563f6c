"""Attributes that the index does not hold, read from the stored objects for the matches of one page.

At instance level alone: of a series or study the objects may say different things, and nothing tells which of
them would be meant. What was read is remembered within a bound.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.json_dataset import BulkPath, dataset_json
from isocenter.dicom.tags import SPECIFIC_CHARACTER_SET
from isocenter.features.archive.object_elements import BULK_THRESHOLD_BYTES, read_elements
from isocenter.features.archive.presented import presented
from isocenter.features.archive.query_results import Match
from isocenter.features.archive.retrieve import INSTANCE_COLUMNS, StoredInstance, instance_of_row
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import Database, Sql, Work
from isocenter.platform.storage.interface import ObjectStore

FIND_OBJECTS = Sql(f"""
    SELECT {INSTANCE_COLUMNS}
    FROM instance JOIN series ON series.id = instance.series_pk JOIN study ON study.id = series.study_pk
    WHERE instance.organization_id = :organization_id AND instance.current = 1
      AND instance.sop_instance_uid IN :uids
""")  # noqa: S608 - constants only

BulkUri = Callable[[Match], Callable[[BulkPath, BulkRange | bytes], str]]
"""Of a match, what names the addresses of its large values."""

_AT_ONCE = 4
_LINE_CHARACTERS_MAX = 64 << 10  # one attribute that is longer is left to retrieval


class ObjectAttributes:
    """Reads attributes of stored objects; one for the process."""

    def __init__(self, database: Database, store: ObjectStore, *, remembered_characters_max: int = 8 << 20):
        self._database = database
        self._store = store
        self._remembered: OrderedDict[tuple[str, frozenset[int], str], str] = OrderedDict()
        self._characters = 0
        self._characters_max = remembered_characters_max

    async def add(
        self, organization_id: int, matches: Sequence[Match], tags: frozenset[int], bulk_uri: BulkUri
    ) -> int:
        """Add the attributes to the matches, which are instances; of how many the object could not be read.

        Private attributes bring their private creators along (PS3.18 §10.6.3.3). Raises what the database
        raises.
        """
        stored = await self._database.read(
            _find, organization_id, [match.sop_instance_uid for match in matches]
        )
        objects = {one.sop_instance_uid: one for one in await presented(self._store, stored)}
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(match: Match) -> bool:
            async with turns:
                instance = objects.get(match.sop_instance_uid)
                lines = "" if instance is None else await self._lines(instance, match, tags, bulk_uri)
            match.lines += filter(None, (lines or "").split("\n"))
            return lines is None

        return sum(await asyncio.gather(*map(one, matches)))

    async def _lines(
        self, instance: StoredInstance, match: Match, tags: frozenset[int], bulk_uri: BulkUri
    ) -> str | None:
        """A line each; None where the object cannot be read now."""
        uri_of = bulk_uri(match)
        key = (instance.object_key, tags, uri_of((), b""))
        known = self._remembered.get(key)
        if known is not None:
            self._remembered.move_to_end(key)
            return known
        try:
            elements = await read_elements(self._store, instance)
        except IsocenterError:
            return None
        lines = _lines_of(elements, tags, uri_of)
        self._remember(key, lines)
        return lines

    def _remember(self, key: tuple[str, frozenset[int], str], lines: str) -> None:
        if key not in self._remembered:
            self._remembered[key] = lines
            self._characters += len(lines) + len(key[0]) + len(key[2])
        while self._characters > self._characters_max:
            (object_key, _, base), oldest = self._remembered.popitem(last=False)
            self._characters -= len(oldest) + len(object_key) + len(base)


def _find(organization_id: int, uids: list[str]) -> Work[list[StoredInstance]]:
    rows = yield FIND_OBJECTS(organization_id=organization_id, uids=uids)
    return [instance_of_row(row) for row in rows]


def _lines_of(
    elements: Sequence[Element], tags: frozenset[int], uri_of: Callable[[BulkPath, BulkRange | bytes], str]
) -> str:
    creators = {
        tag & 0xFFFF0000 | tag >> 8 & 0xFF for tag in tags if tag >> 16 & 1 and tag & 0xFFFF >= 0x1000
    }
    wanted = tags | creators
    declared = [element for element in elements if element.tag == SPECIFIC_CHARACTER_SET]
    lines = []
    for element in elements:
        if element.tag in wanted and element.tag != SPECIFIC_CHARACTER_SET:
            written = dataset_json(
                [*declared, element], bulk_uri=uri_of, inline_limit_bytes=BULK_THRESHOLD_BYTES
            ).decode()
            line = written[written.index(f'"{element.tag:08X}":') : -1]
            if len(line) <= _LINE_CHARACTERS_MAX:
                lines.append(line)
    return "\n".join(lines)
