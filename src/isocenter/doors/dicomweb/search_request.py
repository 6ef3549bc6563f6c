"""The query string of a QIDO-RS search (PS3.18 §8.3.4) as a search of the index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from isocenter.dicom.dictionary import keyword_of, tag_of, vr_of
from isocenter.doors.http.refusals import InvalidParameter
from isocenter.features.archive.attributes import ATTRIBUTES, Level
from isocenter.features.archive.query import Query
from isocenter.kit.errors import InvalidInput

_INTEGER_DIGITS_MAX = 9
_PARAMETERS_MAX = 200

# What every answer holds: PS3.18 Tables 10.6.3-3 (studies), -4 (series), -5 (instances); and the UIDs above.
_STUDY_DEFAULTS = frozenset(
    {
        0x00080005,
        0x00080020,
        0x00080030,
        0x00080050,
        0x00080056,
        0x00080061,
        0x00080090,
        0x00080201,
        0x00100010,
    }
    | {0x00100020, 0x00100030, 0x00100040, 0x0020000D, 0x00200010, 0x00201206, 0x00201208}
)
_SERIES_DEFAULTS = frozenset(
    {0x00080005, 0x00080056, 0x00080060, 0x00080201, 0x0008103E, 0x0020000D, 0x0020000E, 0x00200011}
    | {0x00201209, 0x00400244, 0x00400245, 0x00400275}
)
_INSTANCE_DEFAULTS = frozenset(
    {0x00080005, 0x00080016, 0x00080018, 0x00080056, 0x00080201, 0x00083002, 0x0020000D, 0x0020000E}
    | {0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x00280100}
)
_DEFAULTS = {
    Level.STUDY: _STUDY_DEFAULTS,
    Level.SERIES: _SERIES_DEFAULTS,
    Level.INSTANCE: _INSTANCE_DEFAULTS,
}
_COMPUTED = {
    Level.STUDY: frozenset({0x00080005, 0x00080056, 0x00080061, 0x00201206, 0x00201208}),
    Level.SERIES: frozenset({0x00201209}),
    Level.INSTANCE: frozenset({0x00083002}),
    Level.PATIENT: frozenset[int](),
}
_LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)

# The words of PS3.18 §8.3.4.2.
_NOT_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."


@dataclass(slots=True)
class SearchRequest:
    query: Query
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Parameters:
    """Everything the query string says, before it becomes a query."""

    limit: int
    limit_max: int
    offset: int = 0
    include: set[int] = field(default_factory=set)
    include_all: bool = False
    empty_value_matching: bool = False
    matches: dict[int, str] = field(default_factory=dict)
    unsupported: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, name: str, value: str) -> None:
        match name:
            case "limit":
                self.limit = self._limited(_unsigned(name, value))
            case "offset":
                self.offset = _unsigned(name, value)
            case "includefield":
                self._include(value)
            case "fuzzymatching":
                if _truth(name, value):
                    self.warnings.append(_NOT_FUZZY)
            case "emptyvaluematching":
                self.empty_value_matching = _truth(name, value)
            case "multiplevaluematching":
                _truth(name, value)  # several values are always any one of them
            case "accept" | "charset":
                pass
            case _:
                self._match(name, value)

    def _limited(self, limit: int) -> int:
        if limit <= self.limit_max:
            return limit
        self.warnings.append(
            f"The limit is larger than {self.limit_max}, the most this server gives at once."
        )
        return self.limit_max

    def _include(self, value: str) -> None:
        for name in value.split(","):
            if name.strip().lower() == "all":
                self.include_all = True
            elif name.strip():
                tags = _tags("includefield", name.strip())
                if len(tags) == 1:
                    self.include.add(tags[0])

    def _match(self, name: str, value: str) -> None:
        tags = _tags(name, name)
        if len(tags) > 1:
            self.unsupported.append(name)  # a sequence's item: not in the index
            return
        tag = tags[0]
        if vr_of(tag) == "UI":
            value = value.replace(",", "\\")
        if tag in self.matches:
            value = f"{self.matches[tag]}\\{value}"  # given twice: any one of both
        self.matches[tag] = value


def search_request(
    items: Sequence[tuple[str, str]],
    level: Level,
    fixed: dict[int, str],
    *,
    above: Iterable[Level],
    limit_max: int,
) -> SearchRequest:
    """Read a search.

    ``fixed`` are the UIDs of the path; ``above`` the levels above whose attributes the answers hold too,
    since the path does not name them. Raises InvalidInput that names the parameter.
    """
    if len(items) > _PARAMETERS_MAX:
        raise InvalidInput(
            f"The search has more than {_PARAMETERS_MAX} parameters.", code="too-many-parameters"
        )
    found = _Parameters(limit_max, limit_max)
    for name, value in items:
        found.read(name, value)
    for tag, uid in fixed.items():
        asked = found.matches.get(tag)
        if asked and uid not in asked.split("\\"):
            raise InvalidParameter(
                keyword_of(tag),
                f"{keyword_of(tag)} differs from the one in the address.",
                code="contradicting-parameters",
                remedy="Leave it out of the query string.",
            )
    matches = {**found.matches, **fixed}
    levels = (*above, level)
    query = Query(
        level,
        matches,
        _returned(levels, found.include_all, frozenset(found.include), frozenset(found.matches)),
        limit=found.limit,
        offset=found.offset,
        empty_value_matching=found.empty_value_matching,
    )
    if found.unsupported:
        found.warnings.append(unsupported_warning(found.unsupported))
    return SearchRequest(query, found.warnings)


def unsupported_warning(names: Iterable[str]) -> str:
    return f"These attributes cannot be matched here and were ignored: {', '.join(names)}."


@lru_cache(maxsize=512)
def _returned(
    levels: tuple[Level, ...], everything: bool, include: frozenset[int], matched: frozenset[int]
) -> frozenset[int]:
    """Defaults, what was asked to be included, and what was matched on (PS3.18 §10.6.3.3)."""
    returned = include | matched
    for level in levels:
        returned |= _DEFAULTS[level]
    if everything:
        # Patient attributes belong to the study level in the Study Root model (PS3.4 C.6.2.1).
        shown = {*levels, Level.PATIENT} if Level.STUDY in levels else set(levels)
        returned |= {tag for tag, attribute in ATTRIBUTES.items() if attribute.level in shown}
        for level in shown:
            returned |= _COMPUTED[level]
    return frozenset(returned)


@lru_cache(maxsize=2048)
def _tags(parameter: str, path: str) -> tuple[int, ...]:
    """The tags of ``PatientName``, ``00100010`` or, in sequences, ``A.B``."""
    try:
        return tuple(tag_of(part) for part in path.split("."))
    except InvalidInput as error:
        where = "includefield: " if parameter == "includefield" else ""
        what = f"{where}{error.detail}".rstrip(".") + "."
        raise InvalidParameter(parameter, what, code=error.code, remedy=error.remedy) from None


def _unsigned(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= _INTEGER_DIGITS_MAX):
        raise InvalidParameter(name, f"{name} is not a number from 0 to 999999999.")
    return int(value)


def _truth(name: str, value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise InvalidParameter(name, f"{name} is neither true nor false.")
    return value.lower() == "true"
