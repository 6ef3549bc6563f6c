"""Rules that hold for the tree as a whole and that no linter knows.

- lock: a lock file names packages and hashes, never an address (docs/decisions/0004)
- place: no file names the place where it was written: this checkout, its parents, somebody's home
- length: a source file that outgrows its ceiling wants to be two
- sleep: a test waits for an event, never for time to pass
- tenant: a statement that touches a table names the organisation, or one tenant reads another's rows
- across: work over all organisations at once is for the few files that are named here
- conflict: a merge that nobody finished
- twins: two test files of one name hide each other from pytest

Prints `path:line: rule: what is wrong` and exits 1 when there is anything to say.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 600

_ADDRESS = re.compile(r"://|^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b| @ (file|git)\b")
_CONFLICT = ("<" * 7 + " ", ">" * 7 + " ")
_LOCKS_WITH_ADDRESSES = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "yarn.lock"}
_HOMES = re.compile(r"(?<![\w.~/-])/(?:(?:home|Users)/[a-z][\w.-]*|root)/")
# After FROM and JOIN a name before a parenthesis is a function that makes rows, such as unnest(…).
_TABLE = re.compile(r"\b(?:(?:INTO|UPDATE)\s+|(?:FROM|JOIN)\s+(?![a-z_]+\s*\())([a-z_]+)", re.IGNORECASE)
# Keyed by object key or organisation themselves, Alembic's own, and PostgreSQL's catalogue.
_TABLES_OF_ALL = {"sweep_mark", "organization", "alembic_version", "pg_roles"}
# Who may leave the organisation out (Database.read_across, write_across), and why.
ACROSS = {
    "src/isocenter/platform/db/open.py": "the schema's revision is nobody's",
    "src/isocenter/platform/db/postgres.py": "a ping reads no table",
    "src/isocenter/platform/db/sqlite.py": "it has no row security, so both forms are one there",
    "src/isocenter/cli/doctor/services.py": "it asks PostgreSQL's catalogue",
    "src/isocenter/features/accounts/authentication.py": "a key says itself whose it is",
    "src/isocenter/features/accounts/joining.py": "a one-time link does too; the first account has none",
    "src/isocenter/features/accounts/login.py": "a login is one in the whole installation",
    "src/isocenter/features/accounts/organizations.py": "operators make and list them",
    "src/isocenter/features/accounts/passkey_checks.py": "a passkey says itself whose it is",
    "src/isocenter/features/accounts/sessions.py": "a refresh token says itself whose it is",
    "src/isocenter/features/audit/reading.py": "the trail of each is delivered and verified in turn",
    "src/isocenter/features/availability/notices.py": "which notices are due, of all organisations",
    "src/isocenter/features/commitment/ledger.py": "which reports are due, of all organisations",
    "src/isocenter/features/encryption/keyring.py": "the master key wraps the data keys of all",
    "src/isocenter/features/archive/holdings.py": "the operator sees how full each one's quota is",
    "src/isocenter/features/archive/rounds.py": "which organisations there are",
    "src/isocenter/features/archive/sweep.py": "old marks of all",
    "src/isocenter/features/ae_titles/service.py": "a title's place must not be another organisation's",
    "src/isocenter/features/ae_titles/destinations.py": "which organisations have somebody told of studies",
    "src/isocenter/features/spanner/query_log.py": "which organisations there are",
    "src/isocenter/features/spanner/called_titles.py": "whose a called title is has to be found out",
    "src/isocenter/features/ae_titles/admission.py": "whose a caller is has to be found out",
    "src/isocenter/cli/opened.py": "a command names its organisation by its short name",
}
# Folders that any machine has, or that an example may well name.
_COMMON = "/ /app /builds /data /etc /home /media /mnt /opt /srv /tmp /usr /usr/src /var /var/lib /var/tmp"
_COMMON_PARENTS = {Path(place) for place in _COMMON.split()}


def tracked_files() -> list[Path]:
    """What git tracks or would track; below a copy without git, everything but hidden folders."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        paths = [
            path for path in ROOT.rglob("*") if ".venv" not in path.parts and "__pycache__" not in path.parts
        ]
    return sorted(path for path in paths if path.is_file())


