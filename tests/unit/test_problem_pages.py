"""Every code that the program can raise has its page, and every page tells of a code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from isocenter.doors.http.problem_pages import pages_folder
from isocenter.doors.http.problems import status_of
from isocenter.kit.errors import InvalidInput

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "isocenter"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs/problems").glob("*.md")}
SECTIONS = ("## What happened", "## Why", "## What to do", "## Example")
TELLING = {"Problem", "ScanError", "_wrong"}
"""Calls whose first argument is a code where it is not given by name."""


def constants() -> dict[str, str]:
    """Names of modules that stand for a text: ``TOO_DEEP = "too-deep"``."""
    found = {}
    for tree in trees():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                for target in node.targets:
                    if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                        found[target.id] = node.value.value
    return found


def trees() -> Iterator[ast.Module]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def code_nodes(tree: ast.Module) -> Iterator[ast.expr]:
    """Wherever the source writes a code down."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (one.value for one in node.keywords if one.arg == "code")
            if node.args and ast.unparse(node.func).rpartition(".")[2] in TELLING:
                yield node.args[0]
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == "default_code":
                    yield node.value
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = zip(target.elts, node.value.elts, strict=True)
                    yield from (value for name, value in pairs if ast.unparse(name) == "code")
        elif isinstance(node, ast.FunctionDef):
            names = node.args.kwonlyargs
            for argument, default in zip(names, node.args.kw_defaults, strict=True):
                if argument.arg == "code" and default is not None:
                    yield default


def codes_of(node: ast.expr, known: dict[str, str]) -> set[str]:
    match node:
        case ast.Constant(value=str(code)) if re.fullmatch(r"[a-z0-9-]+", code):
            return {code}
        case ast.Name(id=name) if name in known:
            return {known[name]}
        case ast.JoinedStr(values=[ast.Constant(value=str(beginning)), *_]):
            found = {page for page in PAGES if page.startswith(beginning)}
            return found or {beginning}
    return set()


def raised() -> set[str]:
    known = constants()
    return {code for tree in trees() for node in code_nodes(tree) for code in codes_of(node, known)}


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    codes = raised()
    assert len(codes) > 90
    assert codes - PAGES.keys() == set(), "write docs/problems/<code>.md for each"
    assert PAGES.keys() - codes == set(), "nothing raises these any more"


@pytest.mark.parametrize("code", sorted(PAGES))
def test_a_page_says_what_why_and_what_to_do(code: str) -> None:
    page = PAGES[code]
    assert page.startswith(f"# {code}\n")
    places = [page.index(section) for section in SECTIONS]
    assert places == sorted(places)
    for section, following in zip(SECTIONS, [*SECTIONS[1:], None], strict=True):
        text = page.split(section)[1]
        assert len((text.split(following)[0] if following else text).strip()) > 10, section
    for example in re.findall(r"```json\n(.*?)```", page, re.DOTALL):
        document = json.loads(example)
        assert document["code"] == code and document["type"] == f"/problems/{code}"
        assert f"HTTP status {document['status']} " in page


@pytest.mark.parametrize(
    "code", ["correction-failed", "url-too-long", "request-timeout", "headers-too-large", "quota-reached"]
)
def test_pages_and_table_agree_about_particular_statuses(code: str) -> None:
    assert f"HTTP status {status_of(InvalidInput('x', code=code))} " in PAGES[code]


def test_pages_are_found_where_the_program_runs_from_its_source() -> None:
    assert (pages_folder() / "internal.md").read_text(encoding="utf-8") == PAGES["internal"]
