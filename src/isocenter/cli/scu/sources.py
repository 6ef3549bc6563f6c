"""Where objects to be sent come from: files, or the archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.dimse.scu.files import files_under, outgoing_file
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.kit.errors import InvalidInput, IsocenterError

if TYPE_CHECKING:
    from isocenter.app.archive import Archive
    from isocenter.features.archive.retrieve import StoredInstance

_BATCH_FILES = 20_000
"""Planned at a time: more would cost memory, fewer more associations."""

_STUDY_INSTANCE_UID = 0x0020000D
_SERIES_INSTANCE_UID = 0x0020000E
_NO_OBJECT = frozenset({"not-dicom", "dicomdir"})


@dataclass(frozen=True, slots=True)
class Unsendable:
    name: str
    says: str


@dataclass(slots=True)
class Batch:
    """``left_alone`` counts files that lay in a folder named and are no objects; ``study`` and ``series`` are
    what of the archive it is."""

    objects: list[OutgoingObject] = field(default_factory=list)
    unsendable: list[Unsendable] = field(default_factory=list)
    left_alone: int = 0
    study: str = ""
    series: str = ""


async def file_batches(roots: Sequence[Path]) -> AsyncIterator[Batch]:
    """The DICOM objects among files and in folders. A file that was named itself has to be one."""
    named = set(roots)
    paths = files_under(roots)
    while some := await asyncio.to_thread(_take, paths):
        yield await asyncio.to_thread(_read, some, named)


def _take(paths: Iterator[Path]) -> list[Path]:
    return list(islice(paths, _BATCH_FILES))


def _read(paths: Iterable[Path], named: set[Path]) -> Batch:
    batch = Batch()
    for path in paths:
        try:
            batch.objects.append(outgoing_file(path))
        except IsocenterError as error:
            if error.code in _NO_OBJECT and path not in named:
                batch.left_alone += 1
            else:
                batch.unsendable.append(Unsendable(str(path), error.detail))
        except OSError as error:
            batch.unsendable.append(Unsendable(str(path), error.strerror or type(error).__name__))
    return batch


async def archive_batches(
    archive: Archive, organization_id: int, studies: Sequence[str], series: Sequence[str]
) -> AsyncIterator[Batch]:
    """An organisation's objects, study by study. Raises NotFound, before any is given out, for a UID that it
    does not have."""
    from isocenter.features.archive.presented import presented
    from isocenter.features.archive.retrieve import find_stored

    wanted = [(uid, "") for uid in studies]
    wanted += [(await _study_of(archive, organization_id, uid), uid) for uid in series]
    found = [
        await find_stored(archive.database, organization_id, study_uid, series_uid)
        for study_uid, series_uid in wanted
    ]
    for (study_uid, series_uid), instances in zip(wanted, found, strict=True):
        objects = [_stored(archive, instance) for instance in await presented(archive.leaving, instances)]
        yield Batch(objects, study=study_uid, series=series_uid)


async def _study_of(archive: Archive, organization_id: int, series_uid: str) -> str:
    from isocenter.dicom.levels import Level
    from isocenter.features.archive.query import Query, Search
    from isocenter.kit.errors import NotFound

    if not set(series_uid) <= set("0123456789."):
        raise InvalidInput(f"{series_uid!r} is no UID.")
    query = Query(Level.SERIES, {_SERIES_INSTANCE_UID: series_uid}, frozenset({_STUDY_INSTANCE_UID}), limit=1)
    page = await Search(archive.database, organization_id, query).page()
    if not page.matches:
        raise NotFound("There is no such series here.", code="no-such-series")
    return page.matches[0].study_instance_uid


def _stored(archive: Archive, instance: StoredInstance) -> OutgoingObject:
    from isocenter.features.archive.retrieve import stream_bytes

    return OutgoingObject(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax_uid,
        lambda: stream_bytes(archive.leaving, instance, instance.header_size),
        instance.size - instance.header_size,
        instance.sop_instance_uid,
    )
