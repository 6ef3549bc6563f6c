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


@pytest.mark.parametrize(
    ("statement", "sick"),
    [
        ('Sql("SELECT id FROM patient WHERE id = :id")', True),
        ('Sql("DELETE " "FROM study")', True),
        ('Sql(f"UPDATE study SET {x} WHERE id = 1")', True),
        ('Sql("SELECT id FROM patient WHERE organization_id = :organization_id")', False),
        ('Sql("SELECT pg_advisory_xact_lock(1)", only="postgresql")', False),
        ('Sql("DELETE FROM sweep_mark WHERE marked_at_us < :before_us")', False),
        ('Sql("INSERT INTO patient (name) VALUES (:name)")', True),
        ('Sql("SELECT pg_lock(stripe) FROM unnest(:stripes) AS stripe")', False),
    ],
)
def test_statements_name_the_organisation(statement: str, sick: bool) -> None:
    assert said(check_tree.tenantless, "src/isocenter/features/x/queries.py", statement) == ["tenant"] * sick


@pytest.mark.parametrize(
    ("name", "call", "sick"),
    [
        ("src/isocenter/features/x/service.py", "await self._database.read_across(_find)", True),
        ("src/isocenter/features/x/service.py", "run = database.write_across", True),
        ("src/isocenter/features/x/service.py", "await self._database.read(_find, organization_id)", False),
        (
            "src/isocenter/features/archive/sweep.py",
            "await self._database.write_across(_forget_marks)",
            False,
        ),
        ("tests/integration/test_x.py", "await database.read_across(_find)", False),
    ],
)
def test_work_over_all_organisations_is_for_the_few(name: str, call: str, sick: bool) -> None:
    assert said(check_tree.across, name, f"async def f():\n    {call}\n") == ["across"] * sick


def test_whoever_may_work_over_all_organisations_does() -> None:
    """A list that names files which no longer need it would let the next breach through."""
    for name, reason in check_tree.ACROSS.items():
        assert "_across" in (ROOT / name).read_text(), name
        assert reason
