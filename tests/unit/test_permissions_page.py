"""docs/permissions.md is the permission table."""

from __future__ import annotations

from pathlib import Path

from isocenter.cli.config import permissions_reference
from isocenter.platform.security import OPERATOR_PERMISSIONS, PERMISSIONS_OF_ROLE

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_of_permissions_is_the_table_of_permissions() -> None:
    page = (REPOSITORY / "docs" / "permissions.md").read_text(encoding="utf-8")
    assert permissions_reference() in page, (
        "put what `isocenter config permissions` prints into docs/permissions.md"
    )


def test_no_role_reaches_beyond_its_organisation() -> None:
    assert all(permissions.isdisjoint(OPERATOR_PERMISSIONS) for permissions in PERMISSIONS_OF_ROLE.values())
