"""Are the two ports free, and if not, who has them?"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from isocenter.cli.doctor.findings import Finding, bad, good
from isocenter.platform.settings import Settings

_LISTENING = "0A"


def ports(settings: Settings) -> Iterator[Finding]:
    for name, port in (("http_port", settings.http_port), ("dicom_port", settings.dicom_port)):
        yield _port(name, settings.bind, port)


def _port(name: str, host: str, port: int) -> Finding:
    title = f"{'HTTP' if name == 'http_port' else 'DICOM'} port"
    if port == 0:
        return good(title, "Any free port will do.")
    try:
        _try_to_listen(host, port)
    except OSError as error:
        return _refused(title, name, host, port, error)
    return good(title, f"{host}:{port} is free.")


def _try_to_listen(host: str, port: int) -> None:
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections of the last run that linger in TIME_WAIT do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)


def _refused(title: str, name: str, host: str, port: int, error: OSError) -> Finding:
    flag = "--" + name.replace("_", "-")
    if error.errno == errno.EADDRINUSE:
        owner = _listener(port)
        if owner and "isocenter" in owner[1] and "serve" in owner[1]:
            return good(title, f"{host}:{port} is in use by Isocenter itself (process {owner[0]}).")
        by = f"process {owner[0]}: {owner[1]}" if owner else "a process that this user may not look at"
        return bad(
            title,
            f"{host}:{port} is taken by {by}.",
            f"Stop that process, or take another port: {flag} {port + 1}",
        )
    if error.errno == errno.EACCES:
        return bad(
            title,
            f"This user may not listen on port {port} (below 1024).",
            f"Take a port above 1023 with {flag}, or grant CAP_NET_BIND_SERVICE.",
        )
    return bad(
        title,
        f"Cannot listen on {host}:{port} ({error.strerror or error}).",
        "Set --bind to an address of this machine: 127.0.0.1 for itself only, 0.0.0.0 for all its networks.",
    )


def _listener(port: int) -> tuple[int, str] | None:
    """Process id and command line of whoever listens on the port, as far as /proc lets this user see."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(_target(link) in inodes for link in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return int(process.name), command.strip()[:120]
    return None


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
