"""SECURITY.md and the page that follows a request name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FLOW = (REPOSITORY / "docs" / "security-flow.md").read_text(encoding="utf-8")


def test_every_file_of_the_flow_exists() -> None:
    named = re.findall(r"`(src/[^`]+)`", FLOW)
    assert len(named) > 30
    assert [name for name in named if not (REPOSITORY / name).is_file()] == []


def test_both_doors_are_followed_through_every_gate() -> None:
    _, http, dimse = FLOW.split("\n## ")
    for gate in ("protocol.py", "proxies.py", "frame.py", "guards.py", "gate.py", "problems.py"):
        assert f"doors/http/{gate}" in http
    for gate in ("tls/profiles.py", "net/acceptor.py", "ae_titles/admission.py", "judging.py", "statuses.py"):
        assert gate in dimse


def test_links_of_the_policy_lead_somewhere() -> None:
    policy = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)\)", policy) + re.findall(r"`(scripts/[^`]+)`", policy)
    assert len(targets) >= 3
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []
    for heading in ("Reporting", "Supported versions", "What is promised"):
        assert f"## {heading}" in policy
