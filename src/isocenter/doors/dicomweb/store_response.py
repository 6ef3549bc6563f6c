"""What a STOW-RS answer says (PS3.18 §10.5.3, §I.2): which instances were stored, which were not, and why."""

from __future__ import annotations

from collections import Counter
from textwrap import wrap
from typing import Any

import orjson
from starlette.requests import Request

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
_OTHER_STUDY = 0xC409

_OTHER_STUDY_WORDS = "The object belongs to another study than the one in the address."
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

    @property
    def status(self) -> int:
        """200 when all were stored, 202 when some were, 409 when none was (PS3.18 Table 10.5.3-1)."""
        if not self._referenced:
            return 409
        return 202 if self._failed or self._other else 200

    def json(self) -> bytes:
        """The Store Instances Response Module as one DICOM JSON object, tags ascending."""
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
        return orjson.dumps(module)

    def outcome(self, outcome: Outcome, *, batch_refused: bool = False) -> None:
        """``batch_refused``: nothing of the batch was stored, accepted or not."""
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
            self._referenced.append({**_identity(outcome), "00081190": _url(url)})

    def wrong_study(self, received: Received) -> None:
        self._codes["other-study"] += 1
        self._fail(received, _OTHER_STUDY, _OTHER_STUDY_WORDS)

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


def _words(problems: tuple[Problem, ...]) -> str:
    return " ".join(problem.detail.rstrip(".") + "." for problem in problems)


def _identity(of: Outcome | Received) -> dict[str, Any]:
    identity: dict[str, Any] = {}
    if of.sop_class_uid:
        identity["00081150"] = {"vr": "UI", "Value": [of.sop_class_uid]}
    identity["00081155"] = {"vr": "UI", "Value": [of.sop_instance_uid]}
    return identity


def _failure(reason: int, words: str) -> dict[str, Any]:
    """The reason, and for people Error Comments (PS3.7 E.1) in Failed Attributes Sequence."""
    failure: dict[str, Any] = {"00081197": {"vr": "US", "Value": [reason]}}
    lines = wrap(words, _COMMENT_CHARS_MAX)[:_COMMENTS_MAX]
    if lines:
        comments = [{"00000902": {"vr": "LO", "Value": [line]}} for line in lines]
        failure["00741048"] = {"vr": "SQ", "Value": comments}
    return failure


def _url(url: str) -> dict[str, Any]:
    return {"vr": "UR", "Value": [url]}
