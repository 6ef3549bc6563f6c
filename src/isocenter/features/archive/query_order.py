"""The order of a page: as asked for, then as a person expects it; never two rows alike, so that pages fit.

Each term is an expression that is never NULL and compares alike on both databases: what has no value counts
as smaller than what has one. In the order that nobody asked for, series and instances without a number come
last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isocenter.dicom.dictionary import keyword_of
from isocenter.dicom.levels import Level
from isocenter.features.archive.attributes import ATTRIBUTES, Folding
from isocenter.features.archive.query_conditions import Parameters
from isocenter.features.archive.query_model import ALIAS, LEVELS, MODALITIES_IN_STUDY, Order, Query
from isocenter.kit.errors import InvalidInput

ORDERS_MAX = 8

UID_COLUMNS = {
    Level.STUDY: "s.study_instance_uid",
    Level.SERIES: "e.series_instance_uid",
    Level.INSTANCE: "i.sop_instance_uid",
}

_COUNTED = {
    MODALITIES_IN_STUDY: (Level.STUDY, "s.modalities", False),
    0x00201206: (Level.STUDY, "s.series_count", True),
    0x00201208: (Level.STUDY, "s.instance_count", True),
    0x00201209: (Level.SERIES, "e.instance_count", True),
    0x00083002: (Level.INSTANCE, "i.transfer_syntax_uid", False),
}
"""Level, column, and whether it is a number, of what the index counts."""


@dataclass(frozen=True, slots=True)
class Term:
    expression: str
    descending: bool = False
    is_number: bool = False

    def text(self, *, by_index: bool = True) -> str:
        """``by_index=False``: put so that no index has this order, and one for the conditions is taken."""
        nothing = " + 0" if self.is_number else " || ''"
        expression = self.expression if by_index else self.expression + nothing
        return f"{expression} DESC" if self.descending else expression


def _missing_last(column: str) -> tuple[Term, Term]:
    missing = f"CASE WHEN {column} IS NULL THEN 1 ELSE 0 END"
    return Term(missing, is_number=True), Term(f"coalesce({column}, 0)", is_number=True)


_STUDY_ORDER = (Term("s.study_date", descending=True), Term("s.id", descending=True, is_number=True))
_SERIES_ORDER = (*_STUDY_ORDER, *_missing_last("e.series_number"), Term("e.id", is_number=True))
_DISPLAY = {
    Level.PATIENT: (Term("p.name_key"), Term("p.id", is_number=True)),
    Level.STUDY: _STUDY_ORDER,
    Level.SERIES: _SERIES_ORDER,
    Level.INSTANCE: (*_SERIES_ORDER, *_missing_last("i.instance_number"), Term("i.id", is_number=True)),
}
"""Newest study first, then as the objects number themselves; the row's id decides ties."""


def can_order_by(tag: int, level: Level) -> bool:
    return _place(tag, level) is not None


def terms_of(query: Query) -> tuple[Term, ...]:
    """Raises InvalidInput for an attribute that the index cannot sort by."""
    if not query.order:
        return _DISPLAY[query.level]
    asked = [term for order in query.order for term in _asked(order, query.level)]
    known = {term.expression for term in asked}
    return (*asked, *(term for term in _DISPLAY[query.level] if term.expression not in known))


def after_condition(terms: Sequence[Term], values: Sequence[Any], params: Parameters) -> str:
    """What comes after the row whose terms have these values."""
    alternatives = []
    named = [params.add(value) for value in values]
    for position, term in enumerate(terms):
        equal = [f"{one.expression} = {name}" for one, name in zip(terms[:position], named, strict=False)]
        sign = "<" if term.descending else ">"
        alternatives.append(" AND ".join([*equal, f"{term.expression} {sign} {named[position]}"]))
    # Said once more of the first term alone: that is what an index can begin at.
    first = f"{terms[0].expression} {'<=' if terms[0].descending else '>='} {named[0]}"
    return f"{first} AND (({') OR ('.join(alternatives)}))"


def _asked(order: Order, level: Level) -> tuple[Term, ...]:
    place = _place(order.tag, level)
    if place is None:
        raise InvalidInput(
            f"{keyword_of(order.tag) or f'{order.tag:08X}'} is nothing that can be sorted by here.",
            code="unsortable-attribute",
            remedy="docs/conformance/qido-rs.md lists the attributes to sort by.",
        )
    column, is_number = place
    if not is_number:
        return (Term(column, order.descending),)
    missing = f"CASE WHEN {column} IS NULL THEN 0 ELSE 1 END"
    return Term(missing, order.descending, True), Term(f"coalesce({column}, 0)", order.descending, True)


def _place(tag: int, level: Level) -> tuple[str, bool] | None:
    """The column of an attribute of this level or one above, and whether it may be NULL."""
    attribute = ATTRIBUTES.get(tag)
    if tag in _COUNTED:
        of, column, is_number = _COUNTED[tag]
    elif attribute is None or attribute.column is None:
        return None
    else:
        of, column = attribute.level, f"{ALIAS[attribute.level]}.{attribute.column}"
        is_number = attribute.folding is Folding.NUMBER
    return (column, is_number) if LEVELS.index(of) <= LEVELS.index(level) else None
