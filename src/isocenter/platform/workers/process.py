"""A worker: one call after the other, until the server hangs up. Run as ``python -m … SOCKET MEMORY_BYTES``.

No asyncio, no logging: what a worker imports, each of them keeps in memory.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import resource
import signal
import socket
import sys
from functools import reduce
from typing import Any

from isocenter.kit.errors import IsocenterError
from isocenter.platform.workers.wire import LENGTH, error_as_plain, packed

_PAGES = "/proc/self/statm"


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[3:]:
        importlib.import_module(module)
    _limit(int(sys.argv[2]))
    while (call := _read(connection)) is not None:
        answer = _answer(*call)
        connection.sendall(packed(answer))
        if answer[0] == "memory":
            return  # what is left of it may lie in pieces: the next call gets a fresh process


def _limit(memory_bytes: int) -> None:
    """``memory_bytes`` more than what the program itself takes; no files, no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    own_bytes = 0
    with contextlib.suppress(OSError), open(_PAGES, encoding="ascii") as pages:  # noqa: PTH123 - it is no file
        own_bytes = int(pages.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (own_bytes + memory_bytes, own_bytes + memory_bytes))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _read(connection: socket.socket) -> Any:
    """The next call; None when the server is gone."""
    head = connection.recv(LENGTH.size, socket.MSG_WAITALL)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    content = bytearray(length)
    view = memoryview(content)
    while view:
        count = connection.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return pickle.loads(content)  # noqa: S301 - the server's own words


def _answer(module: str, name: str, args: tuple[Any, ...], limit_s: float) -> tuple[Any, ...]:
    # The alarm's default action ends the process whatever C code it is in, also when the server is gone.
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        function = reduce(getattr, name.split("."), importlib.import_module(module))
        return "done", function(*args)  # type: ignore[operator]
    except MemoryError:
        return ("memory",)
    except IsocenterError as error:
        return "refused", error_as_plain(error)
    except Exception as error:  # a fault of ours in a worker must read like one in the server
        return "failed", type(error).__name__, str(error)[:500], _place(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""


if __name__ == "__main__":
    main()
