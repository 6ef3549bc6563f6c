"""What validation refused, and what a person does about it: inspect, correct and accept, discard (A5).

The object itself lies in the store like any other; its row here is what keeps the sweep from it. Accepting
sends it through the door again, so that everything which holds for arriving objects holds for it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Literal

import orjson

from isocenter.dicom.charsets import decoder_for
from isocenter.dicom.dictionary import keyword_of, tag_of, vr_of
from isocenter.dicom.scanner import ScanError, scan
from isocenter.dicom.validation import Strictness
from isocenter.features.archive import queries
from isocenter.features.archive.committer import BatchRefused
from isocenter.features.archive.entry import Outcome, OutcomeKind, Source, Suspect, outcome_of
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.policies import BatchPolicy
from isocenter.features.archive.reading import WANTED
from isocenter.features.archive.usage import Growth, advance
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Conflict, InvalidInput, NotFound, TooLarge
from isocenter.kit.sizes import format_bytes
from isocenter.platform.db import Database, Row, Work

_NUMBERS: dict[str, Callable[[str], int | float]] = {
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), int),
    **dict.fromkeys(("FD", "FL"), float),
}
"""The VRs whose values are not text."""

State = Literal["waiting", "accepted", "discarded"]
_ID_SHOWN = 64
_CORRECTABLE_BYTES_MAX = 1 << 30
"""Correcting rewrites the object in memory; a larger one is corrected outside and sent again."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An entry of the quarantine. ``id`` is random; ``known`` is DICOM JSON of what could be read: patient
    data."""

    id: str
    object_key: str
    size: int
    transfer_syntax_uid: str
    problems: list[dict[str, Any]]
    known: dict[str, Any]
    door: str
    peer: str
    received_at_us: int
    times_seen: int
    state: State
    settled_at_us: int | None
    settled_note: str


class StillRefused(Conflict):
    """An accepted object cannot be filed even so; ``outcome`` holds why."""

    default_code = "still-refused"

    def __init__(self, outcome: Outcome) -> None:
        reasons = " ".join(problem.detail for problem in outcome.problems)
        super().__init__(
            f"The object still cannot be filed. {reasons}",
            remedy=" ".join(dict.fromkeys(problem.remedy for problem in outcome.problems)),
        )
        self.outcome = outcome


class Quarantine:
    def __init__(self, database: Database, ingest: Ingest, clock: Clock) -> None:
        self._database = database
        self._ingest = ingest
        self._clock = clock

    async def list(
        self, organization_id: int, *, state: State = "waiting", after: str = "", limit: int = 100
    ) -> list[Quarantined]:
        """Entries in the order they came, after the one with id ``after``. Raises NotFound for another id."""
        return await self._database.read(_list, organization_id, state, after, limit)

    async def count(self, organization_id: int) -> int:
        """How many entries wait for a person."""
        return await self._database.read(_count, organization_id)

    async def get(self, organization_id: int, entry_id: str) -> Quarantined:
        """Raises NotFound."""
        return await self._database.read(_get, organization_id, entry_id)

    async def content(self, organization_id: int, entry_id: str) -> AsyncIterator[bytes]:
        """The object as it was received (with a file header, if it came without). Raises NotFound."""
        entry = await self.get(organization_id, entry_id)
        return self._ingest.store.stream(entry.object_key)

    async def accept(
        self, organization_id: int, entry_id: str, corrections: Mapping[str, str] | None = None
    ) -> Outcome:
        """File the object, after setting ``corrections`` ({keyword or tag: value}, top level, text values).

        A person's word counts more than the organisation's strictness: what can be indexed is; and its quota
        is not in the way, since the object changes its place only. Raises
        StillRefused when even that is impossible, NotFound, Conflict when the entry is settled already,
        InvalidInput for a correction that names no attribute or cannot be applied.
        """
        entry = await self.get(organization_id, entry_id)
        if entry.state != "waiting":
            raise Conflict(f"Entry {entry_id} was {entry.state} before.", code="already-settled")
        policies = replace(
            await self._ingest.policies.of(organization_id),
            strictness=Strictness.LENIENT,
            accept_unknown_sop_classes=True,
            batch=BatchPolicy.ALL_OR_NOTHING,
            quota_bytes=None,
        )
        received = await self._ingest.receive_all(
            organization_id,
            Source("quarantine", entry.peer),
            self._pieces(entry, corrections or {}),
            policies,
        )
        if isinstance(received, Suspect):
            raise StillRefused(outcome_of(received, OutcomeKind.QUARANTINED, received.problems))
        try:
            # All or nothing: a refusal leaves no second entry behind.
            [outcome] = await self._ingest.commit(organization_id, [received], policies)
        except BatchRefused as refused:
            raise StillRefused(refused.outcomes[0]) from refused
        note = orjson.dumps({"corrected": sorted(corrections or {}), "outcome": outcome.kind}).decode()
        await self._settle(organization_id, entry_id, "accepted", note)
        return outcome

    async def discard(self, organization_id: int, entry_id: str, reason: str = "") -> None:
        """Let go of the object; the sweep removes it after its grace period. Raises NotFound, Conflict."""
        await self.get(organization_id, entry_id)
        await self._settle(organization_id, entry_id, "discarded", reason)

    async def _pieces(self, entry: Quarantined, corrections: Mapping[str, str]) -> AsyncIterator[bytes]:
        if not corrections:
            async for piece in self._ingest.store.stream(entry.object_key):
                yield piece
            return
        if entry.size > _CORRECTABLE_BYTES_MAX:
            raise TooLarge(
                f"Objects over {format_bytes(_CORRECTABLE_BYTES_MAX)} cannot be corrected here.",
                remedy="Download the object, correct it and send it again; then discard this entry.",
            )
        content = await self._ingest.store.get(entry.object_key)
        yield await asyncio.to_thread(_corrected, content, corrections)

    async def _settle(self, organization_id: int, entry_id: str, state: State, note: str) -> None:
        now_us = microseconds(self._clock.now())
        if not await self._database.write(_settle, organization_id, entry_id, state, note, now_us):
            raise Conflict(f"Entry {entry_id} was settled before.", code="already-settled")


def _corrected(content: bytes, corrections: Mapping[str, str]) -> bytes:
    """The object with some attributes set; everything else stays as it was (pydicom keeps raw values)."""
    import pydicom
    from pydicom.config import IGNORE, RAISE, settings
    from pydicom.errors import InvalidDicomError

    settings.reading_validation_mode = IGNORE  # its warnings show values, which are patient data
    try:
        scan(content, WANTED)
    except ScanError as error:
        raise InvalidInput(
            f"The object cannot be read: {error.detail}.",
            code="correction-failed",
            remedy="Have its sender transmit it again, or discard it.",
        ) from error
    try:
        dataset = pydicom.dcmread(BytesIO(content), force=True)
        _check_characters(dataset.get("SpecificCharacterSet") or "", corrections)
        for name, value in corrections.items():
            tag = tag_of(name)
            vr = vr_of(tag)
            if tag >> 16 <= 0x0002:
                raise ValueError(name)
            number = _NUMBERS.get(vr)
            told = value if number is None else [number(one) for one in value.split("\\")]
            dataset[tag] = pydicom.DataElement(tag, vr, told, validation_mode=RAISE)
            if keyword_of(tag) in {"SOPInstanceUID", "SOPClassUID"}:
                setattr(dataset.file_meta, "MediaStorage" + keyword_of(tag), value)
        corrected = BytesIO()
        pydicom.dcmwrite(corrected, dataset)
    except (
        InvalidDicomError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        NotImplementedError,
        EOFError,
        OSError,  # pydicom's word for a value that its VR cannot hold
        struct.error,
    ) as error:
        raise InvalidInput(
            f"The corrections cannot be applied ({type(error).__name__}).",
            code="correction-failed",
            remedy="Check names and values; attributes of the file meta information cannot be set.",
        ) from error
    return corrected.getvalue()


def _check_characters(declared: str | Sequence[str], corrections: Mapping[str, str]) -> None:
    """pydicom would write a question mark for a character that the object's character set does not have."""
    declared = corrections.get("SpecificCharacterSet", declared)
    text = declared if isinstance(declared, str) else "\\".join(declared)
    decoder = decoder_for(text.encode("ascii", "replace"))
    for name, value in corrections.items():
        if not decoder.holds(value):
            raise InvalidInput(
                f"The object's character set cannot express the value of {name}.",
                code="correction-failed",
                remedy="Write it in characters that the object's Specific Character Set has.",
            )


