"""Content-Disposition (RFC 6266, RFC 8187): the one place where a file name gets into a header."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

_CHARS_MAX = 120
_FALLBACK = "download"
_NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|]+')  # separators, and what Windows refuses
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._ ()-]+")
_ATTR_CHARS = "!#$&+-.^_`|~"  # RFC 8187 §3.2.1, besides letters and digits


def attachment(filename: str) -> str:
    """The header's value for a download under that name, whatever is in the name.

    Line breaks, control and direction characters and separators go; what is not ASCII is in ``filename*``.
    """
    name = _sound(filename)
    plain = _NOT_PLAIN.sub("_", name)
    value = f'attachment; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def _sound(filename: str) -> str:
    # Categories C*: control, format (bidirectional overrides hide an extension), surrogates, unassigned.
    kept = "".join(char for char in filename if unicodedata.category(char)[0] != "C")
    name = _NOT_IN_NAMES.sub("_", kept).strip(" .")
    if len(name) > _CHARS_MAX:
        stem, dot, extension = name.rpartition(".")
        short = dot and len(extension) <= 10
        name = f"{stem[: _CHARS_MAX - len(extension) - 1]}.{extension}" if short else name[:_CHARS_MAX]
    return name or _FALLBACK
