"""A ZIP archive (APPNOTE 6.3.10) of files stored as they are, planned before a byte of it is written.

Since nothing is compressed, sizes alone tell where everything lies: the length of the whole is known, and any
part of it can be written again. Everything has its 64-bit form, so that no size makes a difference.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL_EXTRA = struct.Struct("<HHQQ")
_CENTRAL_EXTRA = struct.Struct("<HHQQQ")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_64 = struct.Struct("<4sIQI")
_END = struct.Struct("<4sHHHHIIH")

_VERSION_64 = 45
_MADE_BY_UNIX = 3 << 8 | _VERSION_64
_UTF_8 = 0x0800
_IN_EXTRA = 0xFFFFFFFF
_ZIP64 = 1
_FIRST_DAY = 0x0021  # 1 January 1980: the same files are the same archive, whenever it is fetched
_ATTRIBUTES = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class ZipMember:
    """``name`` with forward slashes, relative; ``size`` in bytes."""

    name: str
    size: int


class Header(NamedTuple):
    """The bytes before member ``number``'s contents: ask for them with its CRC-32."""

    number: int


class Contents(NamedTuple):
    """``length`` bytes of member ``number`` from ``start``."""

    number: int
    start: int
    length: int


class Directory(NamedTuple):
    """The bytes behind all members: ask for them with the CRC-32 of each."""


class Slice(NamedTuple):
    """A step of writing: of ``what``, ``length`` bytes from ``start``."""

    what: Header | Contents | Directory
    start: int
    length: int


class ZipPlan:
    """``size`` is that of the whole archive."""

    def __init__(self, members: Sequence[ZipMember]) -> None:
        self._members = members
        self._names = [member.name.encode() for member in members]
        self._offsets: list[int] = []
        position = 0
        for member, name in zip(members, self._names, strict=True):
            self._offsets.append(position)
            position += _LOCAL.size + len(name) + _LOCAL_EXTRA.size + member.size
        self._directory_at = position
        self._directory_bytes = sum(_CENTRAL.size + len(name) + _CENTRAL_EXTRA.size for name in self._names)
        self.size = position + self._directory_bytes + _END_64.size + _LOCATOR_64.size + _END.size

    def slices(self, start: int, length: int) -> Iterator[Slice]:
        """What ``length`` bytes of the archive from ``start`` are made of, in order."""
        stop = start + length
        for number, (offset, name) in enumerate(zip(self._offsets, self._names, strict=True)):
            size = self._members[number].size
            head = _LOCAL.size + len(name) + _LOCAL_EXTRA.size
            if offset + head + size <= start:
                continue
            if offset >= stop:
                return
            yield from _cut(Header(number), offset, head, start, stop)
            for cut in _cut(Header(number), offset + head, size, start, stop):
                yield Slice(Contents(number, cut.start, cut.length), cut.start, cut.length)
        yield from _cut(Directory(), self._directory_at, self.size - self._directory_at, start, stop)

    def header(self, number: int, crc32: int) -> bytes:
        """Before the member's contents (APPNOTE 4.3.7)."""
        name, size = self._names[number], self._members[number].size
        fixed = (_UTF_8, 0, 0, _FIRST_DAY, crc32, _IN_EXTRA, _IN_EXTRA, len(name), _LOCAL_EXTRA.size)
        return (
            _LOCAL.pack(b"PK\x03\x04", _VERSION_64, *fixed)
            + name
            + _LOCAL_EXTRA.pack(_ZIP64, _LOCAL_EXTRA.size - 4, size, size)
        )

    def directory(self, crc32s: Sequence[int]) -> bytes:
        """Behind all members (APPNOTE 4.3.12 to 4.3.16)."""
        parts = [self._entry(number, crc32) for number, crc32 in enumerate(crc32s)]
        end_64_at = self._directory_at + self._directory_bytes
        count = len(self._members)
        parts.append(
            _END_64.pack(
                b"PK\x06\x06",
                *(_END_64.size - 12, _MADE_BY_UNIX, _VERSION_64, 0, 0, count, count),
                *(self._directory_bytes, self._directory_at),
            )
        )
        parts.append(_LOCATOR_64.pack(b"PK\x06\x07", 0, end_64_at, 1))
        parts.append(_END.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, _IN_EXTRA, _IN_EXTRA, 0))
        return b"".join(parts)

    def _entry(self, number: int, crc32: int) -> bytes:
        name, size = self._names[number], self._members[number].size
        return (
            _CENTRAL.pack(
                b"PK\x01\x02",
                *(_MADE_BY_UNIX, _VERSION_64, _UTF_8, 0, 0, _FIRST_DAY, crc32, _IN_EXTRA, _IN_EXTRA),
                *(len(name), _CENTRAL_EXTRA.size, 0, 0, 0, _ATTRIBUTES, _IN_EXTRA),
            )
            + name
            + _CENTRAL_EXTRA.pack(_ZIP64, _CENTRAL_EXTRA.size - 4, size, size, self._offsets[number])
        )


def _cut(what: Header | Contents | Directory, at: int, size: int, start: int, stop: int) -> Iterator[Slice]:
    begin, end = max(start, at), min(stop, at + size)
    if begin < end:
        yield Slice(what, begin - at, end - begin)
