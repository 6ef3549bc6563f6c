"""docs/conformance/dimse.md names tests that exist, and every SOP class that the DIMSE door serves."""

from __future__ import annotations

import re
from pathlib import Path

from isocenter.doors.scp.contexts import FIND_SOP_CLASSES, GET_SOP_CLASSES, MOVE_SOP_CLASSES
from isocenter.doors.scp.identifiers import MODEL_OF
from isocenter.features.ae_titles.entries import AeService

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "conformance" / "dimse.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"(tests/\w+/\w+\.py)::(\w+)", PAGE))
    assert len(named) > 40
    missing = [
        f"{file}::{function}"
        for file, function in named
        if f"def {function}(" not in (REPOSITORY / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_model_is_served_in_every_service() -> None:
    assert set(MODEL_OF) == FIND_SOP_CLASSES | MOVE_SOP_CLASSES | GET_SOP_CLASSES
    assert {uid[:-1] for uid in FIND_SOP_CLASSES} == {uid[:-1] for uid in MOVE_SOP_CLASSES}
    assert {uid[:-1] for uid in FIND_SOP_CLASSES} == {uid[:-1] for uid in GET_SOP_CLASSES}


def test_every_service_is_told_of() -> None:
    mine = {AeService.STORE, AeService.FIND, AeService.MOVE, AeService.GET, AeService.COMMIT}
    assert [service for service in mine if f"`{service}`" not in PAGE] == []
