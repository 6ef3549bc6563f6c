"""Which build of OHIF is served, and where."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""What npm's registry says of the tarball (Subresource Integrity)."""

PREPARED = 1
"""Raised with every change of `preparing.py`: browsers keep files of one release for ever."""

RELEASE = f"{VERSION}-{PREPARED}"
MOUNT = "/ohif"
FILES = f"{MOUNT}/{RELEASE}/"
"""Where its files are: bundles, WebAssembly, styles, icons."""


def release_folder(folder: Path) -> Path:
    """Where this release lies in the viewers' folder."""
    return folder / f"ohif-{RELEASE}"
