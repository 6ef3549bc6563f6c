"""How a patient's record and contradictions read in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING

from isocenter.cli.opened import moment
from isocenter.cli.texts import counted, plain, value_text

if TYPE_CHECKING:
    from isocenter.features.archive.patients.conflicts import PatientConflict
    from isocenter.features.archive.patients.identity import PatientIdentity
    from isocenter.features.archive.patients.records import Merged, PatientRecord

_DEMOGRAPHICS = (("Name", "00100010"), ("Birth date", "00100030"), ("Sex", "00100040"))


def record_lines(record: PatientRecord, of: str) -> Iterator[str]:
    """``of``: what a command that is shown has to say of the organisation."""
    yield f"Patient {identity_text(record.identity)}, {counted(record.studies, 'study', 'studies')}"
    for name, tag in _DEMOGRAPHICS:
        yield f"  {name:12}{value_text(record.attributes.get(tag, {}))}".rstrip()
    if record.generated:
        yield "  The ID was made up here: the objects tell none."
    if record.corrected:
        yield "  Demographics were set by a person."
    if record.merged is not None:
        left = identity_text(record.merged.survivor)
        yield f"  {_merged_text(record.merged)} Its studies are those of {left}."
    for merged in record.behind:
        yield f"  {_merged_text(merged)}"
    for link in record.links:
        by = plain(link.by) or "somebody"
        yield f"  Linked to {identity_text(link.other)} ({moment(link.at_us)} by {by})."
    if record.open_conflicts:
        contradictions = counted(record.open_conflicts, "contradiction")
        yield f"  {contradictions} open: isocenter patient conflicts {_options(record.identity)}{of}"


def conflict_line(conflict: PatientConflict) -> str:
    from isocenter.dicom.dictionary import keyword_of

    values = f"{value_text(conflict.kept)!r} against {value_text(conflict.other)!r}"
    what = keyword_of(int(conflict.tag, 16))
    said = "" if conflict.state == "open" else f"  {conflict.state} by {plain(conflict.settled_by)}"
    return f"{conflict.id}  {identity_text(conflict.patient)}  {what}: {values}{said}"


def identity_text(identity: PatientIdentity) -> str:
    issuer = f" (issuer {plain(identity.issuer)})" if identity.issuer else ""
    return plain(identity.patient_id) + issuer


def _options(identity: PatientIdentity) -> str:
    """To be typed."""
    issuer = f" --issuer {quote(plain(identity.issuer))}" if identity.issuer else ""
    return f"--patient {quote(plain(identity.patient_id))}{issuer}"


def _merged_text(merged: Merged) -> str:
    why = f": {plain(merged.reason)}" if merged.reason else ""
    return (
        f"{identity_text(merged.patient)} was merged into {identity_text(merged.into)} "
        f"({moment(merged.at_us)} by {plain(merged.by) or 'somebody'}{why})."
    )
