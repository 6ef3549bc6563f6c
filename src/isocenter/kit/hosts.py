"""What the name or address of a host may look like."""

from __future__ import annotations

import re

from isocenter.kit.errors import InvalidInput

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}", re.ASCII)


def checked_host_name(text: str) -> str:
    """Without blanks around it. It need not exist. Raises InvalidInput."""
    host = text.strip()
    if not _HOST.fullmatch(host):
        raise InvalidInput(
            f"{host[:60]!r} is no name or address of a host.",
            code="invalid-host",
            remedy="Write pacs.example, 10.0.0.5 or 2001:db8::7.",
        )
    return host
