"""multipart/related (RFC 2046 §5.1, RFC 2387), written as it leaves; `kit.multipart` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Part:
    """One part to be written: its Content-Type, the length of its content where that is known, and the
    address that it has of its own (Content-Location), where several kinds of things are in one answer."""

    content_type: str
    length: int | None
    location: str = ""


class MultipartWriter:
    """The lines around parts whose contents are streamed.

    The boundary is a digest of ``identity`` (what the parts are): the same answer has the same bytes, so that
    its ETag is a strong one, and no sender can know the boundary of an answer that his own object is part of.
    """

    def __init__(self, identity: Iterator[str], content_type: str) -> None:
        digest = blake2b(digest_size=16)
        for text in identity:
            digest.update(text.encode() + b"\n")
        self.tag = digest.hexdigest()
        self.content_type = f'multipart/related; type="{content_type}"; boundary={self.tag}'

    def before(self, part: Part) -> bytes:
        """What precedes the content of ``part``."""
        length = f"Content-Length: {part.length}\r\n" if part.length is not None else ""
        where = f"Content-Location: {part.location}\r\n" if part.location else ""
        return f"--{self.tag}\r\nContent-Type: {part.content_type}\r\n{length}{where}\r\n".encode()

    @property
    def after(self) -> bytes:
        """What follows the content of every part."""
        return b"\r\n"

    @property
    def end(self) -> bytes:
        return f"--{self.tag}--\r\n".encode()

    def length_of(self, parts: Iterator[Part]) -> int:
        """The whole body's length in bytes; each part's must be known."""
        around = len(self.after)
        return sum(len(self.before(part)) + (part.length or 0) + around for part in parts) + len(self.end)