def places_here() -> list[str]:
    """This checkout and the folders above it, as far as they are peculiar to this machine."""
    peculiar = [place for place in (ROOT, *ROOT.parents) if place not in _COMMON_PARENTS]
    return [f"{place}/" for place in peculiar] + [str(ROOT)]


def broken_locks(path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    if path.name in _LOCKS_WITH_ADDRESSES:
        yield 1, "lock: this kind of lock records registry addresses; use `make lock`"
    if path.suffix == ".lock":
        for number, line in enumerate(lines, 1):
            if _ADDRESS.search(line):
                yield number, f"lock: an address in a lock file: {line.strip()}"
    if path.name == "package-lock.json":
        for number, line in enumerate(lines, 1):
            if '"resolved"' in line:
                yield number, "lock: an address; set omit-lockfile-registry-resolved=true in .npmrc"


def named_places(_path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    here = places_here()
    for number, line in enumerate(lines, 1):
        if _HOMES.search(line) or any(place in line for place in here):
            yield number, "place: names a folder of the machine that it was written on"


def unfinished_merges(_path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        if line.startswith(_CONFLICT):
            yield number, "conflict: a marker of a merge that was not finished"


def overlong(path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    if path.suffix == ".py" and len(lines) > LINES_MAX:
        yield len(lines), f"length: {len(lines)} lines, {LINES_MAX} is the ceiling; split it by use case"


def sleeping_tests(path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    if path.suffix != ".py" or path.relative_to(ROOT).parts[0] != "tests":
        return
    for node in ast.walk(ast.parse("\n".join(lines))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        yields = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        if name == "sleep" and not yields:
            yield node.lineno, "sleep: wait for an event or condition instead (sleep(0) may yield)"


def tenantless(path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    if path.suffix != ".py" or not path.is_relative_to(ROOT / "src"):
        return
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Sql" and node.args:
            pieces = [piece.value for piece in ast.walk(node.args[0]) if isinstance(piece, ast.Constant)]
            text = " ".join(str(piece) for piece in pieces)
            foreign = set(_TABLE.findall(text)) - _TABLES_OF_ALL
            if foreign and "organization_id" not in text:
                yield node.lineno, f"tenant: touches {', '.join(sorted(foreign))} without organization_id"


def across(path: Path, lines: list[str]) -> Iterator[tuple[int, str]]:
    name = path.relative_to(ROOT).as_posix()
    if path.suffix != ".py" or not name.startswith("src/") or name in ACROSS:
        return
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Attribute) and node.attr in {"read_across", "write_across"}:
            yield (
                node.lineno,
                f"across: {node.attr} sees every organisation; use {node.attr.partition('_')[0]} with one, "
                "or name the file and the reason in scripts/check_tree.py",
            )


def twin_tests(paths: list[Path]) -> Iterator[str]:
    seen: dict[str, Path] = {}
    for path in paths:
        if path.name.startswith("test_") and path.suffix == ".py":
            if path.name in seen:
                yield f"{path.relative_to(ROOT)}:1: twins: same name as {seen[path.name].relative_to(ROOT)}"
            seen[path.name] = path


def problems() -> Iterator[str]:
    paths = tracked_files()
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # binary: no rule speaks of it
        for rule in (
            broken_locks,
            named_places,
            unfinished_merges,
            overlong,
            sleeping_tests,
            tenantless,
            across,
        ):
            for number, what in rule(path, lines):
                yield f"{path.relative_to(ROOT)}:{number}: {what}"
    yield from twin_tests(paths)


if __name__ == "__main__":
    found = list(problems())
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.exit(1 if found else 0)
