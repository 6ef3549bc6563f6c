"""The walk of an import finds every file, whatever the size of its batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from isocenter.features.archive.importing import FolderImport


async def test_no_file_is_lost_between_two_batches(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number}.txt").write_text("not DICOM")
    report = await FolderImport(cast(Any, None), 1).run(tmp_path)  # nothing here reaches the archive
    assert (report.found, report.done, report.not_dicom) == (1000, 1000, 1000)
