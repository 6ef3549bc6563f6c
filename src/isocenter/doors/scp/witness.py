"""What the DIMSE door tells the audit trail (PS3.15 A.5).

Stores are told when their association ends, one event a study: a scanner that sends a thousand slices did one
thing. Queries are told one by one, refused associations once a minute for each host.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from isocenter.dicom.dictionary import keyword_of
from isocenter.dicom.levels import Level
from isocenter.dimse.net.service import AssociationInfo
from isocenter.features.archive.query import Query
from isocenter.kit.clock import Clock
from isocenter.kit.errors import IsocenterError
from isocenter.platform.security import (
    Action,
    EventOutcome,
    Recorder,
    Subject,
    SubjectKind,
    event_of,
)
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

_REFUSED_AGAIN_S = 60.0
_REFUSED_HOSTS_MAX = 4096
_STUDIES_MAX = 256  # of one association, until they are told before its end
_LEVELS = {Level.PATIENT: "patient", Level.STUDY: "study", Level.SERIES: "series", Level.INSTANCE: "instance"}

Details = Mapping[str, str | int | float | bool | None]


@dataclass(slots=True)
class Retrieved:
    """A retrieval: what was asked for, where to (empty: to who asked), what became of each study's objects,
    how many were never tried, and why it ended early."""

    asked: Mapping[str, str] = field(default_factory=dict)
    destination: str = ""
    destination_host: str = ""
    studies: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    remaining: int = 0
    reason: str = ""


class AssociationWitness:
    """What was granted says whose trail it is; of who was not let in, ``unknown_to`` hears."""

    def __init__(self, recorder: Recorder, clock: Clock, *, unknown_to: int = 1) -> None:
        self._recorder = recorder
        self._clock = clock
        self._refused_at_s: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._unknown_to = unknown_to
        self._stores: dict[int, dict[str, Counter[str]]] = {}

    def refused(
        self,
        calling_ae_title: str,
        peer_host: str,
        called_ae_title: str,
        reason: str,
        *,
        organization_id: int | None = None,
    ) -> None:
        """An association that was not let in. Of a host that keeps calling once a minute: whoever reaches the
        port must not fill the trail. How often it called, and as whom, the list of refused callers tells."""
        now_s, key = self._clock.monotonic_s(), (peer_host, reason)
        if now_s - self._refused_at_s.get(key, -_REFUSED_AGAIN_S) < _REFUSED_AGAIN_S:
            return
        self._refused_at_s[key] = now_s
        self._refused_at_s.move_to_end(key)
        while len(self._refused_at_s) > _REFUSED_HOSTS_MAX:
            self._refused_at_s.popitem(last=False)
        caller = _caller(calling_ae_title, peer_host, organization_id or self._unknown_to)
        self._record(
            caller,
            Action.ACCESS,
            EventOutcome.DENIED,
            resource_kind="association",
            resource_id=called_ae_title,
            details={"reason": reason},
        )

    def stored(self, association: AssociationInfo, study_instance_uid: str, outcome: str) -> None:
        """One object; ``outcome`` is what became of it. Without a study: it was not known."""
        studies = self._stores.setdefault(id(association), {})
        studies.setdefault(study_instance_uid, Counter())[outcome] += 1
        if len(studies) > _STUDIES_MAX:
            self.closed(association)

    def closed(self, association: AssociationInfo) -> None:
        """Tell of the stores that were not told yet."""
        caller = _caller_of(association)
        for study, counts in self._stores.pop(id(association), {}).items():
            failed = counts.keys() <= _FAILURES
            ended = EventOutcome.FAILED if failed else EventOutcome.SUCCESS
            self._record(
                caller, Action.STORE, ended, resource_kind="study", resource_id=study, details=dict(counts)
            )

    def found(
        self, association: AssociationInfo, query: Query | None, answers: int, reason: str = ""
    ) -> None:
        """A query and how many answers it got; ``reason``: why it ended early. None: it could not be read."""
        told: dict[str, str | int] = {"answers": answers}
        if query is not None:
            paths = {(tag,): text for tag, text in query.matches.items()} | dict(query.item_matches)
            told |= {".".join(map(_name, path)): text for path, text in paths.items() if text}
        ended = EventOutcome.SUCCESS
        if reason:
            told["reason"], ended = reason, EventOutcome.FAILED
        kind = _LEVELS[query.level] if query is not None else "study"
        caller = _caller_of(association)
        self._record(caller, Action.SEARCH, ended, resource_kind=kind, resource_id="", details=told)

    def retrieved(self, association: AssociationInfo, told: Retrieved) -> None:
        """One event for each study that objects were sent of, or one where none was."""
        caller = _caller_of(association)
        about: dict[str, str | int] = {"part": "objects"}
        if told.destination:
            about |= {"destination": told.destination, "destination_host": told.destination_host}
        if told.reason:
            about["reason"] = told.reason
        if told.remaining:
            about["remaining"] = told.remaining
        if not told.studies:
            about |= told.asked
        for study, counts in (told.studies or {"": {"objects": 0}}).items():
            sent = counts.get("objects", 0)
            ended = EventOutcome.SUCCESS if sent or not (told.reason or counts.get("failed")) else _FAILED
            self._record(
                caller,
                Action.READ,
                ended,
                resource_kind="study",
                resource_id=study,
                details={**about, **counts},
            )

    def asked_to_commit(
        self, association: AssociationInfo, transaction_uid: str, instances: int, reason: str = ""
    ) -> None:
        """Storage commitment was asked for; ``reason``: why it was refused."""
        told: dict[str, str | int] = {"instances": instances} | ({"reason": reason} if reason else {})
        ended = _FAILED if reason else EventOutcome.SUCCESS
        caller = _caller_of(association)
        self._record(
            caller,
            Action.READ,
            ended,
            resource_kind="commitment",
            resource_id=transaction_uid,
            details=told,
        )

    def listed_work(
        self, association: AssociationInfo, asked: Mapping[str, str], answers: int, reason: str = ""
    ) -> None:
        """A query of the modality worklist and how many answers it got; ``reason``: why it ended early."""
        told: dict[str, str | int] = {**asked, "answers": answers}
        if reason:
            told["reason"] = reason
        self._record(
            _caller_of(association),
            Action.SEARCH,
            _FAILED if reason else EventOutcome.SUCCESS,
            resource_kind="worklist",
            resource_id="",
            details=told,
        )

    def performs(
        self, association: AssociationInfo, action: Action, uid: str, state: str, reason: str = ""
    ) -> None:
        """A performed procedure step was created, changed or read."""
        told = {"state": state} | ({"reason": reason} if reason else {})
        self._record(
            _caller_of(association),
            action,
            _FAILED if reason else EventOutcome.SUCCESS,
            resource_kind="performed-step",
            resource_id=uid,
            details=told,
        )

    def _record(
        self,
        caller: Subject,
        action: Action,
        outcome: EventOutcome,
        *,
        resource_kind: str,
        resource_id: str,
        details: Details,
    ) -> None:
        """What was done is done: a full trail is said in the log, with all that may be in one."""
        try:
            self._recorder.record(
                event_of(
                    caller,
                    action,
                    outcome=outcome,
                    resource_kind=resource_kind,
                    resource_id=resource_id,
                    details=details,
                )
            )
        except IsocenterError as error:
            log.error(
                "An association's event could not be recorded",
                calling_ae_title=caller.id,
                peer_host=caller.address,
                action=action.value,
                reason=error.detail,
            )


def _caller_of(association: AssociationInfo) -> Subject:
    organization_id = association.grant.organization_id
    return _caller(association.calling_ae_title, association.peer_host, organization_id)


def _caller(ae_title: str, peer_host: str, organization_id: int) -> Subject:
    return Subject(SubjectKind.AE_TITLE, ae_title, organization_id, frozenset(), ae_title, peer_host)


_FAILED = EventOutcome.FAILED
_FAILURES = frozenset({"rejected", "quarantined", "failed"})


def _name(tag: int) -> str:
    return keyword_of(tag) or f"{tag:08X}"
