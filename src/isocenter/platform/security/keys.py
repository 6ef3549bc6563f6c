"""The master key: what wraps the data keys, and where it comes from. It is never stored beside what it wraps.

AES key wrap (RFC 3394) with 256 bits: deterministic, needs no nonce, and refuses a wrong key or changed bytes
by itself. Wrapped along with a data key are the names that it belongs to, so that a row of the table of keys
cannot be passed off as another organisation's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from isocenter.kit.errors import Conflict, InvalidInput, Unavailable

MASTER_KEY_BYTES = 32
_COMMAND_TIMEOUT_S = 30
_FORM = (
    "It is 32 random bytes in base64, on one line: `isocenter encryption init` or `openssl rand -base64 32`."
)


class WrongMasterKey(InvalidInput):
    default_code = "wrong-master-key"


@dataclass(frozen=True, slots=True)
class MasterKey:
    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Tells master keys apart and gives nothing of them away."""
        return hmac.digest(self.secret, b"isocenter master key", hashlib.sha256)[:8].hex()

    def wrap(self, secret: bytes, names: bytes) -> str:
        """``names`` is a multiple of 8 bytes; the same are needed to unwrap."""
        return aes_key_wrap(self.secret, secret + names).hex()

    def unwrap(self, wrapped: str, names: bytes) -> bytes:
        """Raises WrongMasterKey, also for a wrapped key that was changed or belongs to other names."""
        try:
            opened = aes_key_unwrap(self.secret, bytes.fromhex(wrapped))
        except (InvalidUnwrap, ValueError):
            raise wrong_master_key() from None
        if not opened.endswith(names) or len(opened) <= len(names):
            raise wrong_master_key()
        return opened[: len(opened) - len(names)]


def wrong_master_key() -> WrongMasterKey:
    return WrongMasterKey(
        "This master key does not open the data keys of this archive.",
        remedy="Give the one that the archive was encrypted with; after `isocenter encryption rotate-master` "
        "that is the new one. Without it nobody can read the objects.",
    )


def load_master_key(*, file: Path | None = None, value: str = "", command: str = "") -> MasterKey | None:
    """The master key from the one source that is given; None where there is none.

    Blocking. Raises InvalidInput for what is no key, Unavailable where the source does not answer; neither
    ever quotes what was found.
    """
    if file is not None:
        return _parsed(_read(file), f"The file {file}")
    if value:
        return _parsed(value, "The setting encryption_master_key")
    if command:
        return _parsed(_asked(command), "What encryption_master_key_command wrote")
    return None


def open_to_others(file: Path) -> bool:
    """Whether users other than the owner may read the file."""
    return bool(file.stat().st_mode & 0o077)


def make_master_key_file(file: Path) -> MasterKey:
    """A new key in a new file of mode 600. Raises Conflict when there is one already: it may be in use."""
    key = MasterKey(secrets.token_bytes(MASTER_KEY_BYTES))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, flags, 0o600)
        with os.fdopen(descriptor, "wb") as written:
            written.write(base64.b64encode(key.secret) + b"\n")
            written.flush()
            os.fsync(written.fileno())
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise Conflict(
            f"{file} exists already and is left as it is.",
            code="master-key-file-exists",
            remedy="Name another file for a new key.",
        ) from None
    except OSError as error:
        raise Unavailable(f"{file} cannot be written ({error.strerror}).", code="master-key-file") from error
    return key


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("ascii", "replace")
    except OSError as error:
        raise Unavailable(
            f"The master key's file {file} cannot be read ({error.strerror}).",
            code="master-key-missing",
            remedy="Put the file back, or mend --encryption-master-key-file. "
            "`isocenter encryption init` makes a key for an archive that has none yet.",
        ) from error


def _asked(command: str) -> str:
    try:
        words = shlex.split(command)
        ran = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
            words, capture_output=True, check=False, timeout=_COMMAND_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise _silent(type(error).__name__) from None
    if ran.returncode:
        raise _silent(f"exit code {ran.returncode}")
    return ran.stdout.decode("ascii", "replace")


def _silent(why: str) -> Unavailable:
    return Unavailable(
        f"encryption_master_key_command did not give the master key ({why}).",
        code="master-key-missing",
        remedy="Run it by hand as the user that Isocenter runs as: it has to print the key and exit with 0.",
    )


def _parsed(text: str, what: str) -> MasterKey:
    try:
        secret = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != MASTER_KEY_BYTES:
        raise InvalidInput(f"{what} is no master key.", code="invalid-master-key", remedy=_FORM)
    return MasterKey(secret)
