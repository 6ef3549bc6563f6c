"""C-FIND and QIDO-RS over the same 23,110 objects in both servers (filled once for all: it takes minutes)."""

from __future__ import annotations

from bench import find, qido
from bench.filled import filled_servers
from bench.rounds import write_results


def run(rounds: int) -> None:
    with filled_servers() as (ours, peer):
        write_results("search", [*find.cases(ours, peer, rounds), *qido.cases(ours, peer, rounds)])
