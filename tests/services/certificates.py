"""Certificates as an operator would make them, and handshakes as a peer would."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from isocenter.platform.tls import TlsFiles
from isocenter.platform.tls.self_signed import make_self_signed

NOW = dt.datetime.now(dt.UTC)


def certificate(folder: Path, name: str, *, days: int = 90) -> TlsFiles:
    """A new certificate and key in their own folder."""
    return make_self_signed(folder / name, [f"{name}.example", "127.0.0.1"], NOW, days=days)


def put_in_place(new: TlsFiles, of: TlsFiles) -> None:
    """As an operator renews: both files written anew under their old names."""
    of.certificate.write_bytes(new.certificate.read_bytes())
    of.key.write_bytes(new.key.read_bytes())


def client_context(
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    *,
    suites: str = "",
    identity: TlsFiles | None = None,
) -> ssl.SSLContext:
    """A client that takes any certificate: what is looked at is which one it gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = minimum, maximum
    if suites:
        context.set_ciphers(suites)
    if identity:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


@contextlib.asynccontextmanager
async def connected(
    port: int, context: ssl.SSLContext, server_name: str | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=server_name
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def shown_certificate(writer: asyncio.StreamWriter) -> bytes:
    """DER of what the server showed."""
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return found


def der_of(files: TlsFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())
