"""A PACS that is asked by C-FIND (PS3.4 C.4.1), and gives by C-GET or C-MOVE (C.4.3, C.4.2)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing

from isocenter.dicom.charsets import UNICODE, decoder_for
from isocenter.dicom.json_rows import attributes_of
from isocenter.dicom.levels import Level
from isocenter.dicom.scan_limits import ScanError
from isocenter.dicom.tags import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
)
from isocenter.dimse.net.client import CONTEXTS_MAX, Proposal
from isocenter.dimse.net.errors import ContextNotAccepted
from isocenter.dimse.protocol import statuses
from isocenter.dimse.scu import finding, retrieving
from isocenter.dimse.scu.echo import echo
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.features.spanner.adapters import Reached, Rows
from isocenter.features.spanner.entries import Quirks
from isocenter.features.spanner.failures import Ended, SourceFailed, of_dimse
from isocenter.features.spanner.keys import understood
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.retrieval.keeping import Landing
from isocenter.features.spanner.retrieval.orders import Order
from isocenter.features.spanner.rows import Row, first_value, is_empty, strings_attribute
from isocenter.kit.errors import IsocenterError

_LEVELS = {
    Level.PATIENT: finding.Level.PATIENT,
    Level.STUDY: finding.Level.STUDY,
    Level.SERIES: finding.Level.SERIES,
    Level.INSTANCE: finding.Level.IMAGE,
}
_QUERY_RETRIEVE_LEVEL = 0x00080052
_NO_KEYS = frozenset({SPECIFIC_CHARACTER_SET, _QUERY_RETRIEVE_LEVEL, 0x00081190})
"""The character set is declared, not asked for; the level has its own place; URLs are DICOMweb's."""

_UNCOMBINED = ((0x00080020, 0x00080030), (0x00080021, 0x00080031))
_ABOVE = {
    Level.SERIES: (STUDY_INSTANCE_UID,),
    Level.INSTANCE: (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID),
}


