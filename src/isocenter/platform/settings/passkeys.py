"""Whom passkeys belong to (WebAuthn Level 3 §4, relying party identifier): a domain, and pages under it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def relying_party(
    public_url: str, *, rp_id: str = "", origins: Sequence[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """Domain and origins; both empty where browsers offer no passkeys: an address instead of a name, or pages
    that come in the clear from another machine.

    Raises ValueError for a page that does not lie under the domain.
    """
    home = _local_name(urlsplit(public_url).hostname or "")
    pages = (_origin(public_url, home), *origins)
    rp_id = rp_id or home
    for page in pages:
        if not _lies_under(urlsplit(page).hostname or "", rp_id):
            raise ValueError(
                f"passkeys of {rp_id} cannot be used at {page}: the page's host has to be that domain or one "
                "below it; set passkey_rp_id, passkey_origins and public_url accordingly"
            )
    offered = tuple(page for page in pages if _is_secure(page))
    if _is_address(rp_id) or not offered:
        return "", ()
    return rp_id, offered


def _origin(url: str, host: str) -> str:
    """As browsers write it (RFC 6454 §6.1): without the scheme's own port."""
    parts = urlsplit(url)
    named = f"[{host}]" if ":" in host else host
    port = parts.port
    return f"{parts.scheme}://{named}" + ("" if port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{port}")


def _local_name(host: str) -> str:
    """A domain may not be an address, and this machine has a name."""
    return "localhost" if _is_address(host) and ipaddress.ip_address(host).is_loopback else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _lies_under(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _is_secure(origin: str) -> bool:
    """Secure contexts alone have passkeys (Secure Contexts §3.1)."""
    parts = urlsplit(origin)
    return parts.scheme == "https" or _lies_under(parts.hostname or "", "localhost")
