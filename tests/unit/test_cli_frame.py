"""The frame of the command line: lazy, fast to help, errors as sentences."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

from isocenter import __version__, cli
from isocenter.cli.flags import with_settings
from isocenter.kit.errors import Unavailable
from isocenter.platform.settings import LoadedSettings, Settings
from isocenter.platform.settings.load import flag_of
from isocenter.platform.settings.model import is_secret


def isocenter(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isocenter", *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_command_and_imports_none(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['isocenter', '--help']\n"
        "from isocenter.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith(('isocenter.', 'pydantic', 'rich.'))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *help_lines, imported = result.stdout.splitlines()
    assert imported == str(["isocenter.cli", "isocenter.kit", "isocenter.kit.errors"])
    for command in cli.COMMANDS:
        assert any(line.split() and line.split()[0] == command.name for line in help_lines), command.name


def test_the_table_of_commands_is_true() -> None:
    for command in cli.COMMANDS:
        module = importlib.import_module(command.module)
        assert isinstance(module.app, typer.Typer), command.module
        assert command.says.endswith(".") and len(command.says) < 90


def test_version(tmp_path: Path) -> None:
    assert isocenter("--version", cwd=tmp_path).stdout == f"isocenter {__version__}\n"


def test_a_wrong_command_names_the_nearest(tmp_path: Path) -> None:
    result = isocenter("doctr", cwd=tmp_path)
    assert result.returncode == 2
    assert "Did you mean 'doctor'?" in result.stderr


def test_errors_of_ours_end_as_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: Any) -> None:
        raise Unavailable("The database is gone.", remedy="Start it.")

    monkeypatch.setattr(cli, "application", fail)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    assert capsys.readouterr().err == "isocenter: The database is gone.\nStart it.\n"


def test_every_setting_but_secrets_has_a_flag() -> None:
    seen: list[LoadedSettings] = []

    @with_settings
    def command(loaded: LoadedSettings, twice: bool = False) -> None:
        seen.append(loaded)

    parameters = inspect.signature(command).parameters
    assert set(parameters) == {"twice", "config"} | {
        name for name in Settings.model_fields if not is_secret(name)
    }
    command(http_port="99", twice=True)
    assert seen[0].settings.http_port == 99


@pytest.mark.parametrize("flag", ["--accept-unknown-sop-classes", "--no-accept-unknown-sop-classes"])
def test_a_switch_can_be_turned_on_and_off(tmp_path: Path, flag: str) -> None:
    (tmp_path / "isocenter.toml").write_text(
        f"accept_unknown_sop_classes = {'true' if '--no' in flag else 'false'}\n"
    )
    result = isocenter("config", "show", "--json", flag, cwd=tmp_path)
    shown = orjson.loads(result.stdout)["settings"]["accept_unknown_sop_classes"]
    assert shown == {"value": "--no" not in flag, "source": "flag", "where": "--accept-unknown-sop-classes"}


def test_config_show_tells_where_each_value_came_from(tmp_path: Path) -> None:
    (tmp_path / "isocenter.toml").write_text('storage_secret_key = "s3cr3t"\nmemory_budget = "64MB"\n')
    result = isocenter("config", "show", "--ae-title", "CT1", cwd=tmp_path, ISOCENTER_HTTP_PORT="9000")
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert rows["ae_title"] == ["CT1", "--ae-title"]
    assert rows["http_port"] == ["9000", "ISOCENTER_HTTP_PORT"]
    assert rows["memory_budget"] == ["64.0", "MB", "isocenter.toml"]
    assert rows["storage_secret_key"] == ["********", "isocenter.toml"]
    assert rows["bind"] == ["127.0.0.1", "default"]
    assert set(Settings.model_fields) <= set(rows)
    assert "s3cr3t" not in result.stdout


def test_config_show_json_has_every_setting_and_no_secret(tmp_path: Path) -> None:
    result = isocenter("config", "show", "--json", cwd=tmp_path, ISOCENTER_STORAGE_SECRET_KEY="s3cr3t")
    document = orjson.loads(result.stdout)
    assert document["config_file"] is None
    assert list(document["settings"]) == list(Settings.model_fields)
    assert document["settings"]["memory_budget"] == {"value": 256 << 20, "source": "default", "where": ""}
    assert "s3cr3t" not in result.stdout


def test_config_check_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "isocenter.toml").write_text("htpp_port = 1\n")
    result = isocenter("config", "check", "--dicom-port", "x", cwd=tmp_path)
    assert result.returncode == 1
    assert "did you mean 'http_port'?" in result.stderr
    assert "--dicom-port" in result.stderr
    assert "Traceback" not in result.stderr


def test_config_check_of_what_is_right(tmp_path: Path) -> None:
    result = isocenter("config", "check", cwd=tmp_path, ISOCENTER_HTPP_PORT="1")
    assert result.returncode == 0
    assert "valid" in result.stdout
    assert "did you mean ISOCENTER_HTTP_PORT?" in result.stderr


def test_flags_are_spelled_like_their_settings() -> None:
    assert flag_of("calling_ae_titles") == "--calling-ae-titles"
