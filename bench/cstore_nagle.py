"""C-STORE from a sender that leaves Nagle's algorithm on and writes header and body apart, as DCMTK does."""

from __future__ import annotations

from bench import cstore


def run(rounds: int) -> None:
    cstore.run(rounds, nagle=True)
