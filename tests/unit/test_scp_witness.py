"""What the DIMSE door tells the trail of those whom it does not let in."""

from __future__ import annotations

from isocenter.doors.scp.witness import AssociationWitness
from isocenter.kit.clock import ManualClock
from isocenter.platform.security import AuditEvent, NoRecorder


class Trail(NoRecorder):
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)


def test_who_keeps_calling_is_told_once_a_minute() -> None:
    trail, clock = Trail(), ManualClock()
    witness = AssociationWitness(trail, clock)
    for number in range(100):
        witness.refused(f"GUESS{number}", "192.0.2.66", "ISOCENTER", "not registered")
    witness.refused("GUESS0", "192.0.2.66", "ELSE", "not ours")
    witness.refused("CT1", "192.0.2.67", "ISOCENTER", "not registered", organization_id=7)
    clock.advance(60)
    witness.refused("GUESS7", "192.0.2.66", "ISOCENTER", "not registered")
    told = [(event.subject_id, event.address, event.organization_id) for event in trail.events]
    assert told == [
        ("GUESS0", "192.0.2.66", 1),
        ("GUESS0", "192.0.2.66", 1),
        ("CT1", "192.0.2.67", 7),
        ("GUESS7", "192.0.2.66", 1),
    ]


def test_hosts_are_remembered_within_bounds() -> None:
    witness = AssociationWitness(Trail(), ManualClock())
    for number in range(10_000):
        witness.refused("CT1", f"host {number}", "ISOCENTER", "not registered")
    assert len(witness._refused_at_s) == 4096
