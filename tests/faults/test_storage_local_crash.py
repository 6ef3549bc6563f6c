"""kill -9 before and after every system call of a put: the object is there whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isocenter.platform.storage.interface import InMemory, PutOutcome
from isocenter.platform.storage.local import LocalStore

DATA = bytes(range(256)) * 2000
KEY = f"default/ab/{hashlib.sha256(DATA).hexdigest()}"

_CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from isocenter.platform.storage.interface import InMemory, OnDisk
from isocenter.platform.storage.local import LocalStore

root, body, call, moment = sys.argv[1:]
if body == "named":
    del os.O_TMPFILE  # a file system that has no files without names
store = LocalStore(Path(root))
data = bytes(range(256)) * 2000
if body == "disk":
    spooled = store.incoming / "spooled"
    spooled.write_bytes(data)
original = getattr(os, call)

def dies(*args, **kwargs):
    if moment == "after":
        original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, call, dies)
key = {key!r}
asyncio.run(store.put(key, OnDisk(spooled) if body == "disk" else InMemory([data])))
""".replace("{key!r}", repr(KEY))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("body", "call"),
    [
        *[("memory", call) for call in ("open", "writev", "fdatasync", "mkdir", "link", "fsync")],
        *[("named", call) for call in ("open", "writev", "fdatasync", "mkdir", "link", "fsync", "unlink")],
        *[("disk", call) for call in ("fdatasync", "mkdir", "link", "fsync", "unlink")],
    ],
)
def test_killed_at(tmp_path: Path, body: str, call: str, moment: str) -> None:
    died = subprocess.run(
        [sys.executable, "-c", _CHILD, tmp_path, body, call, moment],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()

    asyncio.run(check_recovery(tmp_path))


async def check_recovery(root: Path) -> None:
    store = LocalStore(root)
    try:
        await store.recover()
        assert not list(store.incoming.iterdir())
        found = await store.stat(KEY)
        assert found is None or await store.get(KEY) == DATA
        outcome = await store.put(KEY, InMemory([DATA]))
        assert outcome is (PutOutcome.EXISTED if found else PutOutcome.CREATED)
        assert await store.get(KEY) == DATA
        assert [info.key async for info in store.list()] == [KEY]
    finally:
        await store.close()
