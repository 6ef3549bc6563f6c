"""C-FIND request identifiers (PS3.4 C.4.1.1.3.1, C.6.1, C.6.2): what is asked, in the archive's terms.

The standard has a query name the unique key of each level above (C.4.1.2.1) unless relational queries were
negotiated. Here every query may be relational: a series query without a Study Instance UID finds series of
all studies. Nobody who keeps to the rule sees a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isocenter.dicom.charsets import TextDecoder, decoder_for
from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.dictionary import vr_of
from isocenter.dicom.element import Element
from isocenter.dicom.json_values import TEXT_VRS
from isocenter.dicom.levels import Level
from isocenter.dicom.scan_limits import ScanLimits
from isocenter.dicom.sop_classes import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    PATIENT_STUDY_ONLY_FIND,
    PATIENT_STUDY_ONLY_GET,
    PATIENT_STUDY_ONLY_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from isocenter.dicom.tags import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
)
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.protocol import statuses
from isocenter.doors.scp.contexts import Matching
from isocenter.features.archive.attributes import AT_LEVEL, ATTRIBUTES
from isocenter.features.archive.query import Path, Query
from isocenter.features.archive.query_supplements import SUPPLEMENTED

QUERY_RETRIEVE_LEVEL = 0x00080052
QUERY_RETRIEVE_VIEW = 0x00080053
RETRIEVE_AE_TITLE = 0x00080054
INSTANCE_AVAILABILITY = 0x00080056

# Reading holds up the event loop; real queries have some dozen keys.
_LIMITS = ScanLimits(elements_max=4096, inflated_bytes_max=4 << 20)

_PATH_MAX = 8

_LEVELS = {
    "PATIENT": Level.PATIENT,
    "STUDY": Level.STUDY,
    "SERIES": Level.SERIES,
    "IMAGE": Level.INSTANCE,
}


class Model(Enum):
    """A Query/Retrieve information model: the levels that it has (PS3.4 C.6.1, C.6.2, C.6.3)."""

    PATIENT_ROOT = ("PATIENT", "STUDY", "SERIES", "IMAGE")
    STUDY_ROOT = ("STUDY", "SERIES", "IMAGE")
    PATIENT_STUDY_ONLY = ("PATIENT", "STUDY")  # retired


MODEL_OF = {
    PATIENT_ROOT_FIND: Model.PATIENT_ROOT,
    PATIENT_ROOT_MOVE: Model.PATIENT_ROOT,
    PATIENT_ROOT_GET: Model.PATIENT_ROOT,
    STUDY_ROOT_FIND: Model.STUDY_ROOT,
    STUDY_ROOT_MOVE: Model.STUDY_ROOT,
    STUDY_ROOT_GET: Model.STUDY_ROOT,
    PATIENT_STUDY_ONLY_FIND: Model.PATIENT_STUDY_ONLY,
    PATIENT_STUDY_ONLY_MOVE: Model.PATIENT_STUDY_ONLY,
    PATIENT_STUDY_ONLY_GET: Model.PATIENT_STUDY_ONLY,
}

_UNIQUE_KEYS = {
    Level.PATIENT: (PATIENT_ID,),
    Level.STUDY: (STUDY_INSTANCE_UID,),
    Level.SERIES: (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID),
    Level.INSTANCE: (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID),
}
# Written by us around every answer, whatever was asked.
_AROUND = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, QUERY_RETRIEVE_VIEW, RETRIEVE_AE_TITLE})

# What the index counts or knows beside the objects' own attributes, and its VR.
_COMPUTED_VRS = {
    0x00080056: "CS",  # Instance Availability
    0x00080061: "CS",  # Modalities in Study
    0x00080062: "UI",  # SOP Classes in Study
    0x00080063: "SQ",  # Anatomic Regions in Study Code Sequence
    0x00083002: "UI",  # Available Transfer Syntax UID
    0x00201200: "IS",  # Number of Patient Related Studies, Series, Instances
    0x00201202: "IS",
    0x00201204: "IS",
    0x00201206: "IS",  # Number of Study Related Series, Instances
    0x00201208: "IS",
    0x00201209: "IS",  # Number of Series Related Instances
}
_PATIENT_COUNTS = frozenset({INSTANCE_AVAILABILITY, 0x00201200, 0x00201202, 0x00201204})
_STUDY_COUNTS = _PATIENT_COUNTS | {0x00080061, 0x00201206, 0x00201208}
_COMPUTED = {
    Level.PATIENT: _PATIENT_COUNTS,
    Level.STUDY: _STUDY_COUNTS | SUPPLEMENTED,
    Level.SERIES: _STUDY_COUNTS | {0x00201209},
    Level.INSTANCE: _STUDY_COUNTS | {0x00201209, 0x00083002},
}


def _returnable() -> dict[Level, frozenset[int]]:
    """What an answer at a level can hold: its own attributes and those of the levels above."""
    tags: set[int] = set()
    by_level = {}
    for level in (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE):
        tags |= {attribute.tag for attribute in AT_LEVEL[level]}
        by_level[level] = frozenset(tags | _COMPUTED[level])
    return by_level


_RETURNABLE = _returnable()


@dataclass(frozen=True, slots=True)
class Asked:
    """A query. ``keys`` are tags and VRs of an answer, ascending; ``level`` as it was written.

    ``all_supported`` is False when a key cannot be answered, or not be matched in the way that was asked.
    ``character_sets`` is the request's own (0008,0005), None without it.
    """

    query: Query
    level: str
    keys: tuple[tuple[int, str], ...]
    character_sets: bytes | None
    all_supported: bool


def read_identifier(identifier: bytes, transfer_syntax_uid: str) -> dict[int, Element]:
    """The elements of a request's identifier. Raises ScanError."""
    return {
        element.tag: element
        for element in read_dataset(identifier, transfer_syntax_uid, limits=_LIMITS)
        if element.tag & 0xFFFF and element.tag > 0x0007FFFF
    }


