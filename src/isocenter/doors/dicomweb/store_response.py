"""What a STOW-RS answer says (PS3.18 §10.5.3, §I.2): which instances were stored, which were not, and why."""

from __future__ import annotations

from collections import Counter
from textwrap import wrap
from typing import Any

import orjson
from starlette.requests import Request

from isocenter.dicom.native_model import native_xml
from isocenter.dicom.validation import Problem
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.features.archive.entry import Outcome, OutcomeKind, Received
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

# PS3.18 Table I.2-2; 0111 is PS3.7 C.5.7's duplicate SOP instance, C409 this server's own.
_PROCESSING_FAILURE = 0x0110
_DUPLICATE_INSTANCE = 0x0111
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_DOES_NOT_MATCH_SOP_CLASS = 0xA900
_CANNOT_UNDERSTAND = 0xC000
_OTHER_PLACE = 0xC409

# PS3.18 Table I.2-1; B000 (coercion) never occurs, since nothing is coerced. B111 is this server's own.
_ELEMENTS_DISCARDED = 0xB006
_STORED_THOUGH_NO_MATCH = 0xB007
_EARLIER_KEPT = 0xB111

_DISCARDED_WORDS = "Attributes that have no place in a data set were left out."
_EARLIER_KEPT_WORDS = "Another object with this UID was there before; it was kept, and this one was not."

# PS3.18 has no attribute that says whether an accepted instance was new: a private one does (PS3.5 §7.8).
_PRIVATE_CREATOR = {"00090010": {"vr": "LO", "Value": ["ISOCENTER STORE"]}}
_DISPOSITION = "00091001"
_DISPOSITIONS = {
    OutcomeKind.STORED: "STORED",
    OutcomeKind.DUPLICATE: "IDENTICAL",
    OutcomeKind.REPLACED: "REPLACED",
    OutcomeKind.KEPT_BOTH: "KEPT BOTH",
    OutcomeKind.KEPT_FIRST: "KEPT FIRST",
}

_OTHER_PLACE_WORDS = "The object is of another study, series or instance than the address."
_BATCH_WORDS = "Another object of the request could not be accepted, so none was stored."
_COMMENT_CHARS_MAX = 64  # of VR LO
_COMMENTS_MAX = 16


class StoreResponse:
    """Gathers outcomes; then `status` and `json` are the answer."""

    def __init__(self, addresses: Addresses, request: Request) -> None:
        self._addresses = addresses
        self._request = request
        self._referenced: list[dict[str, Any]] = []
        self._failed: list[dict[str, Any]] = []
        self._other: list[dict[str, Any]] = []
        self._studies: set[str] = set()
        self._codes: Counter[str] = Counter()
        self._warned = False

    @property
    def status(self) -> int:
        """200 when all were stored, 202 when some were or with warnings, 409 when none was (PS3.18 Table
        10.5.3-1)."""
        if not self._referenced:
            return 409
        return 202 if self._failed or self._other or self._warned else 200

    def json(self) -> bytes:
        """The Store Instances Response Module as one DICOM JSON object, tags ascending."""
        return orjson.dumps(self._module())

    def xml(self) -> bytes:
        """The same in the Native DICOM Model (PS3.19 A.1)."""
        return native_xml(self._module())

    def _module(self) -> dict[str, Any]:
        module: dict[str, Any] = {}
        if len(self._studies) == 1:
            module["00081190"] = _url(self._addresses.study(self._request, *self._studies))
        for tag, items in (
            ("00081198", self._failed),
            ("00081199", self._referenced),
            ("0008119A", self._other),
        ):
            if items:
                module[tag] = {"vr": "SQ", "Value": items}
        return module

    def outcome(self, outcome: Outcome, *, batch_refused: bool = False, discarded: bool = False) -> None:
        """``batch_refused``: nothing of the batch was stored, accepted or not. ``discarded``: some of what
        was sent has no place in the object."""
        if not outcome.kind.accepted:
            self._codes.update({problem.code for problem in outcome.problems})
            self._fail(outcome, _reason(outcome), _words(outcome.problems))
        elif batch_refused:
            self._fail(outcome, _PROCESSING_FAILURE, _BATCH_WORDS)
        else:
            self._studies.add(outcome.study_instance_uid)
            url = self._addresses.instance(
                self._request,
                outcome.study_instance_uid,
                outcome.series_instance_uid,
                outcome.sop_instance_uid,
            )
            warning = _warning(outcome, discarded=discarded)
            self._warned = self._warned or bool(warning)
            told = {_DISPOSITION: {"vr": "CS", "Value": [_DISPOSITIONS[outcome.kind]]}}
            item = {**_identity(outcome), "00081190": _url(url), **warning, **_PRIVATE_CREATOR, **told}
            self._referenced.append(dict(sorted(item.items())))

    def wrong_place(self, received: Received) -> None:
        self._codes["other-study"] += 1
        self._fail(received, _OTHER_PLACE, _OTHER_PLACE_WORDS)

    def batch_refused(self, received: Received) -> None:
        self._fail(received, _PROCESSING_FAILURE, _BATCH_WORDS)

    def empty_part(self) -> None:
        self._codes["empty-part"] += 1
        self._other.append(_failure(_CANNOT_UNDERSTAND, "The part is empty."))

    def told(self) -> dict[str, str | int]:
        """What the audit trail hears: how many, and of which studies."""
        studies = sorted(self._studies)
        told: dict[str, str | int] = {
            "stored": len(self._referenced),
            "refused": len(self._failed) + len(self._other),
            "study": studies[0] if studies else "",
        }
        if len(studies) > 1:
            told |= {"studies": len(studies), "study_uids": " ".join(studies)}
        if self._codes:
            told["codes"] = ",".join(f"{code}:{count}" for code, count in self._codes.most_common())
        return told

    def log_refusals(self, peer: str) -> None:
        """One line for the request, however many objects were refused."""
        if self._failed or self._other:
            log.warning(
                "Objects not archived",
                door="stow",
                peer=peer,
                stored=len(self._referenced),
                refused=len(self._failed) + len(self._other),
                codes=",".join(f"{code}:{count}" for code, count in self._codes.most_common()),
            )

    def _fail(self, of: Outcome | Received, reason: int, words: str) -> None:
        failure = _failure(reason, words)
        if of.sop_instance_uid:
            self._failed.append({**_identity(of), **failure})
        else:  # the Other Failures Sequence is for what cannot be named
            self._other.append(failure)


