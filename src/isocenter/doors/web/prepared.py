"""The prepared viewer on disk: which files there are, in which forms. Only names in its manifest open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from isocenter.doors.web.preparing import MANIFEST
from isocenter.doors.web.release import MOUNT, release_folder
from isocenter.kit.errors import NotFound


class ViewerNotInstalled(NotFound):
    default_code = "viewer-not-installed"

    def __init__(self) -> None:
        super().__init__(
            "The viewer OHIF is not installed on this server, or not in the version that it serves.",
            remedy=f"Run 'isocenter viewer install' (or 'make viewer'), then load {MOUNT} again.",
        )


@dataclass(frozen=True, slots=True)
class ViewerFile:
    """``path`` is the form to send, ``coding`` how it is compressed (empty: not at all)."""

    path: Path
    media_type: str
    coding: str
    status: os.stat_result


class PreparedViewer:
    """Read at the first request, so that it may be installed while the server runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = release_folder(folder)
        self._files: Mapping[str, Mapping[str, Any]] = {}

    def find(self, name: str, codings: frozenset[str]) -> ViewerFile | None:
        """The smallest form that the client takes; None where there is no such file. Blocks.

        Raises ViewerNotInstalled, also where somebody removed it since.
        """
        try:
            if not self._files:
                self._files = orjson.loads((self._folder / MANIFEST).read_bytes())["files"]
            entry = self._files.get(name)
            if entry is None:
                return None
            coding = min(
                (one for one in entry["forms"] if not one or one in codings), key=entry["forms"].__getitem__
            )
            path = self._folder / (f"{name}.{coding}" if coding else name)
            return ViewerFile(path, entry["type"], coding, path.stat())
        except (OSError, ValueError, KeyError):
            self._files = {}
            raise ViewerNotInstalled from None
