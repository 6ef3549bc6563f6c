"""A test run that is interrupted, terminated or killed leaves no server behind, and no files for long."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from services.processes import FOLDER_PREFIX, make_session_folder

TESTS = Path(__file__).parents[1]

_INNER = """
import sys

def test_waits(postgres, start_storescp):
    receiver = start_storescp()
    print("pids", postgres._process.pid, receiver._process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_servers_end_with_the_session(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "test_inner.py").write_text(_INNER)
    command = [sys.executable, "-m", "pytest", "-s", "-q", "-p", "conftest", "-p", "no:cacheprovider"]
    command += ["-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        text=True,
        # A shell's background job begins with SIGINT ignored, and so would this one's.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as inner:
        seen = []
        for line in inner.stdout:
            seen.append(line)
            if line.startswith("pids"):
                break
        assert seen[-1].startswith("pids"), "".join(seen)
        watched = [os.pidfd_open(int(word)) for word in seen[-1].split()[1:]]
        inner.send_signal(end)
        try:
            for descriptor in watched:
                assert select.select([descriptor], [], [], 20)[0], "a server has outlived its session"
        finally:
            for descriptor in watched:
                os.close(descriptor)
        inner.communicate(timeout=30)
    left = f"{FOLDER_PREFIX}{inner.pid}-*"
    if end is signal.SIGKILL:  # nobody could clean up; the next session does
        make_session_folder().rmdir()
    assert not list(Path(tempfile.gettempdir()).glob(left))
