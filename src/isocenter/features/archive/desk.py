"""What one transaction has gathered so far and writes at its end, set-wise."""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import orjson

from isocenter.dicom.validation import Problem
from isocenter.features.archive import queries
from isocenter.features.archive.changes import Told
from isocenter.features.archive.entry import Entry, OutcomeKind, Received, Suspect
from isocenter.features.archive.placing import Place
from isocenter.features.archive.usage import Growth
from isocenter.platform.db import Work


@dataclass(slots=True)
class Desk:
    organization_id: int
    now_us: int
    instances: list[dict[str, Any]] = field(default_factory=list)
    feed: list[Told] = field(default_factory=list)
    growth: Growth = field(default_factory=Growth)
    added: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    places: dict[int, Place] = field(default_factory=dict)
    disturbed_series: set[int] = field(default_factory=set)

    def note(self, received: Received, kind: OutcomeKind, **detail: object) -> None:
        self.feed.append(
            Told(
                kind.value,
                received.study_instance_uid,
                received.series_instance_uid,
                received.sop_instance_uid,
                detail,
            )
        )

    def insert(self, entry: Entry, place: Place, version: int) -> None:
        stored = entry.stored
        self.instances.append(
            {
                **entry.instance.columns,
                "organization_id": self.organization_id,
                "series_pk": place.series_pk,
                "transfer_syntax_uid": stored.transfer_syntax_uid,
                "fragments": entry.instance.text,
                "object_key": stored.key,
                "size": stored.size,
                "header_size": stored.header_size,
                "sha256": stored.sha256,
                "pixel_offset": entry.pixel_offset,
                "pixel_length": entry.pixel_length,
                "frame_offsets": entry.frame_offsets,
                "version": version,
                "door": entry.source.door,
                "peer": entry.source.peer,
                "received_at_us": self.now_us,
            }
        )
        self.places[place.series_pk] = place
        self.growth.add(stored.size)

    def set_aside(self, suspect: Suspect) -> Work[None]:
        """Into quarantine; the entry's id is a random one (128 bits), which tells nothing."""
        [entry] = yield queries.PUT_IN_QUARANTINE(
            organization_id=self.organization_id,
            public_id=secrets.token_hex(16),
            object_key=suspect.stored.key,
            size=suspect.stored.size,
            header_size=suspect.stored.header_size,
            sha256=suspect.stored.sha256,
            transfer_syntax_uid=suspect.stored.transfer_syntax_uid,
            problems=orjson.dumps([problem_json(problem) for problem in suspect.problems]).decode(),
            known="{" + ",".join(text for _, text in sorted(suspect.known.items())) + "}",
            door=suspect.source.door,
            peer=suspect.source.peer,
            now_us=self.now_us,
        )
        if entry["times_seen"] == 1:
            self.growth.add(suspect.stored.size)
        codes = [problem.code for problem in suspect.problems]
        self.note(suspect, OutcomeKind.QUARANTINED, codes=codes)

    def flush_instances(self) -> Work[None]:
        if self.instances:
            yield queries.INSERT_INSTANCES.many(self.instances)
            self.instances = []


def problem_json(problem: Problem) -> dict[str, str | None]:
    """A problem as the API and the quarantine table show it."""
    return {
        "code": problem.code,
        "tag": f"{problem.tag:08X}" if problem.tag else None,
        "detail": problem.detail,
        "remedy": problem.remedy,
    }
