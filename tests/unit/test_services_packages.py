"""What is not installed skips a test at home, and fails it where nobody would notice a skip."""

from __future__ import annotations

import pytest

from services.packages import find_program


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("ISOCENTER_REQUIRE_SERVICES", raising=False)


def test_at_home_it_is_skipped_with_the_line_that_installs_it():
    with pytest.raises(pytest.skip.Exception, match=r"apt-get install .* some-package"):
        find_program("no-such-program", "some-package")


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("ISOCENTER_REQUIRE_SERVICES", "1")])
def test_where_services_are_required_it_fails(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(pytest.fail.Exception, match="some-package"):
        find_program("no-such-program", "some-package")
