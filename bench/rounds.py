"""Alternating rounds: ours, the peer, ours, the peer …; ratios pair by pair, the median counts."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass
class Sample:
    """One round of one side: operations per second, the server's CPU per operation, anything else."""

    per_s: float
    cpu_ms: float | None = None
    more: dict[str, float] = field(default_factory=dict)


def alternate(
    case: str,
    ours: Callable[[int], Sample],
    peer: Callable[[int], Sample],
    *,
    rounds: int,
    peer_name: str = "Orthanc",
) -> dict[str, object]:
    """Run both sides ``rounds`` times in turns; print and return medians and the median ratio."""
    pairs = [(ours(number), peer(number)) for number in range(rounds)]
    ratios = [mine.per_s / theirs.per_s for mine, theirs in pairs]
    print(f"{case}")
    for number, ((mine, theirs), ratio) in enumerate(zip(pairs, ratios, strict=True)):
        print(f"  round {number + 1}: Isocenter {_told(mine)}   {peer_name} {_told(theirs)}   {ratio:.2f}x")
    mine, theirs = (median([pair[side] for pair in pairs]) for side in (0, 1))
    ratio = statistics.median(ratios)
    print(f"  median:  Isocenter {_told(mine)}   {peer_name} {_told(theirs)}   {ratio:.2f}x", flush=True)
    return {
        "case": case,
        "isocenter": asdict(mine),
        "peer": {"name": peer_name, **asdict(theirs)},
        "ratio": ratio,
        "rounds": [[asdict(mine), asdict(theirs)] for mine, theirs in pairs],
    }


def median(samples: list[Sample]) -> Sample:
    def of(values: list[float]) -> float:
        return statistics.median(values)

    cpu = [sample.cpu_ms for sample in samples if sample.cpu_ms is not None]
    names = samples[0].more
    return Sample(
        of([sample.per_s for sample in samples]),
        of(cpu) if cpu else None,
        {name: of([sample.more[name] for sample in samples]) for name in names},
    )


def write_results(name: str, cases: list[dict[str, object]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = {"platform": platform.platform(), "python": platform.python_version()}
    path.write_text(json.dumps({"bench": name, "machine": machine, "cases": cases}, indent=2) + "\n")
    print(f"  written to {path.relative_to(RESULTS.parent.parent)}", flush=True)


def _told(sample: Sample) -> str:
    parts = [f"{sample.per_s:8.1f}/s"]
    if sample.cpu_ms is not None:
        parts.append(f"{sample.cpu_ms:.2f} ms CPU")
    parts += [f"{name} {value:.2f}" for name, value in sample.more.items()]
    return ", ".join(parts)
