"""Searches over the same 22,110 objects in both servers: C-FIND and QIDO-RS (filled once, it takes minutes)."""

from __future__ import annotations

from bench import find, qido
from bench.filled import filled_servers
from bench.rounds import write_results


def run(rounds: int) -> None:
    with filled_servers() as (ours, peer):
        write_results("search", [*find.cases(ours, peer, rounds), qido.case(ours, peer, rounds)])
