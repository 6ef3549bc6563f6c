"""C-GET of studies of 500 slices of 525 KB by DCMTK's getscu, which drops them; one and four at once."""

from __future__ import annotations

from bench.retrieve import retrieve, servers_with_studies
from bench.rounds import alternate, write_results


def run(rounds: int) -> None:
    with servers_with_studies() as (ours, peer, _):
        cases = [
            alternate(
                f"C-GET by getscu, {at_once} at once",
                lambda _, at_once=at_once: retrieve(ours, "getscu", ("--ignore",), at_once),
                lambda _, at_once=at_once: retrieve(peer, "getscu", ("--ignore",), at_once),
                rounds=rounds,
            )
            for at_once in (1, 4)
        ]
    write_results("cget", cases)
