"""Logs: one line says what happened, to stderr, for people or for machines.

    log = get_logger(__name__)
    log.info("Association accepted", calling_ae_title="CT1", contexts=12)

Whatever logs by the standard library (uvicorn, alembic, SQLAlchemy) comes out the same way. No patient data:
:func:`withhold_patient_data` removes values under names that hold it, and access logs stay off, because a
DICOMweb URL is full of patient names.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog

from isocenter.platform.telemetry.line import LineRenderer
from isocenter.platform.telemetry.privacy import escape_control_characters, withhold_patient_data
from isocenter.platform.telemetry.tokens import PatientTokens

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# What these say per request or per query is noise at best and holds URLs or values at worst.
# asyncpg tells with a traceback what our own errors tell in words: that the database is away.
_QUIETER = {
    "asyncpg": 50,
    "asyncio": 30,
    "httpx2": 30,
    "sqlalchemy": 30,
    "alembic": 30,
    "pydicom": 40,
    "uvicorn": 30,
}
_SILENT = ("uvicorn.access",)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger for a module; cheap, and it may be made before :func:`configure_logging` is called."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(
        component=name.removeprefix("isocenter.")
    )
    return logger


def configure_logging(
    log_format: Literal["text", "json"] = "text",
    log_level: Literal["debug", "info", "warning", "error"] = "info",
    *,
    stream: TextIO | None = None,
    tokens: PatientTokens | None = None,
) -> None:
    """Set up structlog and the standard library's logging for this process; may be called again.

    ``tokens`` turns each :class:`~isocenter.platform.telemetry.tokens.LoggedPatient` into its token.
    Give uvicorn ``log_config=None``, or it lays its own set-up over this one.
    """
    stream = stream or sys.stderr
    level = _LEVELS[log_level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        *([tokens] if tokens is not None else []),
        withhold_patient_data,
        escape_control_characters,
    ]
    structlog.configure(
        processors=[*shared, *_rendering(log_format, stream)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_of_foreign, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(log_format, stream),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    for name, floor in _QUIETER.items():
        logging.getLogger(name).setLevel(max(level, floor))
    for name in _SILENT:
        silent = logging.getLogger(name)
        silent.handlers.clear()
        silent.propagate = False
        silent.disabled = True


def _rendering(log_format: str, stream: TextIO) -> list[structlog.typing.Processor]:
    if log_format == "json":
        return [
            structlog.processors.format_exc_info,  # dict_tracebacks would write local variables out
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    if not stream.isatty():
        return [structlog.processors.format_exc_info, LineRenderer()]
    return [
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(pad_event_to=0, exception_formatter=structlog.dev.plain_traceback),
    ]


def _name_of_foreign(_logger: Any, _method: str, event: Any) -> Mapping[str, Any]:
    record = event.get("_record")
    return {**event, "component": record.name} if record is not None else event