def _reason(outcome: Outcome) -> int:
    if outcome.kind is OutcomeKind.REJECTED:
        return _DUPLICATE_INSTANCE
    codes = {problem.code for problem in outcome.problems}
    if "unknown-sop-class" in codes:
        return _SOP_CLASS_NOT_SUPPORTED
    readable = all(problem.tag for problem in outcome.problems)
    return _DOES_NOT_MATCH_SOP_CLASS if readable else _CANNOT_UNDERSTAND


def _warning(outcome: Outcome, *, discarded: bool) -> dict[str, Any]:
    """The most important one, since there is room for one only (PS3.18 §I.2.1); empty for none."""
    if outcome.kind is OutcomeKind.KEPT_FIRST:
        return _reasoned("00081196", _EARLIER_KEPT, _EARLIER_KEPT_WORDS)
    if outcome.tolerated:
        return _reasoned("00081196", _STORED_THOUGH_NO_MATCH, _words(outcome.tolerated))
    if discarded:
        return _reasoned("00081196", _ELEMENTS_DISCARDED, _DISCARDED_WORDS)
    return {}


def _words(problems: tuple[Problem, ...]) -> str:
    return " ".join(problem.detail.rstrip(".") + "." for problem in problems)


def _identity(of: Outcome | Received) -> dict[str, Any]:
    identity: dict[str, Any] = {}
    if of.sop_class_uid:
        identity["00081150"] = {"vr": "UI", "Value": [of.sop_class_uid]}
    identity["00081155"] = {"vr": "UI", "Value": [of.sop_instance_uid]}
    return identity


def _failure(reason: int, words: str) -> dict[str, Any]:
    return _reasoned("00081197", reason, words)


def _reasoned(tag: str, reason: int, words: str) -> dict[str, Any]:
    """The reason, and for people Error Comments (PS3.7 E.1) in Failed Attributes Sequence."""
    failure: dict[str, Any] = {tag: {"vr": "US", "Value": [reason]}}
    lines = wrap(words, _COMMENT_CHARS_MAX)[:_COMMENTS_MAX]
    if lines:
        comments = [{"00000902": {"vr": "LO", "Value": [line]}} for line in lines]
        failure["00741048"] = {"vr": "SQ", "Value": comments}
    return failure


def _url(url: str) -> dict[str, Any]:
    return {"vr": "UR", "Value": [url]}
