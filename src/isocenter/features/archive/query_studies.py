"""Conditions on what a study is told to hold by its series (PS3.4 C.3.4): modalities and SOP classes."""

from __future__ import annotations

from isocenter.dicom.levels import Level
from isocenter.dicom.matching import MatchingKey, UidList, ValueList
from isocenter.features.archive.attributes import Attribute, Folding
from isocenter.features.archive.query_conditions import Parameters, condition, matching_key
from isocenter.features.archive.query_model import (
    EMPTY_VALUE,
    MODALITIES_IN_STUDY,
    SOP_CLASSES_IN_STUDY,
    Query,
)

TOLD_BY_SERIES = {
    MODALITIES_IN_STUDY: Attribute(MODALITIES_IN_STUDY, "CS", Level.STUDY),
    SOP_CLASSES_IN_STUDY: Attribute(SOP_CLASSES_IN_STUDY, "UI", Level.STUDY),
}
_COLUMNS = {MODALITIES_IN_STUDY: "m.modality", SOP_CLASSES_IN_STUDY: "m.sop_classes"}
_A_SERIES = (
    "EXISTS (SELECT 1 FROM series m WHERE m.organization_id = :organization_id AND m.study_pk = s.id AND "
)


def study_conditions(tag: int, text: str, query: Query, params: Parameters) -> list[str]:
    """None where every study matches; several where each has to hold. Raises InvalidInput."""
    if query.empty_value_matching and text == EMPTY_VALUE:
        return [f"NOT {_A_SERIES}{_COLUMNS[tag]} <> '')"]
    key = matching_key(TOLD_BY_SERIES[tag], text)
    every = key.keys if isinstance(key, ValueList) and query.all_values else (key,)
    wanted = [_of_one_series(tag, one, params) for one in every]
    return [f"{_A_SERIES}{one})" for one in wanted if one]


def _of_one_series(tag: int, key: MatchingKey, params: Parameters) -> str:
    if tag == MODALITIES_IN_STUDY:
        return condition(_COLUMNS[tag], Folding.NONE, key, params)
    uids = key.uids if isinstance(key, UidList) else ()
    any_of = [f"' ' || {_COLUMNS[tag]} || ' ' LIKE {params.add(f'% {uid} %')}" for uid in uids]
    return f"({' OR '.join(any_of)})" if any_of else ""
