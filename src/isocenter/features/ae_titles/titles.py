"""Where an AE title may call from, and the command that lets it in."""

from __future__ import annotations

import ipaddress
import shlex
from functools import lru_cache

from isocenter.kit.errors import InvalidInput

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def checked_host(text: str) -> str:
    """The canonical text of an address or network; empty stands for any. Raises InvalidInput."""
    text = text.strip()
    if not text:
        return ""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidInput(
            f"{text[:60]!r} is no IP address and no network.",
            code="invalid-host",
            remedy="Write 10.0.0.5, 10.0.0.0/24 or 2001:db8::7. Names are not looked up: whoever answers "
            "for a name could let anybody in.",
        ) from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def network_of(host: str) -> Network:
    """The network behind a text of `checked_host` that is not empty."""
    return ipaddress.ip_network(host)


@lru_cache(maxsize=4096)
def address_of(peer_host: str) -> Address | None:
    """A peer's address as the socket tells it; ``::ffff:10.0.0.5`` is 10.0.0.5. None: no address."""
    try:
        address = ipaddress.ip_address(peer_host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=4096)
def is_loopback(peer_host: str) -> bool:
    """Whether the peer is on this machine: 127.0.0.0/8 or ::1."""
    address = address_of(peer_host)
    return address is not None and address.is_loopback


def shown_host(peer_host: str) -> str:
    """A peer's address as people write it."""
    return str(address_of(peer_host) or peer_host)


def admitting_command(
    title: str, peer_host: str, *, organization: str = "", certificate: str | None = None
) -> str:
    """The one command that lets this peer in; ``certificate`` empty: without one."""
    command = f"isocenter ae add {shlex.quote(title)} --host {shown_host(peer_host)}"
    if organization:
        command += f" --org {shlex.quote(organization)}"
    return command if certificate is None else f"{command} --cert {shlex.quote(certificate)}"
