"""The ``isocenter`` command beside an archive that the test has open."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path


class Cli:
    """``of``: the words that every command begins with."""

    def __init__(self, url: str, folder: Path, *of: str) -> None:
        self._folder, self._of = folder, of
        self._environ = {
            "PATH": os.environ["PATH"],
            "COLUMNS": "200",
            "ISOCENTER_DATA_DIR": str(folder),
            "ISOCENTER_DATABASE_URL": url,
        }

    async def __call__(self, *words: str | bytes | int | Path, status: int = 0) -> str:
        """What the command printed, both streams."""
        given = [word if isinstance(word, bytes) else str(word) for word in words]

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "isocenter", *self._of, *given],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )

        done = await asyncio.to_thread(run)
        assert done.returncode == status, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout
