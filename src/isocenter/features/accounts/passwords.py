"""Passwords: how strong they have to be, and their hashes (argon2id), made and compared in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from isocenter.kit.errors import Busy, InvalidInput

T = TypeVar("T")

CHARACTERS_MIN = 12
CHARACTERS_MAX = 256
_SCORE_MIN = 3
_JUDGED_CHARACTERS = 72  # zxcvbn's time grows with the square of the length
_THREADS = 2  # each takes 64 MiB while it works
_WAITING_MAX = 64

_NOBODYS = "0qLn+Z5wj+OpxHNOj068QA$w1FcVBjdc5c+wA6hcB/b+Czo2rK+7nT2XVHPyvqDDMg"
"""Salt and hash of nobody's password."""


class WeakPassword(InvalidInput):
    default_code = "weak-password"


def check_strength(password: str, about: Sequence[str]) -> None:
    """``about`` are words that an attacker would try first: the person's name, the login. Raises
    WeakPassword, with what would make it better."""
    if len(password) < CHARACTERS_MIN:
        raise WeakPassword(
            f"The password has fewer than {CHARACTERS_MIN} characters.",
            remedy="Four or five uncommon words are long and easy to remember.",
        )
    if len(password) > CHARACTERS_MAX:
        raise WeakPassword(
            f"The password has more than {CHARACTERS_MAX} characters.", remedy="Choose a shorter one."
        )
    from zxcvbn import zxcvbn  # type: ignore[import-untyped]  # late: takes a tenth of a second

    judged = zxcvbn(password[:_JUDGED_CHARACTERS], user_inputs=[word for word in about if word])
    if judged["score"] < _SCORE_MIN:
        feedback = judged["feedback"]
        raise WeakPassword(
            f"The password is easy to guess. {feedback['warning']}".strip(),
            remedy=" ".join(feedback["suggestions"]) or "Add another word or two. Uncommon words are better.",
        )


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one hash, as RFC 9106 §4 recommends second: ``time`` rounds over ``memory_kib``, by ``lanes``."""

    time: int = 3
    memory_kib: int = 64 << 10
    lanes: int = 4


class PasswordHashes:
    """``close`` ends the threads."""

    def __init__(self, costs: Costs = Costs()) -> None:
        hasher = Argon2Hasher(costs.time, costs.memory_kib, costs.lanes)
        self._hash = PasswordHash((hasher,))
        # Who has no account has to wait as long as who has one.
        self.nobodys = f"$argon2id$v=19$m={costs.memory_kib},t={costs.time},p={costs.lanes}${_NOBODYS}"
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._waiting = 0

    async def make(self, password: str) -> str:
        """Raises Busy."""
        return await self._in_thread(lambda: self._hash.hash(password))

    async def fits(self, password: str, kept: str) -> bool:
        """Takes as long whether or not there is a hash to compare with (``kept`` empty). Raises Busy."""
        fits = await self._in_thread(lambda: self._compare(password, kept or self.nobodys))
        return fits and bool(kept)

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    def _compare(self, password: str, kept: str) -> bool:
        try:
            return self._hash.verify(password[:CHARACTERS_MAX], kept)
        except UnknownHashError:
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING_MAX:
            raise Busy("Too many passwords are being checked at once.", remedy="Try again in a moment.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
