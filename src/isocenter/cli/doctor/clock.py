"""Is the clock right? Studies are filed by their own dates, but signed links, certificates and the change
feed go by this machine's."""

from __future__ import annotations

import ctypes
import http.client
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import isocenter
from isocenter.cli.doctor.findings import Finding, bad, good, unknown
from isocenter.cli.doctor.machine import nearest_existing
from isocenter.platform.settings import Settings

OFF_MAX = timedelta(seconds=60)
_SET_IT = "Set the clock and keep it set: timedatectl set-ntp true, or install chrony."
_TIMEX_BYTES, _TIMEX_STATUS_AT, _STA_UNSYNC = 512, 40, 0x40
_HTTP_TIMEOUT_S = 3.0


def clock(settings: Settings) -> Iterator[Finding]:
    """Compares with everything at hand that has a time of its own; stops at the first that disagrees."""
    now = datetime.now(UTC)
    for witness, moment, may_be_earlier in _witnesses(settings):
        off = now - moment
        if off < -OFF_MAX or (off > OFF_MAX and not may_be_earlier):
            direction = "behind" if off < timedelta() else "ahead of"
            yield bad(
                "clock",
                f"The clock says {now:%Y-%m-%d %H:%M:%S} UTC, {_spoken(abs(off))} {direction} {witness}.",
                _SET_IT,
            )
            return
    kept = _kept_by_a_time_service()
    if kept:
        yield good("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, kept by a time service.")
    elif kept is None:
        yield unknown(
            "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC; whether a time service keeps it cannot be told here."
        )
    else:
        yield unknown(
            "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC looks right, but no time service keeps it.", _SET_IT
        )


def _witnesses(settings: Settings) -> Iterator[tuple[str, datetime, bool]]:
    """Name, moment, and whether it may lie in the past without anything being wrong."""
    installed = _changed_at(Path(isocenter.__file__))
    if installed:
        yield "the moment that Isocenter was installed", installed, True
    for name in ("isocenter.db", "isocenter.db-wal"):
        written = _changed_at(settings.data_folder / name)
        if written:
            yield f"the last change of {name}", written, True
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(settings.data_folder)) as probe:
            probe.write(b"x")
            probe.flush()
            moment = datetime.fromtimestamp(os.fstat(probe.fileno()).st_mtime, UTC)
            yield "the file system of the data folder", moment, False
    except OSError:
        pass  # the check of the folders says it
    if settings.storage_endpoint:
        answered = _http_date(settings.storage_endpoint)
        if answered:
            yield "the object store", answered, False


def _changed_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _http_date(url: str) -> datetime | None:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_HTTP_TIMEOUT_S)
    try:
        connection.request("HEAD", "/")
        return parsedate_to_datetime(connection.getresponse().headers["Date"]).astimezone(UTC)
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return None  # whether the store can be reached is another check
    finally:
        connection.close()


def _kept_by_a_time_service() -> bool | None:
    """What the kernel was told by an NTP client, by adjtimex(2) with no modes set: it only reads."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        if ctypes.CDLL(None).adjtimex(timex) < 0:
            return None
    except (OSError, AttributeError):
        return None
    status = int.from_bytes(timex.raw[_TIMEX_STATUS_AT : _TIMEX_STATUS_AT + 4], sys.byteorder)
    return not status & _STA_UNSYNC


def _spoken(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} seconds"