def _quarantined(row: Row) -> Quarantined:
    return Quarantined(
        id=row["public_id"],
        object_key=row["object_key"],
        size=row["size"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        problems=orjson.loads(row["problems"]),
        known=orjson.loads(row["known"]),
        door=row["door"],
        peer=row["peer"],
        received_at_us=row["received_at_us"],
        times_seen=row["times_seen"],
        state=row["state"],
        settled_at_us=row["settled_at_us"],
        settled_note=row["settled_note"],
    )


def _list(organization_id: int, state: str, after: str, limit: int) -> Work[list[Quarantined]]:
    place = 0
    if after:
        rows = yield queries.FIND_PLACE_IN_QUARANTINE(organization_id=organization_id, public_id=after)
        if not rows:
            raise _unknown(after)
        place = rows[0]["id"]
    rows = yield queries.LIST_QUARANTINE(
        organization_id=organization_id, state=state, after=place, limit=limit
    )
    return [_quarantined(row) for row in rows]


def _count(organization_id: int) -> Work[int]:
    rows = yield queries.COUNT_QUARANTINE(organization_id=organization_id)
    count: int = rows[0][0]
    return count


def _get(organization_id: int, entry_id: str) -> Work[Quarantined]:
    rows = yield queries.FIND_IN_QUARANTINE(organization_id=organization_id, public_id=entry_id)
    if not rows:
        raise _unknown(entry_id)
    return _quarantined(rows[0])


def _unknown(entry_id: str) -> NotFound:
    return NotFound(f"There is no entry {entry_id[:_ID_SHOWN]} in the quarantine.")


def _settle(organization_id: int, entry_id: str, state: str, note: str, now_us: int) -> Work[bool]:
    rows = yield queries.SETTLE_QUARANTINE(
        organization_id=organization_id, public_id=entry_id, state=state, note=note, now_us=now_us
    )
    for row in rows:  # no row refers to the object any more, unless it was filed, which counted it
        yield from advance(organization_id, 0, Growth(-1, -row["size"]))
    return bool(rows)
