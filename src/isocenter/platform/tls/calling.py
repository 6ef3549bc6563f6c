"""TLS with systems that we call (PS3.15 B.12): their certificates are checked, and ours is shown."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from isocenter.kit.errors import InvalidInput
from isocenter.platform.tls.profiles import Profile

_Stamp = tuple[tuple[int, int], ...]


class CallingTls:
    """``context`` is the same one until a file changes, so that associations can be told alike.

    ``authorities``: whose certificates are believed; None: those of the system.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        authorities: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self._profile = profile
        self._authorities = authorities
        self._certificate = certificate
        self._key = key
        self._stamp: _Stamp | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Raises InvalidInput, naming what cannot be used."""
        stamp = self._stamped()
        if self._context is None or stamp != self._stamp:
            self._context, self._stamp = self._loaded(), stamp
        return self._context

    def _loaded(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._authorities)
            context.minimum_version = self._profile.minimum
            context.set_ciphers(":".join(self._profile.suites))
            if self._certificate is not None:
                context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"The TLS files for systems that we call cannot be used "
                f"({getattr(error, 'reason', '') or error.strerror or type(error).__name__}).",
                code="tls-files-unusable",
                remedy="They are PEM files; 'isocenter tls show' says what is wrong with the certificate.",
            ) from error
        return context

    def _stamped(self) -> _Stamp:
        found = []
        for path in (self._authorities, self._certificate, self._key):
            if path is not None:
                try:
                    status = os.stat(path)  # noqa: PTH116 - follows links, as the reader does
                except OSError:
                    found.append((0, 0))
                else:
                    found.append((status.st_mtime_ns, status.st_ino))
        return tuple(found)
