"""Which attributes an answer holds (PS3.18 §10.6.3.3)."""

from __future__ import annotations

from functools import lru_cache

from isocenter.dicom.levels import Level
from isocenter.features.archive.attributes import ATTRIBUTES
from isocenter.features.archive.query_supplements import SUPPLEMENTED

RETRIEVE_AE_TITLE = 0x00080054
RETRIEVE_URL = 0x00081190

LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)

# What every answer holds: PS3.18 Tables 10.6.3-3 (studies), -4 (series), -5 (instances); and the UIDs above.
# Patients are ours: what identifies them, and how much there is of them.
_DEFAULTS = {
    Level.PATIENT: frozenset(
        {0x00080005, 0x00080056, 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040}
        | {0x00201200, 0x00201202, 0x00201204}
    ),
    Level.STUDY: frozenset(
        {0x00080005, 0x00080020, 0x00080030, 0x00080050, 0x00080056, 0x00080061, 0x00080090, 0x00080201}
        | {0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x0020000D, 0x00200010, 0x00201206, 0x00201208}
    ),
    Level.SERIES: frozenset(
        {0x00080005, 0x00080056, 0x00080060, 0x00080201, 0x0008103E, 0x0020000D, 0x0020000E, 0x00200011}
        | {0x00201209, 0x00400244, 0x00400245, 0x00400275}
    ),
    Level.INSTANCE: frozenset(
        {0x00080005, 0x00080016, 0x00080018, 0x00080056, 0x00080201, 0x00083002, 0x0020000D, 0x0020000E}
        | {0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x00280100}
    ),
}

# What the index counts or knows beside the objects' own attributes, by the level that it is told of.
_COMPUTED = {
    Level.PATIENT: frozenset({0x00080005, 0x00080056, RETRIEVE_AE_TITLE, 0x00201200, 0x00201202, 0x00201204}),
    Level.STUDY: frozenset({0x00080061, RETRIEVE_URL, 0x00201206, 0x00201208}) | SUPPLEMENTED,
    Level.SERIES: frozenset({0x00201209}),
    Level.INSTANCE: frozenset({0x00083002}),
}


def level_of(tag: int) -> Level | None:
    """The level whose answers hold it; None for what the index does not know."""
    if (attribute := ATTRIBUTES.get(tag)) is not None:
        return attribute.level
    return next((level for level, tags in _COMPUTED.items() if tag in tags), None)


@lru_cache(maxsize=512)
def returned(
    levels: tuple[Level, ...], everything: bool, include: frozenset[int], matched: frozenset[int]
) -> frozenset[int]:
    """Defaults, what was asked to be included, and what was matched on.

    ``levels``: the answer's own and those above that the address does not name.
    """
    found = include | matched
    for level in levels:
        found |= _DEFAULTS[level]
    if everything:
        # Patient attributes belong to the study level in the Study Root model (PS3.4 C.6.2.1).
        shown = {*levels, Level.PATIENT} if Level.STUDY in levels else set(levels)
        found |= {tag for tag, attribute in ATTRIBUTES.items() if attribute.level in shown}
        for level in shown:
            found |= _COMPUTED[level]
    return frozenset(found)
