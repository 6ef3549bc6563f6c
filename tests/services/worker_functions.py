"""What the tests have workers do: another process can import this module, unlike those of the tests."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import NoReturn

from isocenter.imaging.errors import PixelDataBroken
from isocenter.kit.errors import NotFound


def doubled(value: int) -> int:
    return 2 * value


def echoed(value: bytes) -> bytes:
    return value


def process_id() -> int:
    return os.getpid()


def crashed() -> NoReturn:
    ctypes.string_at(0)
    raise AssertionError


def looped() -> NoReturn:
    while True:
        pass


def hungry() -> int:
    return len(bytearray(1 << 40))


def hungry_by_and_by() -> int:
    kept = []
    while True:
        kept.append(bytearray(64 << 20))


def refused() -> NoReturn:
    raise NotFound("nothing there", code="no-such-instance", remedy="look elsewhere")


def refused_by_imaging() -> NoReturn:
    raise PixelDataBroken("it is a test")


def failed() -> NoReturn:
    raise ZeroDivisionError("on purpose")


def environment() -> list[str]:
    return sorted(os.environ)


def written(path: str) -> int:
    with open(path, "wb") as file:  # noqa: PTH123
        return file.write(b"x")


class Dangerous:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("true",)


def dangerous() -> Dangerous:
    return Dangerous()


def mortal(process: int) -> int:
    """Ends that one process; any other tells its own number."""
    if os.getpid() == process:
        os.kill(process, signal.SIGKILL)
    return os.getpid()


def crashed_by_any(*_: object) -> NoReturn:
    crashed()


def looped_by_any(*_: object) -> NoReturn:
    looped()


def hungry_by_any(*_: object) -> int:
    return hungry()
