"""What can be asked of the index: the search behind QIDO-RS and C-FIND, in the archive's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isocenter.dicom.levels import Level
from isocenter.features.archive.query_conditions import Parameters
from isocenter.platform.db import Sql

LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)
ALIAS = {Level.PATIENT: "p", Level.STUDY: "s", Level.SERIES: "e", Level.INSTANCE: "i"}
EMPTY_VALUE = '""'

TIMEZONE_OFFSET = 0x00080201
SOP_CLASSES_IN_STUDY = 0x00080062
MODALITIES_IN_STUDY = 0x00080061

Path = tuple[int, ...]
"""An attribute within a sequence: the sequence's tag, …, its own."""


@dataclass(frozen=True, slots=True)
class Order:
    """One attribute to sort by."""

    tag: int
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search at one level.

    ``matches`` maps tags of this level and of those above to the text of their matching key (PS3.4 C.2.2.2;
    empty: universal); ``item_matches`` those within sequences. Timezone Offset From UTC among them is not
    matched on: it says which zone dates and times are told in (C.2.2.2.5). ``returned`` are the tags wanted
    in the answers.

    ``limit``, ``offset``, ``order`` and ``after_uid`` (the UID of the match that a page follows; empty: from
    the first) are for a single page; `Search.pages` ignores them.

    ``combined_datetime``: a date range and a time range are one range. ``fuzzy``: persons' names match by
    their words, whatever their order and spelling (C.2.2.2.1.1). ``all_values``: of several values each must
    be there (C.2.2.2.8); otherwise any one of them.
    """

    level: Level
    matches: Mapping[int, str]
    returned: frozenset[int]
    limit: int = 1000
    offset: int = 0
    combined_datetime: bool = True
    empty_value_matching: bool = False
    item_matches: Mapping[Path, str] = field(default_factory=dict)
    fuzzy: bool = False
    all_values: bool = False
    order: tuple[Order, ...] = ()
    after_uid: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    sql: Sql
    params: dict[str, Any]


@dataclass(slots=True)
class Conditions:
    """What a search asks of the index.

    ``levels`` are those that a condition looks at, ``first`` the one of the most selective of them;
    ``first_by_row``: it names the rows of its level. ``selective``: it leaves few rows, which are better
    sorted than looked for along an index that has them in order.
    ``unsupported`` and ``unsupported_items`` are keys that the answers do not respect.
    """

    params: Parameters
    texts: list[str] = field(default_factory=list)
    levels: set[Level] = field(default_factory=set)
    first: Level | None = None
    first_by_row: bool = False
    selective: bool = False
    unsupported: tuple[int, ...] = ()
    unsupported_items: tuple[Path, ...] = ()

    def add(self, text: str, *levels: Level) -> None:
        if text:
            self.texts.append(text)
            self.levels.update(levels)
