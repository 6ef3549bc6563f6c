"""C-FIND and QIDO-RS over the same 22,110 objects in both servers (filled once for all: it takes minutes)."""

from __future__ import annotations

from bench import find, qido
from bench.filled import filled_servers
from bench.rounds import write_results


def run(rounds: int) -> None:
    with filled_servers() as (ours, peer):
        write_results("search", [*find.cases(ours, peer, rounds), qido.case(ours, peer, rounds)])
