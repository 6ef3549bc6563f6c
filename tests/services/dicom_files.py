"""Real DICOM files for the tests: those in pydicom's wheel, and shared test data where the machine has it."""

from __future__ import annotations

import os
from pathlib import Path


def pydicom_files() -> list[Path]:
    """What pydicom ships (nothing is downloaded): good and broken files of many kinds."""
    import pydicom.data

    folder = Path(pydicom.data.__file__).parent / "test_files"
    return sorted(path for path in folder.rglob("*.dcm") if path.is_file())


def shared_data_folder() -> Path | None:
    """``$ISOCENTER_TEST_DATA``, else ``shared/data`` beside the repository; None where there is neither."""
    named = os.environ.get("ISOCENTER_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    return folder if folder.is_dir() else None


def shared_files() -> list[Path]:
    folder = shared_data_folder()
    return sorted(folder.rglob("*.dcm")) if folder else []
