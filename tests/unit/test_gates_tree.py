"""The tree rules on small inputs; `make prove-gates` plants whole breaches."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import check_tree  # noqa: E402


def said(rule: object, name: str, text: str) -> list[str]:
    return [what.partition(":")[0] for _, what in rule(check_tree.ROOT / name, text.splitlines())]  # type: ignore[operator]


@pytest.mark.parametrize(
    "line",
    [
        "-i https://pypi.example/simple",
        "--extra-index-url x",
        "--find-links wheels",
        "a @ file:///a.whl",
        "a @ git+x",
    ],
)
def test_a_lock_names_no_place(line: str) -> None:
    assert said(check_tree.broken_locks, "requirements.lock", f"a==1 \\\n{line}\n") == ["lock"]


def test_a_lock_of_names_and_hashes_is_fine() -> None:
    text = "a==1 ; python_version < '3.12' \\\n    --hash=sha256:00ff\n"
    assert said(check_tree.broken_locks, "requirements.lock", text) == []


def test_our_own_locks_are_fine() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert said(check_tree.broken_locks, name, text) == []
        pins = [line for line in text.splitlines() if not line.startswith(" ")]
        assert pins and all("==" in line for line in pins)


def test_homes_are_named_nowhere() -> None:
    assert said(check_tree.named_places, "docs/x.md", "/ho" + "me/anna/x") == ["place"]
    assert said(check_tree.named_places, "docs/x.md", "the /homework of ./home/anna/ and ~/x") == []


@pytest.mark.parametrize(
    ("call", "sick"),
    [
        ("time.sleep(1)", True),
        ("await asyncio.sleep(0.1)", True),
        ("await asyncio.sleep(0)", False),
        ("event.wait()", False),
    ],
)
def test_tests_do_not_sleep(call: str, sick: bool) -> None:
    assert (
        said(check_tree.sleeping_tests, "tests/unit/test_x.py", f"async def f():\n    {call}\n")
        == ["sleep"] * sick
    )