def parse_identifier(
    identifier: bytes, transfer_syntax_uid: str, *, model: Model, negotiated: frozenset[Matching]
) -> Asked:
    """``negotiated``: how the requestor may have its keys matched beyond the ordinary (PS3.4 C.5.1.1).

    Raises DimseFailure (A900H) without a level that the information model has, ScanError.
    """
    elements = read_identifier(identifier, transfer_syntax_uid)
    level_text, level = level_of(elements, model)
    character_sets = character_sets_of(elements)
    decoder = decoder_for(character_sets)
    asked = [element for tag, element in elements.items() if tag not in _AROUND]
    matches = {element.tag: _text(element, decoder) for element in asked}
    vrs = {element.tag: _vr(element) for element in asked}
    for tag in _UNIQUE_KEYS[level]:
        vrs.setdefault(tag, ATTRIBUTES[tag].vr)
    returned = _RETURNABLE[level].intersection(vrs)
    items: dict[Path, str] = {}
    for element in asked:
        if isinstance(element.value, list):
            items |= _item_keys((element.tag,), element.value, decoder)
    query = Query(
        level,
        matches,
        returned,
        combined_datetime=Matching.DATE_TIME in negotiated,
        empty_value_matching=Matching.EMPTY_VALUES in negotiated,
        item_matches=items,
        fuzzy=Matching.FUZZY_NAMES in negotiated,
        all_values=Matching.ALL_VALUES in negotiated,
    )
    return Asked(
        query,
        level_text,
        tuple(sorted(vrs.items())),
        character_sets,
        len(returned) == len(vrs) and not any(map(_cannot_match, asked)),
    )


def level_of(elements: dict[int, Element], model: Model) -> tuple[str, Level]:
    """As it was written, and in our terms. Raises DimseFailure."""
    element = elements.get(QUERY_RETRIEVE_LEVEL)
    value = element.value if element is not None else b""
    text = value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""
    if text not in model.value:
        choices = f"{', '.join(model.value[:-1])} or {model.value[-1]}"
        raise DimseFailure(
            statuses.IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
            f"Query/Retrieve Level is not {choices}",
            (QUERY_RETRIEVE_LEVEL,),
        )
    return text, _LEVELS[text]


def character_sets_of(elements: dict[int, Element]) -> bytes | None:
    element = elements.get(SPECIFIC_CHARACTER_SET)
    return element.value if element is not None and isinstance(element.value, bytes) else None


def _vr(element: Element) -> str:
    """The dictionary's, as far as it is known without loading it: queries may be in implicit VR."""
    known = ATTRIBUTES.get(element.tag)
    return known.vr if known is not None else _COMPUTED_VRS.get(element.tag, element.vr)


def _text(element: Element, decoder: TextDecoder) -> str:
    vr = _vr(element)
    if vr not in TEXT_VRS or not isinstance(element.value, bytes):
        return ""
    return decoder.decode(element.value, vr)


def _cannot_match(element: Element) -> bool:
    """A binary number is returned, not matched on; of a sequence's several items none is (C.2.2.2.6)."""
    if isinstance(element.value, list):
        return len(element.value) > 1
    return bool(element.value) and _vr(element) not in TEXT_VRS


def _item_keys(path: Path, items: list[list[Element]], decoder: TextDecoder) -> dict[Path, str]:
    """The keys of a sequence's one item (PS3.4 C.2.2.2.6), and of those within it."""
    found: dict[Path, str] = {}
    if len(items) != 1 or len(path) > _PATH_MAX:
        return found
    for element in items[0]:
        here = (*path, element.tag)
        if isinstance(element.value, list):
            found |= _item_keys(here, element.value, decoder)
        elif isinstance(element.value, bytes) and element.value:
            vr = vr_of(element.tag) if element.vr == "UN" else element.vr
            if vr in TEXT_VRS:
                found[here] = decoder.decode(element.value, vr)
    return found
