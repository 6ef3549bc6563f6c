"""The bytes of an encrypted object: AES-256-GCM in segments, so that a range needs only its own segments.

::

    header, 64 bytes    magic 8 | version 1 | nonce prefix 7 | segment size 4 | plain size 8
                        | key id 16 | salt 20
    segment, repeated   ciphertext of up to 65,536 bytes | tag 16

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015): a segment's nonce is the prefix, the
segment's number and a mark of the last one; its associated data is the header and the object's key. So a
segment opens in its own place of its own object only: truncated, reordered, swapped between objects or
flipped, it is refused. Each object has a key of its own, derived from the data key with the salt: nonces need
to be unique within one object only, and AES-GCM's limits count per object.

The magic alone would prove nothing, since a DICOM file may begin with any 128 bytes (PS3.10 §7.1): encrypted
objects are told from plain ones by their name (``encrypted.py``). Sizes follow from one another by
arithmetic, so that a listing tells the plain size without opening anything.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from isocenter.kit.errors import InternalError
from isocenter.platform.storage.interface import Buffer

MAGIC = b"\x8bISOENC\n"
VERSION = 1
SEGMENT_BYTES = 64 << 10
TAG_BYTES = 16
SEALED_SEGMENT_BYTES = SEGMENT_BYTES + TAG_BYTES
KEY_BYTES = 32
KEY_ID_BYTES = 16
_HEADER = struct.Struct(">8sB7sIQ16s20s")
HEADER_BYTES = _HEADER.size
_SEGMENTS_MAX = 1 << 32
SIZE_MAX = _SEGMENTS_MAX * SEGMENT_BYTES


class ObjectDamaged(InternalError):
    """The stored bytes are not what was written: changed, cut short, or another object's."""

    default_code = "object-damaged"


def damaged(key: str, what: str) -> ObjectDamaged:
    return ObjectDamaged(
        f"the encrypted object {key} cannot be read: {what}",
        remedy="Run `isocenter storage check --repair`, then send the object again or restore a backup.",
    )


@dataclass(frozen=True, slots=True)
class DataKey:
    """``id`` is 16 bytes and stands in the header of each object that the key encrypts."""

    id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"DataKey({self.id.hex()})"


@dataclass(frozen=True, slots=True)
class Header:
    nonce_prefix: bytes
    size: int
    key_id: bytes
    salt: bytes

    def encoded(self) -> bytes:
        return _HEADER.pack(
            MAGIC, VERSION, self.nonce_prefix, SEGMENT_BYTES, self.size, self.key_id, self.salt
        )


def new_header(key: DataKey, size: int) -> Header:
    return Header(secrets.token_bytes(7), size, key.id, secrets.token_bytes(20))


def read_header(raw: Buffer, key: str) -> Header:
    """Raises ObjectDamaged for what no version of this format begins with."""
    if len(raw) < HEADER_BYTES:
        raise damaged(key, "its header is cut short")
    magic, version, prefix, segment_bytes, size, key_id, salt = _HEADER.unpack_from(raw)
    if magic != MAGIC or version != VERSION or segment_bytes != SEGMENT_BYTES or size > SIZE_MAX:
        raise damaged(key, "its header is none of ours, or of a newer version")
    return Header(prefix, size, key_id, salt)


def segments_of(size: int) -> int:
    """An empty object has one empty segment: its tag proves that nothing was cut off."""
    return max(1, -(-size // SEGMENT_BYTES))


def sealed_size(size: int) -> int:
    return HEADER_BYTES + size + TAG_BYTES * segments_of(size)


def plain_size(sealed: int) -> int:
    """The reverse of :func:`sealed_size`; for a file that was cut short, the bytes that may be left in it."""
    body = max(0, sealed - HEADER_BYTES)
    return max(0, body - TAG_BYTES * -(-body // SEALED_SEGMENT_BYTES))


class Segments:
    """Seals and opens the segments of one object. Blocking: to be used in a thread."""

    def __init__(self, header: Header, secret: bytes, key: str) -> None:
        encoded = header.encoded()
        own = hmac.digest(secret, b"isocenter object 1\0" + header.salt, hashlib.sha256)
        self.header = header
        self._key = key
        self._cipher = AESGCM(own)
        self._associated = encoded + key.encode("ascii")
        self._last = segments_of(header.size) - 1

    def seal(self, number: int, data: Buffer) -> bytes:
        return self._cipher.encrypt(self._nonce(number), data, self._associated)

    def open(self, number: int, sealed: Buffer) -> bytes:
        """Raises ObjectDamaged when these are not the bytes of that very segment."""
        try:
            return self._cipher.decrypt(self._nonce(number), sealed, self._associated)
        except InvalidTag:
            raise damaged(self._key, f"segment {number} is not what was written") from None

    def open_all(self, first: int, sealed: Buffer) -> list[bytes]:
        """The segments from ``first`` on that lie in ``sealed`` one after the other."""
        view = memoryview(sealed)
        pieces = []
        for number, offset in enumerate(range(0, len(view), SEALED_SEGMENT_BYTES), first):
            pieces.append(self.open(number, view[offset : offset + SEALED_SEGMENT_BYTES]))
        return pieces

    def sealed_range(self, first: int, last: int) -> tuple[int, int]:
        """Offset and length of the segments ``first`` to ``last`` in the stored object."""
        start = HEADER_BYTES + first * SEALED_SEGMENT_BYTES
        stop = min(HEADER_BYTES + (last + 1) * SEALED_SEGMENT_BYTES, sealed_size(self.header.size))
        return start, stop - start

    def _nonce(self, number: int) -> bytes:
        return self.header.nonce_prefix + struct.pack(">IB", number, number == self._last)


def seal(segments: Segments, buffers: Iterable[Buffer]) -> Iterator[bytes]:
    """Header and sealed segments of the plain bytes in ``buffers``.

    Only a segment that spans two buffers is copied. Raises ObjectDamaged when the bytes are not as many as
    the header says.
    """
    yield segments.header.encoded()
    number = 0
    carried = bytearray()
    remaining = segments.header.size
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        remaining -= len(view)
        if carried:
            wanted = SEGMENT_BYTES - len(carried)
            carried += view[:wanted]
            view = view[wanted:]
            if len(carried) < SEGMENT_BYTES:
                continue
            yield segments.seal(number, carried)
            number += 1
            carried = bytearray()
        whole = len(view) // SEGMENT_BYTES * SEGMENT_BYTES
        for offset in range(0, whole, SEGMENT_BYTES):
            yield segments.seal(number, view[offset : offset + SEGMENT_BYTES])
            number += 1
        carried += view[whole:]
    if remaining:
        raise damaged("that was to be written", "its bytes changed in number meanwhile")
    if carried or number == 0:
        yield segments.seal(number, carried)
