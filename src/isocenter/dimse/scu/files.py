"""DICOM files as objects to be sent."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from isocenter.dicom.scanner import Scan, Wanted, scan
from isocenter.dicom.sop_classes import MEDIA_STORAGE_DIRECTORY
from isocenter.dicom.tags import SOP_CLASS_UID, SOP_INSTANCE_UID
from isocenter.dicom.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    lookup,
)
from isocenter.dimse.net.bodies import FileBody
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.kit.errors import InvalidInput, Unsupported

_WANTED = Wanted([SOP_CLASS_UID, SOP_INSTANCE_UID])


def files_under(roots: Iterable[Path]) -> Iterator[Path]:
    """The files named, and every regular file in the folders named, in the order of names."""
    for root in roots:
        if not root.is_dir():
            yield root
            continue
        for folder, subfolders, names in os.walk(root):
            subfolders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    yield path


def outgoing_file(path: Path) -> OutgoingObject:
    """Raises InvalidInput (code ``not-dicom`` where nothing looks like DICOM), Unsupported for a DICOMDIR,
    OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise InvalidInput("The file is empty", code="not-dicom")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = scan(content, _WANTED)
    sop_class_uid, sop_instance_uid = (_uid(found, tag) for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID))
    if not sop_class_uid and _directory(found):
        raise Unsupported("A DICOMDIR indexes a medium; C-STORE does not carry it", code="dicomdir")
    if not found.file_meta and not sop_class_uid:
        raise InvalidInput("This is no DICOM object", code="not-dicom")
    if not sop_class_uid or not sop_instance_uid:
        raise InvalidInput("The file has no SOP Class UID or no SOP Instance UID", code="no-uid")
    return OutgoingObject(
        sop_class_uid,
        sop_instance_uid,
        _transfer_syntax_uid(found),
        partial(FileBody, path, found.header_size),
        size - found.header_size,
        str(path),
    )


def _uid(found: Scan, tag: int) -> str:
    raw = found.elements.get(tag)
    return raw.value.decode("ascii", "replace").strip("\0 ") if raw else ""


def _directory(found: Scan) -> bool:
    meta = found.file_meta.get(0x00020002, b"").decode("ascii", "replace").strip("\0 ")
    return meta == MEDIA_STORAGE_DIRECTORY


def _transfer_syntax_uid(found: Scan) -> str:
    """What the bytes are: a receiver goes by the presentation context and never sees the file's own claim."""
    declared = lookup(found.transfer_syntax_uid)
    if not found.disguised or declared is None or declared.encapsulated:
        return found.transfer_syntax_uid
    if found.implicit_vr:
        return IMPLICIT_VR_LITTLE_ENDIAN
    return EXPLICIT_VR_BIG_ENDIAN if found.big_endian else EXPLICIT_VR_LITTLE_ENDIAN
