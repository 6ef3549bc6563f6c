"""A log event as one line of text: ``2026-11-20T08:00:00Z [info     ] Stored  component=app objects=3``."""

from __future__ import annotations

import re
from typing import Any

_PLAIN = re.compile(r"[^\s=\"']+").fullmatch
_FIRST = ("component",)


class LineRenderer:
    """A structlog processor. Without colours: structlog's own, made for terminals, takes ten times as long,
    which a server that logs each association and each request would feel."""

    def __call__(self, _logger: Any, _method: str, event: Any) -> str:
        stamp, level, message = event.pop("timestamp"), event.pop("level"), event.pop("event")
        after = [event.pop(name) for name in ("stack", "exception") if event.get(name)]
        values = [f"{name}={_shown(event.pop(name))}" for name in _FIRST if name in event]
        values += [f"{name}={_shown(value)}" for name, value in sorted(event.items())]
        line = f"{stamp} [{level:9}] {message}" + (f" {' '.join(values)}" if values else "")
        return "\n".join([line, *after])


def _shown(value: object) -> str:
    """Quoted where a reader could not tell where it ends."""
    if isinstance(value, str):
        return value if _PLAIN(value) else repr(value)
    return repr(value)
