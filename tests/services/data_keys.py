"""Data keys for a store that is tested without a database."""

from __future__ import annotations

import secrets

from isocenter.kit.errors import InternalError
from isocenter.platform.storage.encrypted import KeyDestroyed
from isocenter.platform.storage.sealing import KEY_BYTES, KEY_ID_BYTES, DataKey


class HeldDataKeys:
    """One active key for every object; ``rotate`` and ``destroy`` as the real ones."""

    def __init__(self) -> None:
        self._held: dict[bytes, DataKey | None] = {}
        self._active = b""
        self.rotate()

    def rotate(self) -> bytes:
        key = DataKey(secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(KEY_BYTES))
        self._held[key.id] = key
        self._active = key.id
        return key.id

    def destroy(self, key_id: bytes) -> None:
        self._held[key_id] = None

    async def active(self, object_key: str) -> DataKey:
        return await self.find(object_key, self._active)

    async def find(self, object_key: str, key_id: bytes) -> DataKey:
        if key_id not in self._held:
            raise InternalError(f"{object_key} names an unknown data key", code="data-key-unknown")
        held = self._held[key_id]
        if held is None:
            raise KeyDestroyed(f"the key of {object_key} was destroyed")
        return held
