"""Font files for text in images: those that the program brings, then what the machine has."""

from __future__ import annotations

import sys
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

# Latin, Greek, Cyrillic and Devanagari; Arabic; Thai; Hebrew.
_OURS = (
    ("fontpkg_noto_sans", "NotoSans["),
    ("fontpkg_noto_sans_arabic", "NotoSansArabic["),
    ("fontpkg_noto_sans_thai", "NotoSansThai["),
    ("fontpkg_heebo", "Heebo["),
)
# Fonts of many thousand letters are too large to bring along: who needs Chinese, Japanese or Korean has one.
_OF_THE_MACHINE = (
    "NotoSansCJK-Regular*",
    "NotoSansCJKjp-Regular*",
    "SourceHanSans*Regular*",
    "DroidSansFallback*",
    "wqy-microhei*",
    "wqy-zenhei*",
    "ipag*.ttf",
    "NanumGothic.ttf",
    "NotoSans*-Regular.ttf",
    "unifont*.otf",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "msgothic.ttc",
    "malgun.ttf",
)
_FONTS_MAX = 64


@cache
def font_files() -> tuple[str, ...]:
    """Paths, the preferred font first; looked for once."""
    found = [*_brought(), *_installed()]
    return tuple(str(path) for path in found[:_FONTS_MAX])


def _brought() -> list[Path]:
    found = []
    for package, name in _OURS:
        try:
            with as_file(files(package) / "files") as folder:
                found += [path for path in sorted(folder.iterdir()) if path.name.startswith(name)]
        except (ModuleNotFoundError, OSError):
            continue  # without it, names are drawn with the others
    return found


def _installed() -> list[Path]:
    folders = {
        "win32": ["C:/Windows/Fonts"],
        "darwin": ["/System/Library/Fonts", "/Library/Fonts"],
    }.get(sys.platform, ["/usr/share/fonts", "/usr/local/share/fonts"])
    every = [path for folder in folders for path in sorted(Path(folder).rglob("*.?t?"))]
    found: dict[Path, None] = {}
    for pattern in _OF_THE_MACHINE:
        found.update(dict.fromkeys(path for path in every if path.match(pattern)))
    return list(found)
