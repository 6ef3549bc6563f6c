"""The data keys at work: made when an organisation stores its first object, opened once, kept in memory."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from isocenter.features.encryption import queries
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Conflict, InternalError, InvalidInput, Unavailable
from isocenter.platform.db import Database, Row
from isocenter.platform.security.keys import MasterKey, WrongMasterKey, wrong_master_key
from isocenter.platform.storage.encrypted import KeyDestroyed
from isocenter.platform.storage.sealing import KEY_BYTES, KEY_ID_BYTES, DataKey

TRUSTED_S = 10.0
"""How long a look at the table counts: what another process rotates or destroys is heeded after that."""

_MOVED_ASIDE = "damaged"


@dataclass(slots=True)
class _Held:
    """One organisation's keys as last seen; None stands for a destroyed one. ``foreign`` are those that a
    newer master key wraps than this process has."""

    seen_at_s: float
    keys: dict[bytes, DataKey | None]
    foreign: set[bytes]
    active: DataKey | None


@dataclass(frozen=True, slots=True)
class KeyStatus:
    organization_id: int
    key_id: str
    state: str
    master_key_id: str
    created_at_us: int


class KeyRing:
    """The :class:`~isocenter.platform.storage.encrypted.DataKeys` of an archive. ``master`` may be missing
    only where every key is destroyed."""

    def __init__(self, database: Database, master: MasterKey | None, clock: Clock) -> None:
        self._database = database
        self._master = master
        self._clock = clock
        self._held: dict[int, _Held] = {}
        self._looking = asyncio.Lock()

    async def check(self) -> int:
        """How many keys there are, destroyed ones included; to be called before anything is written.

        Raises WrongMasterKey where one of them does not open, InvalidInput where there is no master key.
        """
        rows = await self._database.read_across(queries.list_all_keys)
        for row in rows:
            if row["state"] != "destroyed":
                self._opened(row)
        return len(rows)

    async def active(self, object_key: str) -> DataKey:
        organization_id = organization_of(object_key)
        held = await self._look(organization_id)
        if not held.keys and not held.foreign:
            await self._add(organization_id, replace=False)
            held = await self._look(organization_id, anew=True)
        if held.active is None and held.foreign:
            raise _exchanged()
        if held.active is None:
            raise Conflict(
                "The data keys of this organisation were destroyed; nothing can be stored for it.",
                code="data-keys-destroyed",
                remedy="`isocenter encryption rotate-data` makes a new key, where that is wanted.",
            )
        return held.active

    async def find(self, object_key: str, key_id: bytes) -> DataKey:
        organization_id = organization_of(object_key)
        held = await self._look(organization_id)
        if key_id not in held.keys:
            held = await self._look(organization_id, anew=True)  # another process may have made it just now
        if key_id in held.foreign:
            raise _exchanged()
        if key_id not in held.keys:
            raise InternalError(
                f"The object names the data key {key_id.hex()}, which this organisation never had.",
                code="data-key-unknown",
                remedy="The index is older than the objects: restore the newest backup of the database.",
            )
        key = held.keys[key_id]
        if key is None:
            raise KeyDestroyed(
                "The key of this organisation's object was destroyed: nobody can read it any more.",
                remedy="This cannot be undone. Send the object again if it is still wanted.",
            )
        return key

    async def rotate(self, organization_id: int) -> None:
        """New objects get a new key from now on (in other processes: within ten seconds)."""
        await self._add(organization_id, replace=True)
        await self._look(organization_id, anew=True)

    async def destroy(self, organization_id: int) -> int:
        """Make every object of the organisation unreadable for ever; how many keys there were."""
        destroyed = await self._database.write(queries.destroy_keys, organization_id)
        await self._look(organization_id, anew=True)
        return destroyed

    async def rotate_master(self, new: MasterKey) -> int:
        """Wrap every data key with ``new``; how many. No object is touched."""
        rewrapped = await self._database.write_across(
            queries.rewrap_keys, lambda row: _wrapped(new, row, self._opened(row)), new.id
        )
        self._master = new
        return rewrapped

    async def status(self) -> list[KeyStatus]:
        return [
            KeyStatus(
                row["organization_id"],
                row["key_id"],
                row["state"],
                row["master_key_id"],
                row["created_at_us"],
            )
            for row in await self._database.read_across(queries.list_all_keys)
        ]

    async def _look(self, organization_id: int, *, anew: bool = False) -> _Held:
        held = self._held.get(organization_id)
        if held is not None and not anew and self._is_trusted(held):
            return held
        async with self._looking:
            held = self._held.get(organization_id)
            if held is not None and not anew and self._is_trusted(held):
                return held
            now_s = self._clock.monotonic_s()
            rows = await self._database.read(queries.list_keys, organization_id)
            found = _Held(now_s, {}, set(), None)
            for row in rows:
                self._take(row, found, held)
            self._held[organization_id] = found
            return found

    def _take(self, row: Row, found: _Held, before: _Held | None) -> None:
        """A key is opened once: where the master key is exchanged, running servers go on with what they have,
        and those that another process makes meanwhile leave their last active one in use."""
        key_id = bytes.fromhex(row["key_id"])
        if row["state"] == "destroyed":
            found.keys[key_id] = None
            return
        known = before.keys.get(key_id) if before is not None else None
        try:
            key = known or DataKey(key_id, self._opened(row))
        except WrongMasterKey:
            found.foreign.add(key_id)
            if row["state"] == "active" and before is not None and before.active is not None:
                found.active = found.keys.get(before.active.id)
            return
        found.keys[key_id] = key
        if row["state"] == "active":
            found.active = key

    async def _add(self, organization_id: int, *, replace: bool) -> None:
        master = self._need_master()
        key_id, secret = secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(KEY_BYTES)
        added = await self._database.write_across(  # it looks at the keys of all, of whatever master key
            queries.add_key,
            organization_id,
            key_id.hex(),
            master.wrap(secret, _names(organization_id, key_id)),
            master.id,
            self._now_us(),
            replace=replace,
        )
        if not added:
            raise _exchanged()

    def _opened(self, row: Row) -> bytes:
        master = self._need_master()
        if row["master_key_id"] != master.id:
            raise wrong_master_key()
        return master.unwrap(row["wrapped_key"], _names(row["organization_id"], bytes.fromhex(row["key_id"])))

    def _need_master(self) -> MasterKey:
        if self._master is None:
            raise InvalidInput(
                "This archive holds encrypted objects, and no master key is set.",
                code="master-key-not-set",
                remedy="Set encryption_master_key_file, ISOCENTER_ENCRYPTION_MASTER_KEY or "
                "encryption_master_key_command; new objects stay plain where encryption is off.",
            )
        return self._master

    def _is_trusted(self, held: _Held) -> bool:
        return self._clock.monotonic_s() - held.seen_at_s < TRUSTED_S

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


def organization_of(object_key: str) -> int:
    """Whose object it is. Raises InvalidInput: what belongs to nobody has no key to be encrypted with."""
    first, _, rest = object_key.partition("/")
    owner = rest.partition("/")[0] if first == _MOVED_ASIDE else first
    if not owner.isdecimal():
        raise InvalidInput(
            f"the object {object_key[:80]!r} belongs to no organisation", code="object-without-organization"
        )
    return int(owner)


def _exchanged() -> Unavailable:
    return Unavailable(
        "The master key was exchanged while this program ran: it can make no data key and open no newer one.",
        code="master-key-exchanged",
        remedy="Start it again with the new master key.",
    )


def _wrapped(master: MasterKey, row: Row, secret: bytes) -> str:
    return master.wrap(secret, _names(row["organization_id"], bytes.fromhex(row["key_id"])))


def _names(organization_id: int, key_id: bytes) -> bytes:
    return organization_id.to_bytes(8) + key_id
