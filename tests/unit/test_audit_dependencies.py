"""The audit of dependencies: it finds, it passes, and without a network it says so and fails nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "audit-dependencies"


def audited_by(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """The script with a program of ours in place of pip-audit."""
    auditor = folder / "auditor.py"
    auditor.write_text(f"import sys\n{program}")
    return subprocess.run(
        [sys.executable, SCRIPT, sys.executable, str(auditor)], capture_output=True, text=True, check=False
    )


def test_a_known_weakness_fails(tmp_path: Path) -> None:
    done = audited_by(tmp_path, "print('Found 1 known vulnerability'); sys.exit(1)")
    assert (done.returncode, done.stdout) == (1, "Found 1 known vulnerability\n")


def test_the_lock_is_what_is_looked_at(tmp_path: Path) -> None:
    done = audited_by(tmp_path, "print(sys.argv[1:])")
    assert done.returncode == 0
    assert "requirements.lock" in done.stdout and "--require-hashes" in done.stdout


@pytest.mark.parametrize(
    "program",
    [
        "sys.exit('requests.exceptions.ConnectionError: Max retries exceeded')",
        "sys.exit('pip_audit._service.interface.ServiceError: down')",
    ],
)
def test_without_a_network_it_says_so(tmp_path: Path, program: str) -> None:
    done = audited_by(tmp_path, program)
    assert done.returncode == 0
    assert done.stdout.startswith("The dependencies were not audited: ")


def test_without_the_program_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, str(tmp_path / "gone")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "cannot be started" in done.stdout
