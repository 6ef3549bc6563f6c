"""A gate counts once it has been seen to refuse: plants one breach per gate and watches.

Works on a copy of the tree in a temporary folder. Each breach is planted alone, its gate must fail and its
output must name the breach; then it is taken back. At the end `scripts/check` must pass on the copy, clean.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from check_tree import LINES_MAX, ROOT, tracked_files

BIN = ROOT / ".venv" / "bin"
Command = tuple[str, ...]

TREE: Command = ("python", "scripts/check_tree.py")
RUFF: Command = ("ruff", "check", "--quiet", ".")
FORMAT: Command = ("ruff", "format", "--check", ".")
MYPY: Command = ("mypy",)


@dataclass(frozen=True, slots=True)
class Breach:
    """``text`` goes to the end of ``path``; ``gate`` must then fail and say ``telltale``."""

    name: str
    path: str
    text: str
    gate: Command
    telltale: str


def contract(identifier: str, path: str, text: str, telltale: str = "BROKEN", name: str = "") -> Breach:
    return Breach(
        f"contract {identifier}{name}",
        path,
        text,
        ("lint-imports", "--no-logo", "--contract", identifier),
        telltale,
    )


def breaches(copy: Path) -> list[Breach]:
    src = "src/isocenter"
    return [
        Breach("ruff: unused import", f"{src}/kit/planted.py", "import os\n", RUFF, "F401"),
        Breach("ruff: note to self", f"{src}/kit/planted.py", "# TO" + "DO: later\n", RUFF, "FIX002"),
        Breach("ruff: print", f"{src}/kit/planted.py", 'print("x")\n', RUFF, "T201"),
        Breach("ruff: relative import", f"{src}/dicom/planted.py", "from . import element\n", RUFF, "TID252"),
        Breach("format", f"{src}/kit/planted.py", "x = {  'a':1 }\n", FORMAT, "planted.py"),
        Breach("mypy: untyped", f"{src}/kit/planted.py", "def f(a):\n    return a\n", MYPY, "no-untyped-def"),
        Breach("mypy: wrong type", f"{src}/kit/planted.py", 'x: int = "one"\n', MYPY, "assignment"),
        Breach(
            "mypy: a kind of error without an answer",
            f"{src}/kit/planted.py",
            "from isocenter.kit.errors import Kind\n\n\ndef status(kind: Kind) -> int:\n"
            "    match kind:\n        case Kind.INVALID:\n            return 400\n",
            MYPY,
            "match",
        ),
        contract("floors", f"{src}/kit/planted.py", "import isocenter.platform.db\n"),
        contract("floors", f"{src}/attic/__init__.py", "", "attic", ": a floor not on the list"),
        contract("pure", f"{src}/dimse/protocol/planted.py", "import asyncio\n"),
        contract("pure", f"{src}/dicom/planted.py", "import time\n", name=": clock in dicom"),
        contract(
            "pure", f"{src}/imaging/planted.py", "import multiprocessing\n", name=": process in imaging"
        ),
        contract(
            "floors", f"{src}/imaging/planted.py", "import isocenter.dimse\n", name=": imaging in dimse"
        ),
        contract("dimse", f"{src}/dimse/protocol/planted.py", "import isocenter.dimse.net\n"),
        contract(
            "dimse", f"{src}/dimse/net/planted.py", "import isocenter.dimse.scu\n", name=": network in scu"
        ),
        contract("features", f"{src}/features/ae_titles/planted.py", "import isocenter.features.archive\n"),
        contract("platform", f"{src}/platform/storage/planted.py", "import isocenter.platform.db\n"),
        contract(
            "platform",
            f"{src}/platform/workers/planted.py",
            "import isocenter.platform.storage\n",
            name=": workers",
        ),
        contract("doors", f"{src}/doors/scp/planted.py", "import isocenter.doors.dicomweb\n"),
        contract(
            "doors", f"{src}/doors/http/planted.py", "import isocenter.doors.dicomweb\n", name=": upwards"
        ),
        contract("features-without-http", f"{src}/features/archive/planted.py", "import starlette\n"),
        contract("settings", f"{src}/doors/http/planted.py", "import isocenter.platform.settings\n"),
        contract("prometheus", f"{src}/features/archive/planted.py", "import prometheus_client\n"),
        contract("scp-without-http", f"{src}/doors/scp/planted.py", "import fastapi\n"),
        Breach(
            "lock with an address",
            "requirements.lock",
            "--index-url https://packages.example/simple\n",
            TREE,
            "lock:",
        ),
        Breach("lock with a file address", "requirements.lock", "x @ file:///tmp/x.whl\n", TREE, "lock:"),
        Breach("lock that records addresses", "uv.lock", "version = 1\n", TREE, "lock:"),
        Breach("place: this checkout", "docs/planted.md", f"See {copy}/README.md\n", TREE, "place:"),
        Breach(
            "place: somebody's home", "docs/planted.md", "See /ho" + "me/anna/notes.txt\n", TREE, "place:"
        ),
        Breach("unfinished merge", "docs/planted.md", "<" * 7 + " HEAD\n", TREE, "conflict:"),
        Breach("length", f"{src}/kit/planted.py", "x = 1\n" * (LINES_MAX + 1), TREE, "length:"),
        Breach(
            "sleep in a test", "tests/unit/test_planted.py", "import time\n\ntime.sleep(1)\n", TREE, "sleep:"
        ),
        Breach(
            "a query without its organisation",
            f"{src}/features/archive/planted.py",
            'from isocenter.platform.db import Sql\n\nALL = Sql("SELECT * FROM patient WHERE id = :id")\n',
            TREE,
            "tenant:",
        ),
        Breach(
            "work over all organisations",
            f"{src}/features/archive/planted.py",
            "def every(database, work):\n    return database.read_across(work)\n",
            TREE,
            "across:",
        ),
        Breach("test twins", "tests/faults/test_gates_tree.py", "", TREE, "twins:"),
    ]


def run(command: Command, cwd: Path) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONPATH": str(cwd / "src"), "ISOCENTER_GATE_BIN": str(BIN)}
    program = str(BIN / command[0]) if (BIN / command[0]).exists() else command[0]
    result = subprocess.run(
        [program, *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    return result.returncode, result.stdout + result.stderr


def copied_tree(target: Path) -> None:
    for path in tracked_files():
        place = target / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    run(("git", "init", "--quiet"), target)


def proven(breach: Breach, copy: Path) -> bool:
    """Plant, watch, take back. True when the gate refused this breach and nothing else."""
    place = copy / breach.path
    before = place.read_bytes() if place.exists() else None
    made = [folder for folder in place.parents if not folder.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes((before or b"") + breach.text.encode())
    code, output = run(breach.gate, copy)
    if before is None:
        place.unlink()
    else:
        place.write_bytes(before)
    for folder in made:
        shutil.rmtree(folder)
    # The planted file must be named too: the tree may hold a breach of the same kind already.
    witness = place.parent.name if place.stem == "__init__" else place.stem
    refused = code != 0 and breach.telltale in output and witness in output
    print(f"  {'refused' if refused else 'LET PASS':9} {breach.name}", flush=True)
    if not refused:
        print(f"exit {code}, {breach.telltale!r} expected in:\n{_ending(output)}")
    return refused


def _ending(output: str) -> str:
    return "\n".join(output.splitlines()[-60:])


def main() -> int:
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="isocenter-gates-") as folder:
        copy = Path(folder).resolve() / "tree"
        copied_tree(copy)
        let_pass = [breach.name for breach in breaches(copy) if not proven(breach, copy)]
        code, output = run(("scripts/check",), copy)
        print("The clean copy " + ("passes." if code == 0 else f"is refused:\n{_ending(output)}"))
    print(f"{time.monotonic() - begun_s:.0f} s")
    if let_pass:
        print(f"These gates let their breach pass: {'; '.join(let_pass)}", file=sys.stderr)
    return 1 if let_pass or code else 0


if __name__ == "__main__":
    sys.exit(main())
