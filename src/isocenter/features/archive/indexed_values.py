"""What is matched on by rows of its own: what sequences hold (PS3.4 C.2.2.2.6) and persons' names.

A row is an attribute's path, where it stands, and one value. Paths are tags joined by periods
(``00400275.00400009``); ``item`` and ``inner_item`` number the items of the first and second sequence, so
that two keys of one sequence can be asked to meet in one item. A name has, beside its whole, rows that tell
how each of its words is written (``=word``) and sounds (``~CODE``), under its path with a ``~`` behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from isocenter.dicom.charsets import TextDecoder, decoder_for
from isocenter.dicom.datetimes import canonical_date, canonical_datetime, canonical_time
from isocenter.dicom.dictionary import vr_of
from isocenter.dicom.element import Element
from isocenter.dicom.json_model import fragment
from isocenter.dicom.json_values import TEXT_VRS
from isocenter.dicom.levels import Level
from isocenter.dicom.matching import normalise
from isocenter.dicom.name_sounds import sounds, words_of
from isocenter.dicom.person_name import search_key
from isocenter.dicom.tags import SPECIFIC_CHARACTER_SET
from isocenter.features.archive import queries
from isocenter.features.archive.attributes import COLUMN_CHARACTERS_MAX, UNREADABLE
from isocenter.platform.db import Work

VALUES_MAX = 256
"""An object's rows at one level; what lies beyond is returned, not found."""

DEPTH_MAX = 2
"""Sequences within sequences within sequences are returned, not matched on."""

PATIENT_NAME = 0x00100010

WORD, SOUND = "=", "~"
"""What a row of a name's word begins with: its letters, or a code of how they sound."""

FOLDED = frozenset(
    {
        0x00080104,  # Code Meaning
        0x00081030,  # Study Description
        0x0008103E,  # Series Description
        0x00321060,  # Requested Procedure Description
        0x00400007,  # Scheduled Procedure Step Description
        0x00400254,  # Performed Procedure Step Description
        0x00401002,  # Reason for the Requested Procedure
    }
)
"""Texts that people read, not programs: case and accents do not count in them."""

NUMBER_VRS = frozenset({"FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})


class Value(NamedTuple):
    path: str
    item: int
    inner_item: int
    value: str


def name_values(tag: int, names: Sequence[str]) -> list[Value]:
    """The rows of a person's names; ``item`` numbers the names. Patient's Name as a whole has a column."""
    path = f"{tag:08X}"
    found: list[Value] = []
    for item, name in enumerate(names):
        whole = search_key(name).replace("\0", UNREADABLE)[:COLUMN_CHARACTERS_MAX]
        if whole and tag != PATIENT_NAME:
            found.append(Value(path, item, 0, whole))
        found += [Value(path + "~", item, 0, word) for word in _word_rows(whole)]
    return found[:VALUES_MAX]


@lru_cache(maxsize=1024)
def _word_rows(name: str) -> tuple[str, ...]:
    words = words_of(name)
    codes = dict.fromkeys(code for word in words for code in sounds(word))
    return (*(WORD + word for word in words), *(SOUND + code for code in codes))


def sequence_values(tag: int, items: Sequence[Sequence[Element]], decoder: TextDecoder) -> list[Value]:
    """The rows of a sequence, as far as `DEPTH_MAX` and `VALUES_MAX` reach; each once."""
    found: dict[Value, None] = {}
    for number, item in enumerate(items):
        for value in _item_values(f"{tag:08X}", item, decoder):
            found[Value(value.path, number, value.inner_item, value.value)] = None
            if len(found) == VALUES_MAX:
                return list(found)
    return list(found)


def _item_values(
    path: str, item: Sequence[Element], decoder: TextDecoder, depth: int = 1, inner: int = 0
) -> Iterator[Value]:
    for element in item:
        if element.tag == SPECIFIC_CHARACTER_SET and isinstance(element.value, bytes):
            decoder = decoder_for(element.value)
    for element in item:
        here = f"{path}.{element.tag:08X}"
        if isinstance(element.value, list):
            if depth < DEPTH_MAX:
                for number, nested in enumerate(element.value):
                    yield from _item_values(here, nested, decoder, depth + 1, number)
        elif isinstance(element.value, bytes) and element.value:
            for text in _texts(element, decoder):
                yield Value(here, 0, inner, text)


def _texts(element: Element, decoder: TextDecoder) -> Iterator[str]:
    vr = vr_of(element.tag) if element.vr == "UN" else element.vr
    content = element.value
    assert isinstance(content, bytes)
    if vr in TEXT_VRS:
        for text in decoder.decode_multi(content, vr):
            if folded := folded_text(element.tag, vr, text):
                yield folded
    elif vr in NUMBER_VRS:
        values = fragment(element.tag, vr, content, decoder).partition('"Value":[')[2]
        yield from filter(None, values.removesuffix("]}").split(","))


def folded_text(tag: int, vr: str, text: str) -> str:
    """A text as its row holds it; empty where it is not what its VR promises."""
    match vr:
        case "DA":
            return canonical_date(text) or ""
        case "TM":
            return canonical_time(text) or ""
        case "DT":
            return canonical_datetime(text) or ""
        case _:
            folded = search_key(text) if tag in FOLDED else normalise(vr, text)
            return folded.replace("\0", UNREADABLE)[:COLUMN_CHARACTERS_MAX]


class ValueRows:
    """The rows that one transaction will write at its end, set-wise; where there are none, nothing."""

    def __init__(self, organization_id: int) -> None:
        self._organization_id = organization_id
        self._rows: dict[Level, dict[int | str, list[Value]]] = {}

    def add(self, level: Level, of: int | str, values: Mapping[int, Sequence[Value]]) -> None:
        """``of``: the entity's row; of an instance, which has none yet, the SOP Instance UID: what an object
        said that another one of the same transaction takes the place of is forgotten."""
        if level is Level.INSTANCE and level in self._rows:
            self._rows[level].pop(of, None)
        if values:
            rows = self._rows.setdefault(level, {}).setdefault(of, [])
            rows += [value for of_attribute in values.values() for value in of_attribute]

    def flush(self) -> Work[None]:
        """After the entities themselves were written. One that is gone again takes no rows."""
        for level, by_entity in self._rows.items():
            rows = [(of, value) for of, values in by_entity.items() for value in values]
            if rows:
                row_by_row, at_once = queries.INSERT_VALUES[level]
                scope = {"organization_id": self._organization_id}
                yield row_by_row.many([{**scope, "of": of, **value._asdict()} for of, value in rows])
                ofs, values = zip(*rows, strict=True)
                columns = {f"{name}s": [*map(attrgetter(name), values)] for name in Value._fields}
                yield at_once(**scope, ofs=ofs, **columns)
        self._rows = {}
