"""What HTTP requests came to, counted: methods, classes of status, time; never an address."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from isocenter.platform.telemetry.measures import Distribution

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "other"
"""A client may send any word as its method (RFC 9110 §9.1): each would be kept for ever."""
_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


@dataclass(frozen=True, slots=True)
class HttpMeasures:
    """``requests`` by method and class of status (``none``: the connection was lost before there was one),
    ``took_s`` by method, to the end of the answer."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    took_s: dict[str, Distribution] = field(default_factory=dict)

    def answered(self, method: str, status: int, took_s: float) -> None:
        method = method if method in _METHODS else _OTHER
        self.requests[method, _CLASSES[status // 100]] += 1
        distribution = self.took_s.get(method)
        if distribution is None:
            distribution = self.took_s[method] = Distribution()
        distribution.add(took_s)
