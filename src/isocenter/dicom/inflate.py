"""Inflating a deflated data set (PS3.5 A.5) no further than needed and no larger than allowed."""

from __future__ import annotations

import zlib

from isocenter.dicom.encoding import Buffer
from isocenter.dicom.scan_limits import DEFLATE_BOMB, MALFORMED, TRUNCATED, ScanError, ScanLimits

_CHUNK_BYTES = 1 << 16


class Inflater:
    """``content`` holds what came out so far; ``finished`` once nothing more will."""

    def __init__(self, data: Buffer, start: int, limits: ScanLimits) -> None:
        self.content = bytearray()
        self.finished = False
        self._data = data
        self._start = start
        self._fed = start
        self._produced_bytes = 0
        self._limits = limits
        # PS3.5 A.5 wants raw deflate (RFC 1951); some writers put a zlib header (RFC 1950) before it.
        with_header = data[start : start + 2] in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS)
        self._pending: bytes = b""

    @property
    def complete(self) -> bool:
        """Whether the stream came to its proper end."""
        return self._zlib.eof

    def grow(self, size: int) -> None:
        """Inflate until ``content`` has ``size`` bytes or the stream ends."""
        limit = self._limits.inflated_bytes_max
        if size > limit:
            raise ScanError(DEFLATE_BOMB, f"The header inflates to more than {limit} bytes", offset=self._fed)
        while len(self.content) < size and not self.finished:
            self.content += self._next()

    def skip_to(self, size: int) -> bool:
        """Inflate, keeping nothing, until ``size`` bytes came out in all; whether there were as many."""
        while self._produced_bytes < size and not self.finished:
            self._next()
        return self._produced_bytes >= size

    def _next(self) -> bytes:
        if not self._pending:
            self._pending = bytes(self._data[self._fed : self._fed + _CHUNK_BYTES])
            self._fed += len(self._pending)
        try:
            produced = self._zlib.decompress(self._pending, _CHUNK_BYTES)
        except zlib.error:
            raise ScanError(MALFORMED, "The deflated data set is damaged", offset=self._fed) from None
        at_end_of_input = not self._pending
        self._pending = self._zlib.unconsumed_tail
        self._produced_bytes += len(produced)
        self.finished = self._zlib.eof or (at_end_of_input and not produced)
        self._check_ratio()
        return produced

    def _check_ratio(self) -> None:
        limits = self._limits
        consumed = self._fed - len(self._pending) - self._start
        if (
            self._produced_bytes > limits.inflate_ratio_from_bytes
            and self._produced_bytes > limits.inflate_ratio_max * consumed
        ):
            what = f"The data set inflates to more than {limits.inflate_ratio_max} times its size"
            raise ScanError(DEFLATE_BOMB, what, offset=self._fed)


def inflate(data: Buffer, start: int, limits: ScanLimits) -> bytes:
    """The whole deflated data set at ``start``; ``deflate-bomb`` when larger than the limits allow."""
    inflater = Inflater(data, start, limits)
    limit = limits.inflated_bytes_max
    inflater.grow(limit)
    if not inflater.finished and inflater.skip_to(limit + 1):
        raise ScanError(DEFLATE_BOMB, f"The data set inflates to more than {limit} bytes", offset=start)
    if not inflater.complete:
        raise ScanError(TRUNCATED, "The deflated data set ends early", offset=len(data))
    return bytes(inflater.content)
