"""What goes wrong, as DIMSE statuses (PS3.7 Annex C, PS3.4 B.2.3 and C.4.1.1.4): two total tables.

PS3.4 B.2.3 gives C-STORE three families of failure: A7xx, out of resources, which senders try again;
A9xx, the data set does not match its SOP class; Cxxx, cannot understand. What fits none of them gets
a general status of PS3.7 Annex C, which B.2.3 allows beside its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from isocenter.dicom import tags
from isocenter.dicom.validation import FILE_META_MISMATCH, INVALID_UID, MISSING, Problem
from isocenter.dimse.net.service import Answer
from isocenter.dimse.protocol import statuses
from isocenter.features.archive.entry import Outcome, OutcomeKind
from isocenter.kit.errors import IsocenterError, Kind

COMMENT_CHARACTERS_MAX = 64  # (0000,0902) is an LO
_OFFENDING_MAX = 16

# The object is a DICOM data set, but not the one that its SOP class or its own request promises.
_DOES_NOT_MATCH = frozenset({"not-the-announced-object", "unknown-sop-class", MISSING, FILE_META_MISMATCH})

_IN_WORDS = {
    MISSING: "missing or empty",
    INVALID_UID: "invalid UID",
    FILE_META_MISMATCH: "file header names another object",
    "not-the-announced-object": "not the announced object",
    "unknown-sop-class": "unknown SOP class",
    "patient-id-too-long": "Patient ID too long",
}

# Not the dictionary: it takes most of a second to load, and the first bad object would wait for it.
_KEYWORDS = {
    tags.SOP_CLASS_UID: "SOPClassUID",
    tags.SOP_INSTANCE_UID: "SOPInstanceUID",
    tags.STUDY_INSTANCE_UID: "StudyInstanceUID",
    tags.SERIES_INSTANCE_UID: "SeriesInstanceUID",
    tags.MODALITY: "Modality",
    tags.PATIENT_ID: "PatientID",
}


def status_of_kind(kind: Kind) -> int:  # noqa: PLR0911 - one line per family, proved total by mypy
    """The status of each kind of failure."""
    match kind:
        case Kind.OUT_OF_SPACE | Kind.UNAVAILABLE | Kind.BUSY | Kind.RATE_LIMITED:
            return statuses.OUT_OF_RESOURCES
        case Kind.TOO_LARGE:
            return statuses.OUT_OF_RESOURCES  # over a limit of ours, no fault of the object
        case Kind.INVALID:
            return statuses.CANNOT_UNDERSTAND
        case Kind.FORBIDDEN | Kind.UNAUTHENTICATED:
            return statuses.NOT_AUTHORIZED
        case Kind.UNSUPPORTED:
            return statuses.SOP_CLASS_NOT_SUPPORTED
        case Kind.NOT_FOUND:
            return statuses.NO_SUCH_SOP_INSTANCE
        case Kind.CONFLICT | Kind.INTERNAL:
            return statuses.PROCESSING_FAILURE
    assert_never(kind)


def answer_to_error(error: IsocenterError) -> Answer:
    return Answer(status_of_kind(error.kind), comment(error.detail))


def answer_to_outcome(outcome: Outcome) -> Answer:
    """What the sender of an object hears."""
    match outcome.kind:
        case (
            OutcomeKind.STORED
            | OutcomeKind.DUPLICATE
            | OutcomeKind.REPLACED
            | OutcomeKind.KEPT_BOTH
            | OutcomeKind.KEPT_FIRST
        ):
            return Answer()
        case OutcomeKind.REJECTED:
            # B.2.3 has no code for it; Cxxx would say that we did not understand, and we did.
            return Answer(statuses.DUPLICATE_SOP_INSTANCE, "another object with this UID is stored already")
        case OutcomeKind.QUARANTINED:
            return _quarantined(outcome.problems)
    assert_never(outcome.kind)


def _quarantined(problems: Sequence[Problem]) -> Answer:
    matches = not any(problem.code in _DOES_NOT_MATCH for problem in problems)
    status = statuses.CANNOT_UNDERSTAND if matches else statuses.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
    offending = tuple(dict.fromkeys(problem.tag for problem in problems if problem.tag))
    return Answer(status, _in_words(problems), offending[:_OFFENDING_MAX])


def _in_words(problems: Sequence[Problem]) -> str:
    """``quarantined: required attribute missing or empty, Modality (+2 more)``."""
    if not problems:
        return "quarantined"
    worst = problems[0]
    words = _IN_WORDS.get(worst.code) or worst.code.replace("-", " ")
    text = f"quarantined: {words}"
    if name := _KEYWORDS.get(worst.tag):
        text += f", {name}"
    more = f" (+{len(problems) - 1})" if len(problems) > 1 else ""
    return comment(text[: COMMENT_CHARACTERS_MAX - len(more)] + more)


def comment(text: str) -> str:
    """Fit for Error Comment: 64 characters of ASCII, no backslash, no control characters."""
    plain = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)
    if len(plain) <= COMMENT_CHARACTERS_MAX:
        return plain
    return plain[: COMMENT_CHARACTERS_MAX - 3].rstrip() + "..."
