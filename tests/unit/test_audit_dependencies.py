"""The audit of dependencies: it finds, it passes, and without a network it says so and fails nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "audit-dependencies"
SOUND = {"name": "sound", "version": "1", "vulns": []}
WEAK = {"name": "weak", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


def audited_by(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """The script with a program of ours in place of pip-audit."""
    auditor = folder / "auditor.py"
    auditor.write_text(f"import sys\n{program}")
    return subprocess.run(
        [sys.executable, SCRIPT, sys.executable, str(auditor)], capture_output=True, text=True, check=False
    )


def telling(*dependencies: object, code: int = 0) -> str:
    told = json.dumps({"dependencies": dependencies})
    return f"print({told!r}); sys.exit({code})"


def test_a_known_weakness_fails(tmp_path: Path) -> None:
    done = audited_by(tmp_path, telling(SOUND, WEAK, code=1))
    assert done.returncode == 1
    assert "weak 2: PYSEC-1, mended in 2.1" in done.stdout
    assert "2 dependencies audited, 1 of them weak." in done.stdout


def test_none_is_known(tmp_path: Path) -> None:
    done = audited_by(tmp_path, telling(SOUND, UNKNOWN))
    assert done.returncode == 0
    assert done.stdout == "Not audited: unknown\n1 dependencies audited, 0 of them weak.\n"


def test_the_lock_is_what_is_looked_at(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    done = audited_by(tmp_path, f"open({str(asked)!r}, 'w').write(str(sys.argv[1:]))\n{telling(SOUND)}")
    assert done.returncode == 0
    assert "requirements.lock" in asked.read_text() and "--require-hashes" in asked.read_text()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("sys.exit('requests.exceptions.ConnectionError: Max retries exceeded')", "Max retries exceeded"),
        (telling(UNKNOWN, UNKNOWN), "knows nothing of weaknesses"),
    ],
)
def test_without_a_network_it_says_so(tmp_path: Path, program: str, why: str) -> None:
    done = audited_by(tmp_path, program)
    assert done.returncode == 0
    assert done.stdout.startswith("The dependencies were not audited: ") and why in done.stdout


def test_without_the_program_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, str(tmp_path / "gone")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "cannot be started" in done.stdout
