"""C-STORE with encryption at rest on, against the same server with it off; one and four associations."""

from __future__ import annotations

import base64
import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.cstore import OBJECTS, make_rounds, send
from bench.memory_in_hand import memory_in_hand
from bench.rounds import alternate, write_results
from bench.servers import IsocenterServer


def run(rounds: int) -> None:
    cases = []
    with on_and_off() as (encrypted, plain, folder):
        for associations in (1, 4):
            folders = make_rounds(folder, rounds, associations, OBJECTS)
            cases.append(
                alternate(
                    f"C-STORE encrypted against plain, {associations} association(s)",
                    lambda number, sets=folders: send(encrypted, sets[number], nagle=False),
                    lambda number, sets=folders: send(plain, sets[number], nagle=False),
                    rounds=rounds,
                    peer_name="off",
                )
            )
    write_results("encryption", cases)


@contextlib.contextmanager
def on_and_off() -> Iterator[tuple[IsocenterServer, IsocenterServer, Path]]:
    with tempfile.TemporaryDirectory(prefix="isocenter-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(memory_in_hand(folder))
        key_file = folder / "master.key"
        key_file.touch(0o600)
        key_file.write_bytes(base64.b64encode(secrets.token_bytes(32)))
        flags = ("--encryption", "on", "--encryption-master-key-file", str(key_file))
        encrypted = IsocenterServer(folder / "encrypted", *flags)
        stack.callback(encrypted.stop)
        plain = IsocenterServer(folder / "plain")
        stack.callback(plain.stop)
        yield encrypted, plain, folder
