"""What the house promises about itself: targets, locks, licences, pages that cannot rot."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from isocenter import __version__, cli

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = sorted(path.parent for path in (ROOT / "src").rglob("__init__.py"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))

# MPL-2.0 asks for the source of its own files only; orjson and certifi carry it.
PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software|0BSD|Unlicense|Zlib|CC0|MPL|Mozilla|OFL", re.IGNORECASE
)
COPYLEFT = re.compile(r"\b[AL]?GPL|GNU ", re.IGNORECASE)


# FastAPI and pydantic are built on these, pin them, and hand out their types.
INSIDE_OTHERS = {"starlette", "pydantic-core"}


def locked(name: str) -> dict[str, str]:
    pins = re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return dict(pins)


def normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;~! ]", requirement)[0]).lower()


def test_make_help_lists_what_the_readme_promises() -> None:
    listing = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in ("setup", "serve", "test", "check", "prove-gates", "lock", "bench", "clean"):
        assert re.search(rf"^  make {target} ", listing, re.MULTILINE), target


def test_the_locks_cover_what_the_project_asks_for() -> None:
    runtime, development = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {normal(r) for r in PROJECT["dependencies"]} <= set(runtime)
    assert {normal(r) for r in PROJECT["optional-dependencies"]["dev"]} <= set(development)
    assert runtime.items() <= development.items(), "make lock: both locks must agree"


def test_every_pin_has_hashes() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        entries = re.split(r"\n(?=[a-z])", (ROOT / name).read_text())
        assert all("--hash=sha256:" in entry for entry in entries), name


@pytest.mark.parametrize("name", sorted(locked("requirements.lock")))
def test_run_time_licences_are_permissive(name: str) -> None:
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed on this platform")
    licences = [metadata["License-Expression"] or "", (metadata["License"] or "")[:80]]
    licences += [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
    told = " ".join(licences)
    assert PERMISSIVE.search(told), told
    assert not COPYLEFT.search(told), told


def test_one_version() -> None:
    assert PROJECT["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_every_decision_is_in_the_index(page: Path) -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    assert f"({page.name})" in index
    assert page.read_text(encoding="utf-8").startswith(f"# {page.name[:4]} ")


def test_decision_numbers_are_unique() -> None:
    numbers = [page.name[:4] for page in DECISIONS]
    assert len(numbers) == len(set(numbers))


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in cli.COMMANDS:
        assert f"isocenter {command.name}" in readme, command.name


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/configuration.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    place = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", place.read_text(encoding="utf-8")):
        assert (place.parent / target).exists(), target


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT / "src")))
def test_package_pages_are_short(package: Path) -> None:
    page = package / "README.md"
    if page.exists():
        assert len(page.read_text(encoding="utf-8").splitlines()) < 60


def imported_by(folder: str) -> set[str]:
    """Distributions that the modules under a folder import, apart from the standard library and ourselves."""
    own = {path.stem for path in (ROOT / folder).rglob("*.py")} | {path.name for path in ROOT.glob("*/")}
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    foreign = found - set(sys.stdlib_module_names) - own - {"isocenter", "services", "check_tree"}
    providers = importlib.metadata.packages_distributions()
    return {normal(providers.get(name, [name])[0]) for name in foreign}


def test_the_program_imports_only_what_it_declares() -> None:
    declared = {normal(requirement) for requirement in PROJECT["dependencies"]}
    assert imported_by("src") <= declared | INSIDE_OTHERS


@pytest.mark.parametrize("folder", ["tests", "bench", "scripts"])
def test_tests_and_benches_import_only_what_is_declared(folder: str) -> None:
    extras = PROJECT["optional-dependencies"]["dev"]
    declared = {normal(requirement) for requirement in [*PROJECT["dependencies"], *extras]}
    assert imported_by(folder) <= declared | INSIDE_OTHERS
