"""Checks of what Isocenter stands on: the database and the object store."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from isocenter.cli.doctor.findings import Finding, Verdict, bad, good, unknown
from isocenter.cli.doctor.machine import folder_finding, nearest_existing
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import open_database
from isocenter.platform.db.row_security import RowSecurity, find_row_security
from isocenter.platform.settings import Settings
from isocenter.platform.settings.model import shown
from isocenter.platform.storage.interface import StoreHealth

CONNECT_TIMEOUT_S = 3.0
_POSTGRES_PORT = 5432
# SQLite's WAL needs shared memory between processes, which these do not give (sqlite.org/wal.html).
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs"})


def database(settings: Settings) -> Iterator[Finding]:
    url = settings.database_url_or_default
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        kind = _file_system_of(path)
        if kind in _NETWORK_FILE_SYSTEMS:
            yield bad(
                "database",
                f"{path} lies on a network file system ({kind}), where SQLite loses data.",
                "Keep the database on a local disk (--database-url sqlite:///path), or use PostgreSQL.",
            )
            return
        if not path.exists():
            yield good("database", f"{path} is not there yet; the first start makes it.")
            return
    else:
        away = unreachable(urlsplit(url).hostname or "localhost", urlsplit(url).port or _POSTGRES_PORT)
        if away:
            yield bad("database", away, "Start PostgreSQL, or correct --database-url.")
            return
    migrated = _migrations(url)
    yield migrated
    if migrated.verdict is Verdict.GOOD and not url.startswith("sqlite:///"):
        yield _row_security(url)


def _row_security(url: str) -> Finding:
    async def ask() -> RowSecurity:
        opened = await open_database(url, migrate=False)
        try:
            return await opened.read_across(find_row_security)
        finally:
            await opened.close()

    name = "organisations"
    try:
        found = asyncio.run(ask())
    except IsocenterError as error:
        return bad(name, error.detail, error.remedy)
    if found.bypasses:
        return bad(
            name,
            f"The database role {found.role} is a superuser or has BYPASSRLS: row-level security does not "
            "hold for it, and a mistake in a statement could show one organisation another's data.",
            "Work under an ordinary role; docs/postgresql.md has the SQL that makes it.",
        )
    if found.unprotected:
        return bad(
            name,
            f"Row-level security is off on {', '.join(found.unprotected)}.",
            "Somebody changed the tables: restore ENABLE and FORCE ROW LEVEL SECURITY on them.",
        )
    return good(name, f"Row-level security keeps the role {found.role} to one organisation at a time.")


def _migrations(url: str) -> Finding:
    from isocenter.platform.db import migrations

    named = shown("database_url", url)
    try:
        state = asyncio.run(migrations.state(url))
    except IsocenterError as error:
        return bad("database", f"{named}: {error.detail}", error.remedy)
    if state.ahead:
        return bad(
            "database",
            f"{named} was written by a newer Isocenter (schema {state.current}).",
            "Run that newer version, or point --database-url at another database.",
        )
    if state.behind:
        return bad(
            "database",
            f"{named} is behind: schema {state.current or 'none'}, this program needs {state.head}.",
            "Make a backup; the next `isocenter serve` brings it up to date.",
        )
    return good("database", f"{named} answers; its schema is current ({state.head}).")


def unreachable(host: str, port: int) -> str:
    """Why nothing answers there, or nothing. Drivers wait a minute for a host that swallows packets."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except socket.gaierror:
        return f"The name {host} cannot be resolved."
    except TimeoutError:
        return f"{host}:{port} did not answer within {CONNECT_TIMEOUT_S:g} seconds."
    except OSError as error:
        return f"Nothing answers at {host}:{port} ({error.strerror})."
    return ""


def _file_system_of(path: Path) -> str:
    """The kind of file system that holds the path; empty where /proc does not tell."""
    place = str(nearest_existing(path.absolute()).resolve())
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    holding = [fields for fields in mounts if Path(place).is_relative_to(fields[1].replace("\\040", " "))]
    return max(holding, key=lambda fields: len(fields[1]))[2] if holding else ""


def storage(settings: Settings) -> Iterator[Finding]:
    url = settings.storage_url_or_default
    named = shown("storage_url", url)
    if url.startswith("memory:"):
        yield unknown(
            "object store", "Objects live in memory and are gone when the server stops.", "Set storage_url."
        )
        return
    folder = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    if folder and not folder.exists():
        yield folder_finding("object store", folder)  # opening the store would make it
        return
    try:
        health = asyncio.run(_health(settings))
    except IsocenterError as error:
        yield bad("object store", f"{named}: {error.detail}", error.remedy)
        return
    if not health.ok:
        yield bad("object store", f"{named} cannot be used: {health.problem}", _storage_remedy(settings))
        return
    yield good("object store", f"{named} can be written to and read from.")


def _storage_remedy(settings: Settings) -> str:
    """Without keys the client asks the machine's own cloud role; its error names that address only."""
    if settings.storage_url.startswith("s3:") and not settings.storage_access_key:
        return (
            "No keys are set, so the machine's own role was asked for: set ISOCENTER_STORAGE_ACCESS_KEY and "
            "ISOCENTER_STORAGE_SECRET_KEY, or give the machine a role; check storage_url and the endpoint."
        )
    return "Check storage_url, storage_endpoint and the keys."


async def _health(settings: Settings) -> StoreHealth:
    from isocenter.platform.storage.open import open_store

    store = open_store(
        settings.storage_url_or_default,
        endpoint=settings.storage_endpoint,
        region=settings.storage_region,
        access_key=settings.storage_access_key,
        secret_key=settings.storage_secret_key.get_secret_value(),
    )
    try:
        return await store.health()
    finally:
        await store.close()
