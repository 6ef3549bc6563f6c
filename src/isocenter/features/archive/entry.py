"""What is known of one received object: the unit that the committer puts into the index.

Read from the scan of its header. The attributes of patient, study and series are decoded once and shared by
all the objects that carry the same bytes (a CT series sends them 600 times): see :class:`LevelCache`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import orjson

from isocenter.dicom.json_model import text_fragment
from isocenter.dicom.tags import ISSUER_OF_PATIENT_ID
from isocenter.dicom.validation import Problem
from isocenter.features.archive.indexed_values import Value


@dataclass(frozen=True, slots=True)
class Source:
    """Where an object came from. ``peer`` is an AE title, a user or a path; never patient data. ``issuer``:
    who gives out the Patient IDs there, where an object does not say it."""

    door: str
    peer: str = ""
    issuer: str = ""

    def __post_init__(self) -> None:
        """A path may hold bytes that are no text, which no database takes."""
        if not self.peer.isascii() or "\0" in self.peer:
            text = self.peer.encode("utf-8", "backslashreplace").decode()
            object.__setattr__(self, "peer", text.replace("\0", "\\0"))


@dataclass(frozen=True, slots=True)
class Declared:
    """What a C-STORE request says of the bare data set that follows it (PS3.7 §9.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The object's bytes as they lie in the store: ``header_size`` bytes, then the data set."""

    key: str
    size: int
    header_size: int
    sha256: str
    """Of the data set alone, in hexadecimal: the same image by another door has the same one."""
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class LevelData:
    """One level's attributes: ``columns`` to match on, ``fragments`` to answer with (by tag, ascending)."""

    columns: dict[str, str | int | None]
    fragments: dict[int, str]
    values: dict[int, list[Value]] = field(default_factory=dict)
    """What is matched on by rows of its own, by the attribute that holds it."""

    @property
    def text(self) -> str:
        """The fragments as the index stores them, a line each."""
        return "\n".join(self.fragments.values())


@dataclass(frozen=True, slots=True)
class Levels:
    """Patient, study and series as one object tells them. ``digest`` is of their raw bytes."""

    patient: LevelData
    study: LevelData
    series: LevelData
    digest: str


def issued_by(levels: Levels, issuer: str) -> Levels:
    """As the index is to know them where the object does not say who gave out its Patient ID."""
    patient = levels.patient
    if not issuer or patient.columns["issuer"] or not patient.columns["patient_id"]:
        return levels
    line = text_fragment(ISSUER_OF_PATIENT_ID, "LO", [issuer])
    fragments = dict(sorted({**patient.fragments, ISSUER_OF_PATIENT_ID: line}.items()))
    told = LevelData({**patient.columns, "issuer": issuer}, fragments, patient.values)
    return replace(levels, patient=told, digest=digest_of([levels.digest.encode(), issuer.encode()]))


@dataclass(slots=True)
class Entry:
    """An object that may enter the index."""

    stored: StoredObject
    source: Source
    levels: Levels
    instance: LevelData
    pixel_offset: int | None = None
    pixel_length: int | None = None
    frame_offsets: str = ""
    put_existed: bool = False
    """The store already had these bytes: a sweep may be deleting them (see ``sweep.py``)."""
    put_at_us: int = 0
    """When they were put."""
    tolerated: tuple[Problem, ...] = ()
    """Rules that it breaks and that the organisation's strictness lets pass."""

    @property
    def patient_id(self) -> str:
        return str(self.levels.patient.columns["patient_id"])

    @property
    def study_instance_uid(self) -> str:
        return str(self.levels.study.columns["study_instance_uid"])

    @property
    def series_instance_uid(self) -> str:
        return str(self.levels.series.columns["series_instance_uid"])

    @property
    def sop_instance_uid(self) -> str:
        return str(self.instance.columns["sop_instance_uid"])

    @property
    def sop_class_uid(self) -> str:
        return str(self.instance.columns["sop_class_uid"])


@dataclass(slots=True)
class Suspect:
    """An object that validation refused: it goes to quarantine with its problems (MISSION A5)."""

    stored: StoredObject
    source: Source
    problems: tuple[Problem, ...]
    known: dict[int, str] = field(default_factory=dict)
    """Fragments of what could be read, for the person who looks at it."""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    put_existed: bool = False
    put_at_us: int = 0


Received = Entry | Suspect


def suspect_of(entry: Entry, problem: Problem) -> Suspect:
    """An object that could be read and may not be filed all the same."""
    levels = entry.levels
    return Suspect(
        stored=entry.stored,
        source=entry.source,
        problems=(problem,),
        known=levels.patient.fragments
        | levels.study.fragments
        | levels.series.fragments
        | entry.instance.fragments,
        study_instance_uid=entry.study_instance_uid,
        series_instance_uid=entry.series_instance_uid,
        sop_class_uid=entry.sop_class_uid,
        sop_instance_uid=entry.sop_instance_uid,
    )


def patient_told_by(received: Received) -> tuple[str, str]:
    """Issuer and Patient ID as the object tells them; empty where it does not."""
    if isinstance(received, Entry):
        return str(received.levels.patient.columns["issuer"]), received.patient_id
    known = orjson.loads("{" + ",".join(received.known.values()) + "}")
    issuer, patient_id = (known.get(tag, {}).get("Value", [""])[0] for tag in ("00100021", "00100020"))
    return str(issuer or ""), str(patient_id or "")


class OutcomeKind(StrEnum):
    STORED = "stored"
    DUPLICATE = "duplicate"  # same UID, same data set: accepted, not stored again
    REPLACED = "replaced"  # conflict policy: the newer object took the place of the older
    KEPT_BOTH = "kept-both"  # conflict policy: the newer is current, the older stays as a version
    KEPT_FIRST = "kept-first"  # conflict policy: accepted, the older object stays the only one
    REJECTED = "rejected"  # conflict policy: refused
    QUARANTINED = "quarantined"

    @property
    def accepted(self) -> bool:
        """Whether the sender hears success."""
        return self not in {OutcomeKind.REJECTED, OutcomeKind.QUARANTINED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object."""

    kind: OutcomeKind
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    problems: tuple[Problem, ...] = ()
    tolerated: tuple[Problem, ...] = ()
    """Rules that the accepted object breaks."""


def outcome_of(received: Received, kind: OutcomeKind, problems: tuple[Problem, ...] = ()) -> Outcome:
    return Outcome(
        kind,
        received.study_instance_uid,
        received.series_instance_uid,
        received.sop_class_uid,
        received.sop_instance_uid,
        problems,
        received.tolerated if isinstance(received, Entry) else (),
    )


class LevelCache:
    """The most recently decoded levels by digest, so that a series is decoded once."""

    def __init__(self, entries_max: int = 1024) -> None:
        self._entries_max = entries_max
        self._levels: OrderedDict[str, Levels] = OrderedDict()

    def get(self, digest: str) -> Levels | None:
        levels = self._levels.get(digest)
        if levels is not None:
            self._levels.move_to_end(digest)
        return levels

    def keep(self, levels: Levels) -> None:
        self._levels[levels.digest] = levels
        if len(self._levels) > self._entries_max:
            self._levels.popitem(last=False)


def digest_of(parts: Sequence[bytes]) -> str:
    """A digest of raw values. Their lengths are in it: without them two patients whose values only run
    together alike would be taken for one."""
    lengths = repr([*map(len, parts)]).encode()
    return hashlib.blake2b(b"".join(parts) + lengths, digest_size=16).hexdigest()
