"""docs/conformance/statement.md is what the code says of itself, and says all of it."""

from __future__ import annotations

from pathlib import Path

from isocenter.cli.conformance import statement
from isocenter.dicom.part10 import IMPLEMENTATION_CLASS_UID
from isocenter.doors.scp.contexts import served_sop_classes, storage_transfer_syntaxes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance" / "statement.md"


def test_the_page_is_the_statement() -> None:
    assert PAGE.read_text(encoding="utf-8") == statement(), (
        "put what `isocenter conformance` prints into docs/conformance/statement.md"
    )


def test_the_statement_names_what_is_accepted() -> None:
    said = statement()
    for uid in (
        IMPLEMENTATION_CLASS_UID,
        *(uid for uid, _ in served_sop_classes()),
        *storage_transfer_syntaxes(),
    ):
        assert f"`{uid}`" in said
    assert "`/workitems/{workitem}/state` | ChangeUPSState" in said
