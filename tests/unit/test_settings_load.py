"""Which layer wins, what each value knows of its origin, and what a mistake is told."""

from pathlib import Path

import pytest

from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import InvalidSettings, Origin, Settings, load_settings
from isocenter.platform.settings.load import unknown_variables


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems_of(
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    config_file: Path | None = None,
) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(flags, environ=environ or {}, config_file=config_file)
    return caught.value.problems


def test_defaults_alone() -> None:
    loaded = load_settings(environ={})
    assert loaded.settings == Settings()
    assert loaded.config_file is None
    assert set(loaded.origins.values()) == {Origin("default")}


def test_flags_beat_environment_beats_file_beats_default() -> None:
    Path("isocenter.toml").write_text('ae_title = "FILE"\nhttp_port = 1\ndicom_port = 2\n')
    loaded = load_settings(
        {"ae_title": "FLAG", "bind": None}, environ={"ISOCENTER_AE_TITLE": "ENV", "ISOCENTER_HTTP_PORT": "3"}
    )
    settings = loaded.settings
    assert (settings.ae_title, settings.http_port, settings.dicom_port, settings.bind) == (
        "FLAG",
        3,
        2,
        "127.0.0.1",
    )
    assert [str(loaded.origins[name]) for name in ("ae_title", "http_port", "dicom_port", "bind")] == [
        "--ae-title",
        "ISOCENTER_HTTP_PORT",
        "isocenter.toml",
        "default",
    ]


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_named_file_is_read_in_place_of_the_one_here(by_variable: bool) -> None:
    Path("isocenter.toml").write_text("http_port = 1\n")
    Path("other.toml").write_text("dicom_port = 2\n")
    loaded = load_settings(
        environ={"ISOCENTER_CONFIG": "other.toml"} if by_variable else {},
        config_file=None if by_variable else Path("other.toml"),
    )
    assert loaded.config_file == Path("other.toml")
    assert (loaded.settings.http_port, loaded.settings.dicom_port) == (8080, 2)


def test_a_named_file_that_is_not_there_is_an_error() -> None:
    assert problems_of(environ={"ISOCENTER_CONFIG": "gone.toml"}) == (
        "gone.toml, named by ISOCENTER_CONFIG, is not there or is no file",
    )


def test_an_empty_variable_is_not_set() -> None:
    assert load_settings(environ={"ISOCENTER_HTTP_PORT": ""}).settings.http_port == 8080


def test_an_unknown_key_is_an_error_that_names_the_nearest() -> None:
    Path("isocenter.toml").write_text('htpp_port = 1\nDICOM-PORT = 2\nzzz = "x"\n')
    assert problems_of() == (
        "isocenter.toml: 'htpp_port' is no setting; did you mean 'http_port'?",
        "isocenter.toml: 'DICOM-PORT' is no setting; did you mean 'dicom_port'?",
        "isocenter.toml: 'zzz' is no setting",
    )


def test_every_mistake_is_told_at_once_with_its_place() -> None:
    Path("isocenter.toml").write_text('conflict_policy = "newest"\n')
    told = problems_of({"memory_budget": "lots"}, {"ISOCENTER_DICOM_PORT": "99999"})
    assert len(told) == 3
    assert "dicom_port (ISOCENTER_DICOM_PORT): should be less than or equal to 65535, not '99999'" in told
    assert "memory_budget (--memory-budget): 'lots' is not a size; write for example 64MB or 2GB" in told
    assert any(
        sentence.startswith("conflict_policy (isocenter.toml): should be 'reject'") for sentence in told
    )


def test_what_is_not_toml_is_told_with_its_line() -> None:
    Path("isocenter.toml").write_text("ae_title = \n")
    (told,) = problems_of()
    assert "is not TOML" in told and "line 1" in told


def test_a_mistake_never_repeats_a_secret() -> None:
    Path("isocenter.toml").write_text("storage_secret_key = 271828182845\n")
    (told,) = problems_of()
    assert "storage_secret_key" in told
    assert "271828182845" not in told


def test_a_mistake_is_one_of_ours() -> None:
    with pytest.raises(InvalidInput) as caught:
        load_settings({"http_port": "x", "dicom_port": "y"}, environ={})
    assert caught.value.code == "invalid-settings"
    assert "http_port" in caught.value.detail and "dicom_port" in caught.value.detail
    assert caught.value.remedy


def test_variables_that_are_nearly_settings_are_mentioned_and_others_left_alone() -> None:
    environ = {
        "ISOCENTER_HTPP_PORT": "1",
        "ISOCENTER_PORT": "tcp://10.0.0.1:80",
        "ISOCENTER_CONFIG": "x",
        "ISOCENTER_SERVICE_HOST": "10.0.0.1",
        "HTTP_PORT": "1",
    }
    assert unknown_variables(environ) == [
        "ISOCENTER_HTPP_PORT is no setting and was not read; did you mean ISOCENTER_HTTP_PORT?"
    ]
