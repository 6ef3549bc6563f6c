"""Where Debian's servers are, and what happens to a test when they are not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

INSTALL = "run scripts/install-test-services as root, or: sudo apt-get install --no-install-recommends"


def find_program(name: str, package: str, *folders: str) -> Path:
    """The program, looked for in ``folders`` and on the PATH (and where Debian puts daemons)."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        missing(name, package)
    return Path(found)


def find_file(pattern: str, folders: list[str], package: str) -> Path:
    found = [path for folder in folders for path in sorted(Path(folder).glob(pattern))]
    if not found:
        missing(pattern, package)
    return found[0]


def missing(what: str, package: str) -> NoReturn:
    """Skips the test, except in CI: there a test that does not run must not look like one that passed."""
    reason = f"{what} is not installed; {INSTALL} {package}"
    if os.environ.get("CI") or os.environ.get("ISOCENTER_REQUIRE_SERVICES") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
