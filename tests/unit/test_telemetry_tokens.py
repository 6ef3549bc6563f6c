"""Patients in logs are tokens: always the same, telling nothing, and never the ID by accident."""

from __future__ import annotations

import io
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from isocenter.kit.errors import InvalidInput, Unavailable
from isocenter.platform.telemetry import configure_logging, get_logger
from isocenter.platform.telemetry.tokens import (
    LoggedPatient,
    PatientTokens,
    check_token,
    load_or_make_token_key,
)

TOKENS = PatientTokens(bytes(32))


def test_the_same_patient_has_the_same_token_and_others_have_others():
    token = TOKENS.patient_token(1, "HOSPITAL", "4711")
    assert token == TOKENS.patient_token(1, "HOSPITAL", "4711") == check_token(token)
    others = [(2, "HOSPITAL", "4711"), (1, "", "4711"), (1, "HOSPITAL", "4712"), (1, "HOSPITAL4", "711")]
    assert len({token, *(TOKENS.patient_token(*other) for other in others)}) == 5
    assert PatientTokens(b"\1" * 32).patient_token(1, "HOSPITAL", "4711") != token
    assert TOKENS.patient_token(1, "HOSPITAL", "") == ""
    assert TOKENS.patient_token(1, "", "\udcff")  # an ID of undecodable bytes


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_line_holds_the_token(log_format):
    stream = io.StringIO()
    configure_logging(log_format, stream=stream, tokens=TOKENS)
    patient = LoggedPatient(1, "HOSPITAL", "4711")
    get_logger("x").warning("Refused", patient_token=patient, patient_tokens=[patient, patient])
    token = TOKENS.patient_token(1, "HOSPITAL", "4711")
    assert stream.getvalue().count(token) == 3
    assert "4711" not in stream.getvalue()


def test_without_a_key_nothing_of_the_patient_is_shown():
    stream = io.StringIO()
    configure_logging(stream=stream)
    patient = LoggedPatient(1, "HOSPITAL", "4711")
    get_logger("x").warning("Refused", patient_token=patient)
    assert "Refused" in stream.getvalue()
    for text in (stream.getvalue(), str(patient), repr(patient), f"{patient}"):
        assert "4711" not in text
        assert "HOSPITAL" not in text


@pytest.mark.parametrize("text", ["", "pt-", "pt-XYZ", "4711", "pt-" + "0" * 17, "pt-" + "0" * 15 + "\n"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(InvalidInput):
        check_token(text)


def test_the_key_is_made_once_and_kept_from_others(tmp_path: Path):
    file = tmp_path / "secrets" / "log-tokens.key"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(load_or_make_token_key, [file] * 32))
    assert len(keys) == 1
    assert [path.name for path in file.parent.iterdir()] == ["log-tokens.key"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"short")
    with pytest.raises(InvalidInput):
        load_or_make_token_key(file)
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable):
        load_or_make_token_key(tmp_path / "file" / "key")
