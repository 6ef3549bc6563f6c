"""Processes that end with the test session, whatever happens to it, and say why when they do not start."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER_PREFIX = "isocenter-tests-"
POLL_S = 0.02
LOG_CHARACTERS_SHOWN = 4000


class ServiceFailed(RuntimeError):
    """A server did not start or did not answer; the message ends with what it last wrote."""


def free_ports(count: int) -> list[int]:
    """Different TCP ports that nobody listens on now. All are held while they are drawn."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def make_session_folder() -> Path:
    """A folder in the system's temporary folder; those of sessions that were killed are removed first."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{FOLDER_PREFIX}*"):
        pid = left.name.removeprefix(FOLDER_PREFIX).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
    folder.chmod(0o711)  # PostgreSQL runs as another user and must be able to pass through
    return folder


def can_connect(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Process:
    """One server, its log, and the promise that it ends.

    ``setpriv --pdeathsig`` lets the kernel kill it when this process dies without a chance to clean up.
    """

    def __init__(
        self,
        args: Sequence[str | Path],
        *,
        log: Path,
        user: str | None = None,
        env: dict[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._log = log
        self._stop_signal = stop_signal
        self.name = Path(args[0]).name
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *as_user(user), "--", *map(str, args)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        """Raises ServiceFailed when the process ends, or the condition does not come true in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            try:
                code = self._popen.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                raise ServiceFailed(f"{self.name}: no {what} after {timeout_s} s\n{self.log_end()}") from None
            raise ServiceFailed(f"{self.name} ended with {code} before {what}\n{self.log_end()}")

    def send_signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Its exit code. Raises ServiceFailed when it goes on for longer."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ServiceFailed(f"{self.name}: still running after {timeout_s} s\n{self.log_end()}") from None

    def log_end(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_CHARACTERS_SHOWN:]

    def stop(self, timeout_s: float = 10) -> None:
        """Asks the process to end, then kills its whole group."""
        if self._popen.poll() is None:
            self._popen.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


def as_user(user: str | None) -> list[str]:
    """What makes ``setpriv`` become ``user``; nothing for nobody in particular, or when we are it."""
    if user is None or pwd.getpwnam(user).pw_uid == os.getuid():
        return []
    return ["--reuid", user, "--regid", user, "--init-groups"]


def run_to_end(args: Sequence[str | Path], *, user: str | None = None, timeout_s: float = 60) -> str:
    """Runs a command that must succeed; its output. Raises ServiceFailed with the output when it does not."""
    done = subprocess.run(
        ["setpriv", "--pdeathsig", "KILL", *as_user(user), "--", *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        timeout=timeout_s,
        check=False,
        text=True,
    )
    if done.returncode:
        raise ServiceFailed(f"{args[0]} ended with {done.returncode}\n{done.stdout[-LOG_CHARACTERS_SHOWN:]}")
    return done.stdout
