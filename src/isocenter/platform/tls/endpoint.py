"""One door's TLS, with certificates that can be replaced while it is open."""

from __future__ import annotations

import os
import ssl
from datetime import datetime, timedelta

import structlog

from isocenter.kit.clock import Clock
from isocenter.kit.errors import InvalidInput
from isocenter.platform.tls.profiles import Profile, TlsFiles

log = structlog.get_logger("isocenter.tls")

_SAY_AGAIN = timedelta(days=1)

_Stamp = tuple[tuple[int, int, int], ...]


class TlsEndpoint:
    """Listen with `context`; it hands every handshake to the newest certificate that could be loaded.

    Raises InvalidInput where there is none to begin with.
    """

    def __init__(self, door: str, files: TlsFiles, profile: Profile, clock: Clock) -> None:
        self._door = door
        self._files = files
        self._profile = profile
        self._clock = clock
        self._stamp = self._stamped()
        self._current = profile.loaded(files)
        self._said_at: datetime | None = None
        self.context = profile.loaded(files)
        self.context.sni_callback = self._choose
        self._say_what_is_wrong()

    def reload_if_changed(self) -> bool:
        """Whether new files were taken up; cheap where nothing has changed. Never raises for bad files."""
        if self._stamped() == self._stamp:
            self._say_what_is_wrong()
            return False
        return self.reload()

    def reload(self) -> bool:
        """Take the files as they are now; where they cannot be used, what worked goes on working."""
        stamp = self._stamped()
        self._stamp = stamp  # said once for each change, not every minute
        try:
            self._current = self._profile.loaded(self._files)
        except InvalidInput as error:
            log.error(
                "The new certificate cannot be used; the old one stays",
                door=self._door,
                reason=error.detail,
                remedy=error.remedy,
            )
            return False
        log.info("Certificate loaded", door=self._door)
        self._said_at = None
        self._say_what_is_wrong()
        return True

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """OpenSSL asks at each handshake, with or without a server name in it."""
        connection.context = self._current

    def _stamped(self) -> _Stamp:
        """What changes when a file is written anew or a link is set to another (as Kubernetes does)."""
        paths = (self._files.certificate, self._files.key, self._files.authorities)
        found = []
        for path in paths:
            if path is not None:
                try:
                    status = os.stat(path)  # noqa: PTH116 - follows links, as the reader does
                except OSError:
                    found.append((0, 0, 0))
                else:
                    found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)

    def _say_what_is_wrong(self) -> None:
        now = self._clock.now()
        if self._said_at is not None and now - self._said_at < _SAY_AGAIN:
            return
        self._said_at = now
        # Late: a server without TLS starts half a second sooner without the certificate library.
        from isocenter.platform.tls.certificates import problems_of

        try:
            problems = problems_of(self._files, now)
        except InvalidInput as error:
            problems = [error.detail]
        for problem in problems:
            log.warning("Something is wrong with a certificate", door=self._door, problem=problem)
