"""What is said of certificates: by the command, by the doctor, in the log; and when files are read anew."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs
from typer.testing import CliRunner

from isocenter.cli import tls
from isocenter.cli.doctor.certificates import certificates
from isocenter.cli.doctor.findings import Verdict
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Conflict, InvalidInput
from isocenter.platform.settings import Settings
from isocenter.platform.tls import TlsEndpoint, TlsFiles, https_profile
from isocenter.platform.tls.certificates import problems_of, read_chain
from isocenter.platform.tls.self_signed import make_self_signed
from services.certificates import NOW, certificate, put_in_place


def test_a_certificate_for_a_trial(tmp_path: Path) -> None:
    command = ["self-signed", "archive.example", "192.0.2.7", "--days", "10", "--data-dir", str(tmp_path)]
    made = CliRunner().invoke(tls.app, command)
    assert made.exit_code == 0, made.output
    folder = tmp_path / "tls"
    assert stat.S_IMODE((folder / "isocenter.key").stat().st_mode) == 0o600
    assert f'http_tls_key = "{folder / "isocenter.key"}"' in made.output
    assert f'dicom_tls_cert = "{folder / "isocenter.crt"}"' in made.output
    shown = CliRunner().invoke(
        tls.app,
        ["show", str(folder / "isocenter.crt"), "--key", str(folder / "isocenter.key"), "--json"],
    )
    (one,) = orjson.loads(shown.output)
    assert one["chain"][0]["names"] == ["archive.example", "192.0.2.7"]
    assert one["chain"][0]["key"] == "ECDSA secp256r1"
    assert len(one["problems"]) == 1 and "expires on" in one["problems"][0]
    assert shown.exit_code == 1
    again = CliRunner().invoke(tls.app, command)
    assert isinstance(again.exception, Conflict)
    replaced = CliRunner().invoke(tls.app, [*command, "--replace", "--days", "90"])
    assert replaced.exit_code == 0
    words = CliRunner().invoke(tls.app, ["show", str(folder / "isocenter.crt")])
    assert words.exit_code == 0 and "Nothing is wrong with it" in words.output, words.output


@pytest.mark.parametrize("name", ["", "a b", "x\nSet-Cookie: y", "../etc", "a" * 300, "-x", "<script>"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_self_signed(tmp_path, [name], NOW, days=1)
    assert refused.value.code == "invalid-host"
    assert not list(tmp_path.iterdir())


def doctors(files: TlsFiles) -> list[str]:
    settings = Settings(dicom_tls_cert=files.certificate, dicom_tls_key=files.key)
    return [one.says for one in certificates(settings) if one.verdict is Verdict.BAD]


def test_the_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    good, other = certificate(tmp_path, "good"), certificate(tmp_path, "other")
    assert doctors(good) == []
    assert "does not belong" in doctors(TlsFiles(good.certificate, other.key))[0]
    assert "in 29 days" in doctors(certificate(tmp_path, "soon", days=30))[0]
    past = make_self_signed(tmp_path / "past", ["x.example"], NOW - timedelta(days=9), days=3)
    assert "expired on" in doctors(past)[0]
    future = make_self_signed(tmp_path / "future", ["x.example"], NOW + timedelta(days=2), days=90)
    assert "is valid from" in doctors(future)[0]
    chain = tmp_path / "chain.pem"
    chain.write_bytes(good.certificate.read_bytes() + other.certificate.read_bytes())
    assert "was not issued by" in doctors(TlsFiles(chain, good.key))[0]
    assert "cannot be read" in doctors(TlsFiles(tmp_path / "gone", good.key))[0]
    assert "holds no PEM certificate" in doctors(TlsFiles(good.key, good.key))[0]
    assert "holds no PEM key" in doctors(TlsFiles(good.certificate, good.certificate))[0]


def test_a_key_with_a_passphrase_is_refused_in_words(tmp_path: Path) -> None:
    files = certificate(tmp_path, "locked")
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "has a passphrase" in problems_of(files, NOW)[0]
    with pytest.raises(InvalidInput, match="has a passphrase"):
        https_profile("1.3").loaded(files)


def test_files_are_read_anew_only_when_they_changed(tmp_path: Path) -> None:
    files, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    endpoint = TlsEndpoint("HTTP", files, https_profile("1.3"), ManualClock(NOW))
    assert not endpoint.reload_if_changed()
    put_in_place(second, files)
    with capture_logs() as logs:
        assert endpoint.reload_if_changed()
        assert not endpoint.reload_if_changed()
        files.certificate.write_text("broken")
        assert not endpoint.reload_if_changed()
        assert not endpoint.reload_if_changed(), "said once for a change, not every minute"
    assert [one["event"] for one in logs if one["log_level"] == "error"] == [
        "The new certificate cannot be used; the old one stays"
    ]


def test_the_log_says_once_a_day_that_a_certificate_expires(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    with capture_logs() as logs:
        endpoint = TlsEndpoint("HTTP", certificate(tmp_path, "soon", days=5), https_profile("1.3"), clock)
        for _ in range(3):
            endpoint.reload_if_changed()
        clock.advance(86400)
        endpoint.reload_if_changed()
    assert len([one for one in logs if "expires on" in one.get("problem", "")]) == 2


def test_a_chain_is_read_whole(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(
        b"".join(certificate(tmp_path, name).certificate.read_bytes() for name in ("one", "two"))
    )
    assert len(read_chain(both)) == 2
