"""Logs: one line an event, in text or JSON, without patient data, whoever logs."""

import io
import logging
import sys
from collections.abc import Iterator

import orjson
import pytest
import structlog

from isocenter.platform.telemetry import configure_logging, get_logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield io.StringIO()
    logging.captureWarnings(False)
    structlog.reset_defaults()
    root.handlers[:], root.level = before[0], before[1]


def test_text_is_one_line_that_says_what_happened(stream: io.StringIO) -> None:
    log = get_logger("isocenter.doors.scp.server")
    configure_logging("text", stream=stream)
    log.info("Association accepted", calling_ae_title="CT1", contexts=12)
    (line,) = stream.getvalue().splitlines()
    assert "[info     ] Association accepted" in line
    assert "calling_ae_title=CT1" in line and "component=doors.scp.server" in line


def test_json_has_stable_names(stream: io.StringIO) -> None:
    configure_logging("json", stream=stream)
    get_logger("isocenter.app").warning("Disk nearly full", free_bytes=12)
    entry = orjson.loads(stream.getvalue())
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"level": "warning", "message": "Disk nearly full", "component": "app", "free_bytes": 12}


def test_the_standard_library_comes_out_the_same_way(stream: io.StringIO) -> None:
    configure_logging("json", stream=stream)
    logging.getLogger("uvicorn.error").warning("Invalid %s", "request")
    entry = orjson.loads(stream.getvalue())
    assert (entry["message"], entry["component"], entry["level"]) == (
        "Invalid request",
        "uvicorn.error",
        "warning",
    )


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_patient_data_is_withheld_under_its_names(stream: io.StringIO, log_format: str) -> None:
    configure_logging(log_format, stream=stream)  # type: ignore[arg-type]
    get_logger("isocenter.x").info(
        "Stored", PatientName="DOE^JANE", patient_id="4711", query="PatientName=DOE*"
    )
    written = stream.getvalue()
    assert "Stored" in written and written.count("[withheld]") == 3
    assert "DOE" not in written and "4711" not in written


def test_access_logs_stay_off(stream: io.StringIO) -> None:
    configure_logging("text", "debug", stream=stream)
    logging.getLogger("uvicorn.access").error("GET /dicom-web/studies?PatientName=DOE")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_tracebacks_hold_no_local_variables(stream: io.StringIO, log_format: str) -> None:
    configure_logging(log_format, stream=stream)  # type: ignore[arg-type]
    name_of_a_patient = "DOE^JANE"
    try:
        raise ValueError(len(name_of_a_patient))
    except ValueError:
        get_logger("isocenter.x").exception("Broken")
        logging.getLogger("other").exception("Broken too")
    written = stream.getvalue()
    assert written.count("ValueError: 8") == 2
    assert "DOE^JANE'" not in written


def test_a_peer_cannot_forge_lines_or_speak_to_the_terminal(stream: io.StringIO) -> None:
    configure_logging("text", stream=stream)
    get_logger("isocenter.x").info("Refused\nsecond line", calling_ae_title="A\x1b[2J\r\nforged")
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert "\x1b" not in written and "\r" not in written


def test_the_level_holds_for_everybody(stream: io.StringIO) -> None:
    configure_logging("text", "error", stream=stream)
    get_logger("isocenter.x").warning("quiet")
    logging.getLogger("y").warning("quiet")
    assert stream.getvalue() == ""


def test_stderr_unless_told_otherwise(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging()
    get_logger("isocenter.x").info("Hello")
    assert "Hello" in stream.getvalue()


def test_a_reader_can_tell_where_each_value_ends(stream: io.StringIO) -> None:
    configure_logging("text", stream=stream)
    get_logger("isocenter.x").info("Refused", reason="not here", title="CT1", odd="a=b", nothing=None)
    assert "Refused component=x nothing=None odd='a=b' reason='not here' title=CT1" in stream.getvalue()
