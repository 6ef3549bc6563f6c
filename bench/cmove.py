"""C-MOVE of studies of 500 slices of 525 KB to DCMTK's storescp, which drops them; one and four at once."""

from __future__ import annotations

from bench.retrieve import add_destination, retrieve, servers_with_studies
from bench.rounds import alternate, write_results
from services.dcmtk import StoreScp, find_dcmtk

TITLE = "STORESCP"


def run(rounds: int) -> None:
    with servers_with_studies() as (ours, peer, folder):
        there = StoreScp(
            find_dcmtk(), folder / "received", folder / "storescp.log", "--fork", "--ignore", ae_title=TITLE
        )
        try:
            add_destination(ours, TITLE, there.port)
            peer.add_modality("storescp", ae_title=TITLE, port=there.port)
            cases = [
                alternate(
                    f"C-MOVE to storescp, {at_once} at once",
                    lambda _, at_once=at_once: retrieve(ours, "movescu", ("-aem", TITLE), at_once),
                    lambda _, at_once=at_once: retrieve(peer, "movescu", ("-aem", TITLE), at_once),
                    rounds=rounds,
                )
                for at_once in (1, 4)
            ]
        finally:
            there.stop()
    write_results("cmove", cases)
