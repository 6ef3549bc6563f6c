"""What the command line says: help that fits a narrow terminal, summaries that name what was not taken."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from isocenter.cli import COMMANDS
from isocenter.cli.doctor.services import _storage_remedy
from isocenter.cli.importing import _all_taken, _summary
from isocenter.cli.serve import _welcome
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.importing import ImportReport
from isocenter.platform.settings import Settings
from isocenter.platform.settings.load import flag_of
from isocenter.platform.settings.model import is_secret


def help_of(*command: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "isocenter", *command, "--help"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_help_of_serve_names_every_flag_in_full_at_80_columns(tmp_path: Path) -> None:
    words = set(re.findall(r"--[a-z-]+", help_of("serve", folder=tmp_path)))
    assert {flag_of(name) for name in Settings.model_fields if not is_secret(name)} <= words


def test_help_of_other_commands_shows_the_flags_that_matter_to_them(tmp_path: Path) -> None:
    text = help_of("import", folder=tmp_path)
    assert "--data-dir" in text and "--conflict-policy" in text
    assert "--http-port" not in text
    assert "reject|keep-first|replace|keep-both" in text


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_completion_is_offered_once_and_not_by_every_command(command: str, tmp_path: Path) -> None:
    assert "completion" not in help_of(command, folder=tmp_path)


def test_the_summary_says_why_an_object_was_rejected() -> None:
    report = ImportReport(done=3, done_bytes=10)
    report.outcomes.update({OutcomeKind.STORED: 2, OutcomeKind.REJECTED: 1})
    told = _summary(report, "")
    assert "rejected: another object" in told
    assert "conflict_policy" in told


@pytest.mark.parametrize("kind", OutcomeKind)
def test_an_import_succeeded_when_every_object_was_accepted(kind: OutcomeKind) -> None:
    report = ImportReport(done=1)
    assert _all_taken(report)
    report.outcomes[kind] += 1
    assert _all_taken(report) is (kind not in {OutcomeKind.REJECTED, OutcomeKind.QUARANTINED})


def test_the_summary_says_what_is_wrong_in_words() -> None:
    report = ImportReport(done=1, done_bytes=10)
    report.outcomes.update({OutcomeKind.QUARANTINED: 1})
    report.reasons.update({"missing": 1})
    assert "because: missing attributes (1)" in _summary(report, "")


def test_the_summary_counts_one_file_and_none() -> None:
    assert _summary(ImportReport(done=1, done_bytes=6), "").strip().startswith("1 file looked at")
    assert _summary(ImportReport(), "").strip() == "No files there."


def test_the_welcome_warns_when_http_is_open_to_the_network() -> None:
    assert "Caution" not in _welcome(Settings(), 8080, 11112)
    assert "in the clear" in _welcome(Settings(bind="0.0.0.0"), 8080, 11112)
    assert "logins are off" in _welcome(Settings(auth="off"), 8080, 11112)


def test_the_welcome_says_how_the_first_administrator_is_made() -> None:
    told = _welcome(Settings(), 8080, 11112, setup_token="WORD")
    assert "admin create" in told and "WORD" in told
    assert "WORD" not in _welcome(Settings(), 8080, 11112)


def test_the_welcome_names_the_command_that_exists() -> None:
    assert f"{Path(sys.executable).parent}/isocenter import" in _welcome(Settings(), 8080, 11112)


def test_the_welcome_says_where_objects_and_index_are() -> None:
    told = _welcome(
        Settings(storage_url="s3://bucket", database_url="postgresql://u:geheim@h/x"), 8080, 11112
    )
    assert "s3://bucket" in told and "postgresql://" in told
    assert "geheim" not in told


def test_the_doctor_says_that_a_bucket_has_no_keys() -> None:
    assert "STORAGE_ACCESS_KEY" in _storage_remedy(Settings(storage_url="s3://bucket"))
    told = _storage_remedy(Settings(storage_url="s3://bucket", storage_access_key="AKIA"))
    assert "No keys" not in told
