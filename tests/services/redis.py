"""Redis as Debian ships it, in a folder of its own, on a free port; it can go away and come back."""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path

from services.packages import find_program
from services.processes import Process, ServiceFailed, free_ports

START_ATTEMPTS_MAX = 3


class RedisServer:
    """``options`` are lines of redis.conf as arguments: ``"--requirepass", "secret"``."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._program = find_program("redis-server", "redis-server")
        self._folder = folder
        self._options = options
        folder.mkdir()
        for attempt in range(START_ATTEMPTS_MAX):
            (self.port,) = free_ports(1)
            try:
                self.start()
                break
            except ServiceFailed:  # somebody else may have taken the port meanwhile
                if attempt + 1 == START_ATTEMPTS_MAX:
                    raise

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Also after :meth:`stop`: on the same port, empty."""
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder]
        volatile = ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        self._process = Process([*command, *volatile, *self._options], log=self._folder / "redis.log")
        try:
            self._process.wait_until(self._answers, "answer to PING")
        except ServiceFailed:
            self._process.stop()
            raise

    def stop(self) -> None:
        self._process.stop()

    def hang(self) -> None:
        """It takes connections and says nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str) -> str:
        """One command; the first line of the answer, as it comes (RESP)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.makefile("rb").readline().decode().strip()

    def _answers(self) -> bool:
        """Also where it asks for a password first."""
        with contextlib.suppress(OSError):
            return self.ask("PING").startswith(("+PONG", "-NOAUTH"))
        return False
