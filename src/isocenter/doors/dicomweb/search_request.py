"""The query string of a QIDO-RS search (PS3.18 §8.3.4) as a search of the index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from isocenter.dicom.dictionary import keyword_of, tag_of, vr_of
from isocenter.dicom.levels import Level
from isocenter.doors.dicomweb.search_defaults import LEVELS, level_of, returned
from isocenter.doors.http.refusals import InvalidParameter
from isocenter.doors.http.services import HttpLimits
from isocenter.features.archive.query import Order, Path, Query
from isocenter.features.archive.query_order import ORDERS_MAX, can_order_by
from isocenter.kit.errors import InvalidInput

_INTEGER_DIGITS_MAX = 9
_PARAMETERS_MAX = 200
_PATH_DEPTH_MAX = 8
_WARNED_MAX = 20
_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
_SHOWN = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


@dataclass(slots=True)
class SearchRequest:
    """``from_objects``: attributes that only the objects themselves can tell. ``count``: the number of all
    matches was asked for."""

    query: Query
    warnings: list[str] = field(default_factory=list)
    from_objects: frozenset[int] = frozenset()
    count: bool = False


@dataclass(slots=True)
class _Parameters:
    """Everything the query string says, before it becomes a query."""

    level: Level
    limits: HttpLimits
    limit: int
    offset: int = 0
    include: set[int] = field(default_factory=set)
    include_all: bool = False
    empty_value_matching: bool = False
    fuzzy: bool = False
    all_values: bool = False
    count: bool = False
    after: str = ""
    order: list[Order] = field(default_factory=list)
    matches: dict[int, str] = field(default_factory=dict)
    item_matches: dict[Path, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, name: str, value: str) -> None:
        match name:
            case "limit":
                self.limit = self._limited(_unsigned(name, value))
            case "offset":
                self.offset = self._bounded(_unsigned(name, value))
            case "includefield":
                self._include(value)
            case "fuzzymatching":
                self.fuzzy = _truth(name, value)
            case "emptyvaluematching":
                self.empty_value_matching = _truth(name, value)
            case "multiplevaluematching":
                self.all_values = _truth(name, value)
            case "orderby" | "sort":
                self._order(name, value)
            case "after":
                self.after = self._after(value)
            case "count":
                self.count = _truth(name, value)
            case "accept" | "charset":
                pass
            case _:
                self._match(name, value)

    def _limited(self, limit: int) -> int:
        most = self.limits.search_results_max
        if limit <= most:
            return limit
        self.warnings.append(f"The limit is larger than {most}, the most this server gives at once.")
        return most

    def _bounded(self, offset: int) -> int:
        most = self.limits.search_offset_max
        if offset > most:
            raise InvalidParameter(
                "offset",
                f"offset is larger than {most}, the most that is skipped here.",
                code="offset-too-deep",
                remedy="Go on with after=UID, that of the last match received; or narrow the search.",
            )
        return offset

    def _after(self, value: str) -> str:
        if self.level is Level.PATIENT:
            raise InvalidParameter("after", "after needs a UID, and patients have none.")
        if value and not _UID.fullmatch(value):
            raise InvalidParameter("after", "after is not a UID.", code="invalid-uid")
        return value

    def _include(self, value: str) -> None:
        for name in value.split(","):
            if name.strip().lower() == "all":
                self.include_all = True
            elif name.strip():
                self.include.add(_path("includefield", name.strip())[0])

    def _order(self, parameter: str, value: str) -> None:
        for name in filter(None, (part.strip() for part in value.split(","))):
            descending = name[0] == "-"
            tag, *within = _path(parameter, name.lstrip("+-").strip() or name)
            if within or not can_order_by(tag, self.level):
                raise InvalidParameter(
                    parameter,
                    f"{parameter}: {keyword_of(tag) or f'{tag:08X}'} is nothing that can be sorted by here.",
                    code="unsortable-attribute",
                    remedy="docs/conformance/qido-rs.md lists the attributes to sort by.",
                )
            self.order.append(Order(tag, descending))
        if len(self.order) > ORDERS_MAX:
            raise InvalidParameter(parameter, f"{parameter} names more than {ORDERS_MAX} attributes.")

    def _match(self, name: str, value: str) -> None:
        try:
            path = _path(name, name)
        except InvalidParameter:
            self.unknown.append(name)  # PS3.18 §8.3: as if it were not there
            return
        if vr_of(path[-1]) == "UI":
            value = value.replace(",", "\\")
        if len(path) > 1:
            known = self.item_matches.get(path)
            self.item_matches[path] = value if known is None else f"{known}\\{value}"
        else:
            known = self.matches.get(path[0])
            self.matches[path[0]] = value if known is None else f"{known}\\{value}"

    @property
    def matched(self) -> frozenset[int]:
        if not self.item_matches:
            return frozenset(self.matches)
        return frozenset({*self.matches, *(path[0] for path in self.item_matches)})


def search_request(
    items: Sequence[tuple[str, str]],
    level: Level,
    fixed: dict[int, str],
    *,
    above: Iterable[Level],
    limits: HttpLimits,
) -> SearchRequest:
    """Read a search.

    ``fixed`` are the UIDs of the path; ``above`` the levels above whose attributes the answers hold too,
    since the path does not name them. Raises InvalidInput that names the parameter.
    """
    if len(items) > _PARAMETERS_MAX:
        raise InvalidInput(
            f"The search has more than {_PARAMETERS_MAX} parameters.", code="too-many-parameters"
        )
    found = _Parameters(level, limits, limits.search_results_max)
    for name, value in items:
        found.read(name, value)
    _check_fixed(found.matches, fixed)
    kept, from_objects = _settle_included(found, level)
    query = Query(
        level,
        {**found.matches, **fixed} if fixed else found.matches,
        returned((*above, level), found.include_all, kept, found.matched),
        limit=found.limit,
        offset=found.offset,
        empty_value_matching=found.empty_value_matching,
        item_matches=found.item_matches,
        fuzzy=found.fuzzy,
        all_values=found.all_values,
        order=tuple(found.order),
        after_uid=found.after,
    )
    if found.unknown:
        found.warnings.append(f"Unknown parameters were ignored: {_listed(found.unknown)}.")
    return SearchRequest(query, found.warnings, from_objects, found.count)


def unsupported_warning(names: Iterable[str]) -> str:
    return f"These attributes cannot be matched here and were ignored: {_listed(names)}."


def name_of_path(path: Path) -> str:
    return ".".join(keyword_of(tag) or f"{tag:08X}" for tag in path)


def _check_fixed(matches: dict[int, str], fixed: dict[int, str]) -> None:
    for tag, uid in fixed.items():
        asked = matches.get(tag)
        if asked and uid not in asked.split("\\"):
            raise InvalidParameter(
                keyword_of(tag),
                f"{keyword_of(tag)} differs from the one in the address.",
                code="contradicting-parameters",
                remedy="Leave it out of the query string.",
            )


def _settle_included(found: _Parameters, level: Level) -> tuple[frozenset[int], frozenset[int]]:
    """What the index has of the included attributes, and what only the objects have."""
    if not found.include:
        return frozenset(), frozenset()
    levels = {tag: level_of(tag) for tag in found.include}
    unknown = frozenset(tag for tag, of in levels.items() if of is None)
    # Those of lower levels "shall not be returned" (PS3.18 §10.6.3.3.1).
    kept = frozenset(
        tag for tag, of in levels.items() if of is not None and LEVELS.index(of) <= LEVELS.index(level)
    )
    if unknown and level is not Level.INSTANCE:
        names = (keyword_of(tag) or f"{tag:08X}" for tag in sorted(unknown))
        found.warnings.append(f"These attributes are only kept with the instances: {_listed(names)}.")
        return kept, frozenset()
    return kept, unknown


def _listed(names: Iterable[str]) -> str:
    """For a header: what is no name is counted, not shown."""
    every = list(names)
    shown = [name for name in every if _SHOWN.fullmatch(name)][:_WARNED_MAX]
    others = len(every) - len(shown)
    return ", ".join([*shown, *([f"{others} other{'s' if others > 1 else ''}"] if others else [])])


@lru_cache(maxsize=2048)
def _path(parameter: str, path: str) -> Path:
    """The tags of ``PatientName``, ``00100010`` or, in sequences, ``A.B``."""
    where = f"{parameter}: " if parameter != path else ""
    if path.count(".") >= _PATH_DEPTH_MAX:
        raise InvalidParameter(parameter, f"{where}more than {_PATH_DEPTH_MAX} attributes in one path.")
    try:
        return tuple(tag_of(part) for part in path.split("."))
    except InvalidInput as error:
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
