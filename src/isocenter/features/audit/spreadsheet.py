"""Entries as CSV (RFC 4180), for the program that most people open it with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from isocenter.features.audit.dicom_messages import instant
from isocenter.features.audit.entries import Entry

_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n")
_COLUMNS = (
    "sequence",
    "at",
    "action",
    "outcome",
    "subject_kind",
    "subject_id",
    "subject_name",
    "address",
    "resource_kind",
    "resource_id",
    "details",
    "trace_id",
    "previous_hash",
    "hash",
)


def csv_lines(entries: Iterable[Entry], *, heading: bool = True) -> str:
    """One line an entry, CRLF after each."""
    text = io.StringIO()
    writer = csv.writer(text)
    if heading:
        writer.writerow(_COLUMNS)
    for entry in entries:
        writer.writerow([defused(_cell(entry, column)) for column in _COLUMNS])
    return text.getvalue()


def defused(cell: str) -> str:
    """What a spreadsheet would run as a formula is text (OWASP, CSV injection): patient names, AE titles and
    searches are the words of strangers."""
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA_BEGINS) else cell


def _cell(entry: Entry, column: str) -> str:
    if column == "at":
        return instant(entry).isoformat(timespec="microseconds")
    return str(getattr(entry, column))
