"""Calls and answers between the server and a worker: a length of eight bytes, then a pickle.

A worker runs decoders on bytes of strangers. Whoever took one over must not get further, so that answers are
unpickled without any class: plain values only (None, numbers, text, bytes; tuples, lists, dicts of these).
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any, NoReturn

from isocenter.kit.errors import InternalError, IsocenterError

LENGTH = struct.Struct("<Q")


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"a worker answered with {module}.{name}")


def packed(message: object) -> bytes:
    content = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(content)) + content


def plain(content: bytes | bytearray) -> Any:
    """A worker's answer. Raises InternalError for anything but plain values."""
    try:
        return _Plain(io.BytesIO(content)).load()
    except Exception as error:  # an unpickler fed with nonsense may raise anything
        raise InternalError(f"A worker's answer cannot be read ({type(error).__name__}).") from error


def error_as_plain(error: IsocenterError) -> tuple[str, ...]:
    return f"{type(error).__module__}.{type(error).__qualname__}", error.detail, error.code, error.remedy


def error_from_plain(told: tuple[str, ...]) -> IsocenterError:
    """The error that a worker raised, of its own class where this process knows it too."""
    name, detail, code, remedy = told
    classes = [IsocenterError]
    for one in classes:
        classes.extend(one.__subclasses__())
    found = next((one for one in classes if f"{one.__module__}.{one.__qualname__}" == name), InternalError)
    error = found.__new__(found, detail)
    IsocenterError.__init__(error, detail, code=code, remedy=remedy)
    return error
