"""The installation's own key: access tokens are signed and second factors encrypted with keys made from it.

Given by setting, or made at the first start in a file that only the server's user may read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from isocenter.kit.errors import InvalidInput, Unavailable

FILE_NAME = "installation.key"
_BYTES = 32
_CHARACTERS_MIN = 32


class InstallationKey:
    def __init__(self, material: str) -> None:
        """Raises InvalidInput for one that could be guessed."""
        if len(material) < _CHARACTERS_MIN:
            raise InvalidInput(
                f"The installation key has fewer than {_CHARACTERS_MIN} characters.",
                code="installation-key-too-short",
                remedy="Make one with 'openssl rand -hex 32'.",
            )
        self._material = material.encode()

    def derived(self, purpose: str) -> bytes:
        """32 bytes for this purpose alone; from them nothing is learned of those for another."""
        return HKDF(SHA256(), _BYTES, salt=None, info=f"isocenter {purpose}".encode()).derive(self._material)

    @classmethod
    def of_folder(cls, folder: Path) -> InstallationKey:
        """The folder's key; made there if there is none. Raises Unavailable."""
        path = folder / FILE_NAME
        try:
            if not path.exists():
                _make(folder, path)
            return cls(path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(
                f"The installation key {path} cannot be read or made ({type(error).__name__}).",
                remedy="Make the folder writable and the file readable for the server's user.",
            ) from error


def _make(folder: Path, path: Path) -> None:
    """Whole or not at all; of two that start at once both get the first one's."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=folder)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
    folder_descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_descriptor)
    finally:
        os.close(folder_descriptor)
