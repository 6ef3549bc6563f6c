"""A QIDO-RS query string (PS3.18 §8.3.4) as a question to many archives."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from isocenter.dicom.dictionary import keyword_of
from isocenter.dicom.levels import Level
from isocenter.doors.dicomweb.search_request import search_request
from isocenter.doors.http.refusals import InvalidParameter
from isocenter.doors.http.services import HttpLimits
from isocenter.features.spanner.question import Question

OWN_PARAMETERS = frozenset({"spanner_config_id", "async", "envelope"})
LIMIT_DEFAULT = 200
_NOT_SPANNED = (
    "fuzzymatching",
    "emptyvaluematching",
    "multiplevaluematching",
    "orderby",
    "sort",
    "after",
    "count",
)


@dataclass(frozen=True, slots=True)
class Asked:
    question: Question
    warnings: tuple[str, ...]


def asked(request: Request, level: Level, limits: HttpLimits, fixed: dict[int, str] | None = None) -> Asked:
    """``fixed``: the UIDs that the address says. Raises InvalidInput that names the parameter."""
    items = [
        (name, value) for name, value in request.query_params.multi_items() if name not in OWN_PARAMETERS
    ]
    warnings = [f"{name} is not done across archives" for name, _ in items if name.lower() in _NOT_SPANNED]
    kept = [(name, value) for name, value in items if name.lower() not in _NOT_SPANNED]
    if not any(name.lower() == "limit" for name, _ in kept):
        kept.append(("limit", str(LIMIT_DEFAULT)))
    read = search_request(kept, level, fixed or {}, above=(), limits=limits)
    if read.query.item_matches:
        path = next(iter(read.query.item_matches))
        name = ".".join(keyword_of(tag) or f"{tag:08X}" for tag in path)
        raise InvalidParameter(name, f"{name}: attributes in sequences are not matched across archives.")
    question = Question(
        level,
        dict(read.query.matches),
        read.query.returned | read.from_objects,
        limit=read.query.limit,
        offset=read.query.offset,
    )
    return Asked(question, (*warnings, *read.warnings))
