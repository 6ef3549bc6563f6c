"""Which addresses of identity providers are asked.

An administrator of one organisation writes the issuer's URL, and what is found there names more: a server
that asks whatever it is told to is a way into the network it stands in (SSRF, OWASP A10:2021). So:

- https only, with a certificate that the machine trusts for that name. ``http`` only where the issuer is this
  machine itself, which operators alone may set up.
- Names are resolved here, each address is looked at, and the connection goes to that very address: a name
  cannot change its mind in between (DNS rebinding).
- This machine, link-local addresses (metadata services of clouds), multicast and reserved ones are refused.
  Private networks are not: that is where a hospital's provider stands.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from urllib.parse import urlsplit

from isocenter.features.accounts.openid.errors import InvalidProvider, ProviderBroken, ProviderUnreachable

URL_CHARACTERS_MAX = 1000
_ADDRESSES_MAX = 4
_URL = re.compile(r"https?://[!-~]+")  # printable ASCII: no spaces, no line breaks
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def checked_issuer(issuer: str) -> str:
    """Raises InvalidProvider (OpenID Connect Discovery 1.0 §3: https, no query, no fragment)."""
    problem = _problem(issuer, loopback=_is_loopback_url(issuer))
    if problem or "?" in issuer or "#" in issuer:
        raise InvalidProvider(
            f"That is no issuer: {problem or 'it has a query or a fragment'}.",
            remedy="Such as https://login.example/realms/hospital; the discovery document names it.",
        )
    return issuer


def is_loopback(issuer: str) -> bool:
    """Whether the issuer is this machine: for trials and for a provider beside us."""
    return _is_loopback_url(issuer)


def checked_endpoint(url: object, *, loopback: bool, what: str) -> str:
    """An address that discovery names. Raises ProviderBroken."""
    if not isinstance(url, str) or not url:
        raise ProviderBroken(f"its discovery document names no {what}")
    problem = _problem(url, loopback=loopback)
    if problem or "#" in url:
        raise ProviderBroken(f"its {what} cannot be used: {problem or 'it has a fragment'}")
    return url


async def resolved(host: str, port: int, *, loopback: bool) -> list[str]:
    """The addresses to connect to, in order. Raises ProviderUnreachable, ProviderBroken."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ProviderUnreachable(f"the name {host} cannot be resolved") from None
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    allowed = [address for address in addresses if _allowed(address, loopback=loopback)]
    if not allowed:
        raise ProviderBroken(
            f"{host} leads to an address that is not asked",
            "This machine, link-local and reserved addresses are refused: give the provider another name.",
        )
    return allowed[:_ADDRESSES_MAX]


def _problem(url: str, *, loopback: bool) -> str:
    if len(url) > URL_CHARACTERS_MAX or not _URL.fullmatch(url) or "\\" in url:
        return f"it is no https address of at most {URL_CHARACTERS_MAX} characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "it is no address"
    if not parts.hostname or port == 0:
        return "it names no host"
    if parts.username is not None or parts.password is not None:
        return "it holds a user name or password"
    if parts.scheme == "http" and not (loopback and _is_loopback_url(url)):
        return "it has to be https: only a provider on this machine itself may do without"
    return ""


def _is_loopback_url(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _allowed(text: str, *, loopback: bool) -> bool:
    address = _meant(ipaddress.ip_address(text.partition("%")[0]))
    if loopback:
        return address.is_loopback
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    )


def _meant(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 one leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
