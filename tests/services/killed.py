"""Archives that are killed: a process forks one child for each order (``faults/archive_zygote.py``)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "faults" / "archive_zygote.py"


@dataclass
class Life:
    """What one child told before it ended."""

    killed: bool
    acknowledged: list[tuple[str, str, str]] = field(default_factory=list)  # kind, SOP Instance UID, SHA-256
    errors: list[str] = field(default_factory=list)


class Zygote:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def live(self, stop: Callable[[Life], bool] = lambda life: False, **order: Any) -> Life:
        """One child's life under ``order``; it is killed once ``stop`` says so."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        life, pid = Life(killed=False), 0
        for line in self._process.stdout:
            word, *rest = line.split()
            if word == "PID":
                pid = int(rest[0])
            elif word == "ERR":
                life.errors.append(rest[0])
            elif word == "ACK":
                life.acknowledged.append((rest[0], rest[1], rest[2]))
            elif word == "EXIT":
                life.killed = os.WIFSIGNALED(int(rest[0])) and os.WTERMSIG(int(rest[0])) == signal.SIGKILL
                return life
            if pid and stop(life):
                os.kill(pid, signal.SIGKILL)
                pid = 0
        raise AssertionError("the zygote died")

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout
        self._process.stdout.close()