class DimseAdapter:
    def __init__(self, remotes: Remotes, peer: Peer, quirks: Quirks) -> None:
        self._remotes = remotes
        self._peer = peer
        self._quirks = quirks
        self._decoder = decoder_for(quirks.character_set.encode()) if quirks.character_set else None

    async def ask(self, question: Question) -> Rows:
        """A question about instances that names the study alone is asked of its series one after the other:
        below the level of the key, C-FIND is hierarchical (C.4.1.3.1.1)."""
        by_study = question.level is Level.INSTANCE and not question.matches.get(SERIES_INSTANCE_UID)
        if not by_study:
            async with aclosing(self._ask(question.level, self._keys(question))) as found:
                async for row in found:
                    yield row
            return
        study_uid = question.matches.get(STUDY_INSTANCE_UID, "")
        series = {STUDY_INSTANCE_UID: study_uid, SERIES_INSTANCE_UID: ""}
        uids: list[str] = []
        async with aclosing(self._ask(Level.SERIES, series)) as found:
            async for rows in found:
                uids += [uid for row in rows if (uid := first_value(row, SERIES_INSTANCE_UID))]
        for uid in dict.fromkeys(uids):
            keys = {**self._keys(question), SERIES_INSTANCE_UID: uid}
            async with aclosing(self._ask(Level.INSTANCE, keys)) as found:
                async for rows in found:
                    yield rows

    async def _ask(self, level: Level, keys: Mapping[int, str]) -> Rows:
        fixed = {tag: uid for tag in _ABOVE.get(level, ()) if (uid := keys.get(tag, "")) and "\\" not in uid}
        given = {tag: strings_attribute("UI", [uid]) for tag, uid in fixed.items()}
        asked = finding.Question(
            _LEVELS[level], keys, patient_root=self._quirks.patient_root, encoder=self._decoder or UNICODE
        )
        try:
            async with aclosing(finding.find_encoded(self._remotes, self._peer, asked)) as batches:
                async for matches, transfer_syntax_uid in batches:
                    yield [self._row(match, transfer_syntax_uid, given) for match in matches]
        except (IsocenterError, ScanError) as error:
            raise of_dimse(error) from error

    def _row(self, match: bytes, transfer_syntax_uid: str, given: Mapping[int, str]) -> Row:
        """Raises ScanError."""
        row = attributes_of(match, transfer_syntax_uid, self._decoder)
        row.pop(_QUERY_RETRIEVE_LEVEL, None)
        for tag, uid in given.items():  # above its level an answer need not repeat what it was asked with
            if is_empty(row.get(tag, "")):
                row[tag] = uid
        return row

    def _keys(self, question: Question) -> dict[int, str]:
        keys = dict.fromkeys(question.wanted - _NO_KEYS, "")
        for tag, text in question.matches.items():
            if tag not in _NO_KEYS:
                keys[tag] = self._key(tag, text)
        for date_tag, time_tag in _UNCOMBINED:
            # Each matched alone would leave out what lies within the range of both.
            if "-" in keys.get(date_tag, "") and keys.get(time_tag):
                keys[time_tag] = ""
        return keys

    def _key(self, tag: int, text: str) -> str:
        text = understood(self._quirks, tag, text)
        held = self._decoder is None or text.isascii() or self._decoder.holds(text)
        return text if held else ""

    async def fetch(self, order: Order, landing: Landing) -> None:
        """By C-GET, or, where it does not know that, by C-MOVE to the AE title by which it knows us."""
        wanted = _wanted(order, patient_root=self._quirks.patient_root)
        try:
            if not self._quirks.moves:
                try:
                    await self._get(wanted, order, landing)
                    return
                except ContextNotAccepted:
                    pass
            await self._move(wanted, landing)
        except (IsocenterError, ScanError) as error:
            raise of_dimse(error) from error

    async def _get(self, wanted: retrieving.Wanted, order: Order, landing: Landing) -> None:
        classes = order.sop_classes
        if not all(classes) or len(classes) >= CONTEXTS_MAX:
            classes = retrieving.COMMON_SOP_CLASSES
        given = retrieving.get(self._remotes, self._peer, wanted, landing.receive, sop_classes=classes)
        async with aclosing(given) as told:
            async for progress in told:
                landing.heard += 1
                _check(progress)

    async def _move(self, wanted: retrieving.Wanted, landing: Landing) -> None:
        """What it sends comes in by our own door, as whoever else sends us objects."""
        destination = self._peer.calling_ae_title
        remedy = (
            f"It has to know {destination} as this server, and to be let in here:"
            f" isocenter ae add {self._peer.called_ae_title}"
        )
        async with aclosing(retrieving.move(self._remotes, self._peer, wanted, destination)) as told:
            async for progress in told:
                await landing.look()
                _check(progress, remedy)

    async def reach(self) -> Reached:
        """Its echo, and which models of C-FIND it agrees to."""
        begun_s = time.monotonic()
        try:
            await echo(self._remotes, self._peer)
        except IsocenterError as error:
            raise of_dimse(error) from error
        echo_s = time.monotonic() - begun_s
        return Reached(echo_s, await self._supported())

    async def _supported(self) -> tuple[str, ...]:
        contexts = tuple(Proposal(uid) for uid in _MODELS)
        try:
            async with self._remotes.association(self._peer, contexts) as association:
                return tuple(name for uid, name in _MODELS.items() if association.accepted(uid))
        except IsocenterError as error:
            raise of_dimse(error) from error

    async def close(self) -> None:
        """Associations are everybody's; those that lie idle end by themselves."""


def _wanted(order: Order, *, patient_root: bool) -> retrieving.Wanted:
    keys = {STUDY_INSTANCE_UID: order.study_uid}
    level = finding.Level.STUDY
    if order.series_uids:
        level, keys[SERIES_INSTANCE_UID] = finding.Level.SERIES, "\\".join(order.series_uids)
    if order.instance_uids:
        level, keys[SOP_INSTANCE_UID] = finding.Level.IMAGE, "\\".join(order.instance_uids)
    return retrieving.Wanted(level, keys, patient_root=patient_root)


def _check(progress: retrieving.Progress, remedy: str = "") -> None:
    """Raises SourceFailed where it has ended without giving all. The peer's own comment is not passed on: it
    may quote anything."""
    if not progress.over or progress.complete:
        return
    said = statuses.describe(progress.status)
    raise SourceFailed(
        Ended.FAILED,
        f"{said}; {progress.completed + progress.warning} objects sent, {progress.failed} not",
        remedy=remedy,
        blamed=False,
    )


_MODELS = {
    "1.2.840.10008.5.1.4.1.2.1.1": "find-patient-root",
    "1.2.840.10008.5.1.4.1.2.2.1": "find-study-root",
    "1.2.840.10008.5.1.4.1.2.1.2": "move-patient-root",
    "1.2.840.10008.5.1.4.1.2.2.2": "move-study-root",
    "1.2.840.10008.5.1.4.1.2.1.3": "get-patient-root",
    "1.2.840.10008.5.1.4.1.2.2.3": "get-study-root",
}
