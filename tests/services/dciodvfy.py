"""``dciodvfy`` of David Clunie's dicom3tools: what of an object breaks the standard's IODs (PS3.3)."""

from __future__ import annotations

import re
import subprocess
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from services.packages import find_program

_RLE, _JPEG_2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.9"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_TOLD_AS = {
    _DEFLATED: "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.201": f"{_JPEG_2000}0",
    "1.2.840.10008.1.2.4.202": f"{_JPEG_2000}0",
    "1.2.840.10008.1.2.4.203": f"{_JPEG_2000}1",
}
_KNOWN = re.compile(r"1\.2\.840\.10008\.1\.2(\.[125]|\.4\.(50|51|57|70|80|81|90|91))?")
_NUMBER = re.compile(r"<([+-]?\d+\.?\d*(?:[eE][+-]?\d+)?)>")
_GROUP_LENGTH = slice(140, 144)  # the value of (0002,0000), which always comes first (PS3.10 §7.1)
_SYNTAX = b"\x02\x00\x10\x00UI"


class CannotRead(Exception):
    """It ended before it had judged all, or could not read what is there."""


@dataclass(frozen=True)
class Dciodvfy:
    program: Path
    folder: Path

    def findings(self, file: bytes) -> Counter[str]:
        """Errors and warnings, and how often each. Raises CannotRead.

        Transfer syntaxes that it does not know are told to it as JPEG 2000 or RLE: those too are encapsulated
        (PS3.5 §A.4), and it looks into no frame. Deflated objects are inflated. A number that is written in
        another way is the same.
        """
        path = self.folder / "judged.dcm"
        path.write_bytes(_readable(file))
        done = subprocess.run(
            [self.program, path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
            text=True,
            encoding="latin-1",
        )
        if done.returncode < 0 or "dataset read failed" in done.stdout:
            raise CannotRead(done.stdout)
        lines = (line for line in done.stdout.splitlines() if re.search(r"\b(Error|Warning) - ", line))
        return Counter(_NUMBER.sub(lambda number: f"<{float(number[1])}>", line) for line in lines)


def find_dciodvfy(folder: Path) -> Dciodvfy:
    return Dciodvfy(find_program("dciodvfy", "dicom3tools"), folder)


def _readable(file: bytes) -> bytes:
    at = file.find(_SYNTAX, 0, 1024)
    if at < 0:
        return file
    length = int.from_bytes(file[at + 6 : at + 8], "little")
    syntax = file[at + 8 : at + 8 + length].decode("ascii").rstrip("\0 ")
    if _KNOWN.fullmatch(syntax):
        return file
    told = _TOLD_AS.get(syntax, _RLE).encode()
    told += b"\0" * (len(told) % 2)
    header_size = _GROUP_LENGTH.stop + int.from_bytes(file[_GROUP_LENGTH], "little")
    group_length = header_size - _GROUP_LENGTH.stop + len(told) - length
    rest = file[header_size:]
    if syntax == _DEFLATED:
        rest = zlib.decompressobj(-zlib.MAX_WBITS).decompress(rest)
    return b"".join(
        (
            file[: _GROUP_LENGTH.start],
            group_length.to_bytes(4, "little"),
            file[_GROUP_LENGTH.stop : at + 6],
            len(told).to_bytes(2, "little"),
            told,
            file[at + 8 + length : header_size],
            rest,
        )
    )
