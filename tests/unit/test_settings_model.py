"""The table of settings: what values mean, which contradict each other, what is never shown."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from isocenter.cli.config import settings_reference
from isocenter.platform.settings import Settings
from isocenter.platform.settings.model import is_secret, is_size, shown

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("written", "count"),
    [("64MB", 64 << 20), ("1.5 GiB", 3 << 29), ("16777216", 1 << 24), (1 << 24, 1 << 24)],
)
def test_sizes_are_bytes(written: object, count: int) -> None:
    settings = Settings.model_validate({"memory_budget": "2GB", "spool_threshold": written})
    assert settings.spool_threshold == count


@pytest.mark.parametrize("written", ["", None])
def test_no_limit_on_objects_is_none(written: object) -> None:
    assert Settings.model_validate({"max_object_size": written}).max_object_size is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"ae_title": ""},
        {"ae_title": "   "},
        {"ae_title": "SEVENTEEN_LETTERS"},
        {"ae_title": "A\\B"},
        {"ae_title": "TAB\t"},
        {"ae_title": "MÜNCHEN"},
        {"bind": ""},
        {"bind": "not an address"},
        {"http_port": -1},
        {"http_port": 104, "dicom_port": 104},
        {"database_url": "mysql://host/name"},
        {"database_migration_url": "postgresql://owner@host/name"},
        {"database_migration_url": "postgresql://owner@host/name", "database_url": "postgresql://host/name"},
        {"database_migration_url": "sqlite:///x.db", "database_url": "postgresql://role@host/name"},
        {"storage_url": "ftp://host"},
        {"public_url": "isocenter.example"},
        {"redis_url": "http://host"},
        {"redis_url": "redis://host:70000"},
        {"public_url": "https://isocenter.example:99999"},
        {"passkey_rp_id": "https://pacs.example"},
        {"passkey_rp_id": "pacs.example"},
        {"public_url": "https://notpacs.example", "passkey_rp_id": "pacs.example"},
        {"public_url": "https://pacs.example", "passkey_origins": "https://pacs.example.evil"},
        {"passkey_origins": "http://localhost:5173/"},
        {"calling_ae_titles": "everybody"},
        {"auth": "off", "bind": "0.0.0.0"},
        {"auth": "off", "bind": "::"},
        {"auth": "off", "bind": "hospital.example"},
        {"auth": "perhaps"},
        {"dimse_max_pdu": 100},
        {"dimse_max_associations": 0},
        {"dimse_artim_timeout_s": 0},
        {"memory_budget": "1MB"},
        {"max_object_size": 0},
        {"dicom_tls_cert": "cert.pem"},
        {"dicom_tls_key": "key.pem"},
        {"dicom_tls_ca": "ca.pem"},
        {"no_such_setting": 1},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


def test_both_ports_may_be_any_free_one() -> None:
    Settings(http_port=0, dicom_port=0)


def test_spaces_around_an_ae_title_mean_nothing() -> None:
    assert Settings(ae_title=" CT 1 ").ae_title == "CT 1"


def test_what_is_empty_is_derived(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url_or_default == f"sqlite:///{tmp_path}/isocenter.db"
    assert settings.storage_url_or_default == f"file://{tmp_path}/objects"
    assert settings.spool_folder == tmp_path / "spool"
    assert settings.public_url_or_default == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("bind", "url"),
    [("0.0.0.0", "http://localhost:8080"), ("::", "http://localhost:8080"), ("::1", "http://[::1]:8080")],
)
def test_the_public_url_is_one_that_can_be_opened(bind: str, url: str) -> None:
    assert Settings(bind=bind).public_url_or_default == url


@pytest.mark.parametrize(
    ("values", "domain", "origins"),
    [
        ({}, "localhost", ["http://localhost:8080"]),
        ({"bind": "::1", "http_port": 80}, "localhost", ["http://localhost"]),
        ({"bind": "0.0.0.0"}, "localhost", ["http://localhost:8080"]),
        ({"http_tls_cert": "c", "http_tls_key": "k", "http_port": 443}, "localhost", ["https://localhost"]),
        ({"bind": "10.0.0.5"}, "", []),
        ({"public_url": "https://10.0.0.5"}, "", []),
        ({"public_url": "http://pacs.example"}, "", []),
        ({"public_url": "https://Pacs.Example:443/here"}, "pacs.example", ["https://pacs.example"]),
        (
            {"public_url": "https://pacs.example:8443", "passkey_origins": "https://a.pacs.example"},
            "pacs.example",
            ["https://pacs.example:8443", "https://a.pacs.example"],
        ),
        (
            {"public_url": "https://a.b.example", "passkey_rp_id": "b.example"},
            "b.example",
            ["https://a.b.example"],
        ),
        (
            {"passkey_origins": "http://localhost:5173"},
            "localhost",
            ["http://localhost:8080", "http://localhost:5173"],
        ),
    ],
)
def test_whom_passkeys_belong_to(values: dict[str, object], domain: str, origins: list[str]) -> None:
    assert Settings.model_validate(values).relying_party == (domain, tuple(origins))


def test_what_is_set_is_not_derived(tmp_path: Path) -> None:
    settings = Settings(
        database_url="postgresql://db/x",
        storage_url="s3://b",
        spool_dir=tmp_path,
        public_url="https://x.example/",
    )
    assert settings.database_url_or_default == "postgresql://db/x"
    assert settings.storage_url_or_default == "s3://b"
    assert settings.spool_folder == tmp_path
    assert settings.public_url_or_default == "https://x.example"


def test_secrets_are_shown_nowhere() -> None:
    settings = Settings.model_validate(
        {
            "storage_access_key": "AKIAXYZ",
            "storage_secret_key": "s3cr3t",
            "database_url": "postgresql://anna:pa55@db.example/isocenter",
            "redis_url": "unix:///run/redis.sock?password=r3d1s&db=1",
            "database_migration_url": "postgresql://owner:0wn3r@db.example/isocenter",
        }
    )
    everything = repr(settings) + str(settings)
    everything += "".join(shown(name, getattr(settings, name)) for name in Settings.model_fields)
    for secret in ("AKIAXYZ", "s3cr3t", "pa55", "0wn3r", "r3d1s"):
        assert secret not in everything
    assert "postgresql://anna:********@db.example/isocenter" in everything


def test_every_setting_says_what_it_does_in_one_line() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert "\n" not in field.description and not field.description.endswith("."), name


def test_times_carry_their_unit_and_sizes_are_read_with_one() -> None:
    for name in Settings.model_fields:
        assert not re.search(r"timeout$|interval$|grace$", name), name
        if re.search(r"_(budget|threshold|size|disk|pdu)$", name):
            assert is_size(name), name
        if re.search(r"secret|password|access_key", name):
            assert is_secret(name), name


def test_the_page_of_settings_is_the_table_of_settings() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert settings_reference() in page, (
        "put what `isocenter config reference` prints into docs/configuration.md"
    )
