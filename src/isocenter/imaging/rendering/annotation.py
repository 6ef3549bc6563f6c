"""Text burned into a rendered image (PS3.18 §8.3.5.1.1): who it is of, and how it was made.

Names are drawn in whatever script they are in, as far as one of the fonts at hand has its letters. A group of
a name that none has is left out where another group can be drawn (PS3.5 §6.2.1.1: the first is nearly always
in Latin letters).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from isocenter.dicom.person_name import PersonName
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.request import Annotation

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Ink = int | tuple[int, int, int]

_HEIGHT_SHARE = 28
"""Lines to the height of an image."""
_SMALLEST, _LARGEST = 9, 48
_LINE_CHARACTERS_MAX = 64
_LINES_MAX = 8
_FONTS_KEPT = 64
_MISSING = "\N{REPLACEMENT CHARACTER}"


def annotate(
    image: Image.Image, attributes: Attributes, wanted: Sequence[Annotation], fonts: Sequence[str]
) -> Image.Image:
    """The image with text in its corners: the patient above, the technique below. ``fonts``: files, the
    preferred one first."""
    lettering = Lettering(fonts, max(_SMALLEST, min(_LARGEST, image.height // _HEIGHT_SHARE)))
    drawing = ImageDraw.Draw(image)
    if Annotation.PATIENT in wanted:
        _write(drawing, image, patient_lines(attributes, lettering), lettering, at_bottom=False)
    if Annotation.TECHNIQUE in wanted:
        _write(drawing, image, technique_lines(attributes), lettering, at_bottom=True)
    return image


class Lettering:
    """Fonts of one size."""

    def __init__(self, fonts: Sequence[str], size: int) -> None:
        self.size = size
        self._fonts: list[Font] = [_font(path, size) for path in fonts] or [_built_in(size)]

    @property
    def step(self) -> int:
        """From one line to the next."""
        return round(self.size * 1.35)

    def write(
        self, drawing: ImageDraw.ImageDraw, place: tuple[float, float], text: str, fill: Ink, outline: Ink
    ) -> None:
        """One line, its upper left corner at ``place``; outlined, so that it is read on any ground."""
        left, top = place
        width = max(1, self.size // 10)
        for piece, font in self.runs(text):
            # On one baseline: fonts of different scripts are of different heights.
            at, anchor = ((left, top + self.size), "ls") if _is_scalable(font) else ((left, top), None)
            drawing.text(
                at, piece, fill=fill, font=font, anchor=anchor, stroke_width=width, stroke_fill=outline
            )
            left += drawing.textlength(piece, font=font)

    def covers(self, text: str) -> bool:
        """Whether some font has each of the letters."""
        return all(
            any(_has(font, letter) for font in self._fonts) for letter in set(text) if not letter.isspace()
        )

    def runs(self, text: str) -> list[tuple[str, Font]]:
        """The text in pieces, each with the first font that has its letters."""
        runs: list[tuple[str, Font]] = []
        for letter in text:
            # A blank and a mark stay with what they stand beside, or shaping would break.
            keep = runs and (letter.isspace() or _has(runs[-1][1], letter))
            font = runs[-1][1] if keep else next((f for f in self._fonts if _has(f, letter)), self._fonts[0])
            if runs and runs[-1][1] is font:
                runs[-1] = (runs[-1][0] + letter, font)
            else:
                runs.append((letter, font))
        return runs


def patient_lines(attributes: Attributes, lettering: Lettering) -> list[str]:
    """Name, ID, birth date and sex; institution and study date; descriptions."""
    name = PersonName.parse(attributes.text(0x00100010))
    groups = [_spoken(group) for group in name.groups if group]
    drawable = [group for group in groups[:2] if lettering.covers(group)] or groups[:1]
    born, sex, age = attributes.word(0x00100030), attributes.word(0x00100040), attributes.word(0x00101010)
    return _lines(
        "  ".join(drawable),
        attributes.text(0x00100020),
        _joined(_date(born), sex, age),
        attributes.text(0x00080080),
        _joined(_date(attributes.word(0x00080020)), _time(attributes.word(0x00080030))),
        _joined(attributes.text(0x00081030), attributes.text(0x0008103E)),
    )


def technique_lines(attributes: Attributes) -> list[str]:
    """What the exposure or sequence was, as far as the object says."""
    return _lines(
        _joined(attributes.word(0x00080060), attributes.text(0x00081090), attributes.text(0x00181030)),
        _joined(
            attributes.word(0x00180015),
            attributes.word(0x00200062),
            attributes.word(0x00185101),
        ),
        _joined(
            _quantity(attributes, 0x00180060, "kV"),
            _quantity(attributes, 0x00181151, "mA"),
            _quantity(attributes, 0x00181150, "ms"),
            _quantity(attributes, 0x00181152, "mAs"),
        ),
        _joined(
            _quantity(attributes, 0x00180080, "ms", "TR"),
            _quantity(attributes, 0x00180081, "ms", "TE"),
            _quantity(attributes, 0x00181314, "\N{DEGREE SIGN}", "FA"),
            _quantity(attributes, 0x00180087, "T"),
        ),
        _joined(
            _quantity(attributes, 0x00180050, "mm"),
            _numbered("Se", attributes.word(0x00200011)),
            _numbered("Im", attributes.word(0x00200013)),
        ),
    )


def _write(
    drawing: ImageDraw.ImageDraw,
    image: Image.Image,
    lines: list[str],
    lettering: Lettering,
    *,
    at_bottom: bool,
) -> None:
    margin = max(2, lettering.size // 3)
    top = image.height - margin - lettering.step * len(lines) if at_bottom else margin
    white, black = ((255, 255, 255), (0, 0, 0)) if image.mode == "RGB" else (255, 0)
    for number, line in enumerate(lines):
        lettering.write(drawing, (float(margin), float(top + number * lettering.step)), line, white, black)


def _lines(*lines: str) -> list[str]:
    return [clean(line) for line in lines if line.strip()][:_LINES_MAX]


def clean(line: str) -> str:
    """On one line, without control characters or what turns writing around."""
    shown = "".join(c if c.isprintable() else " " for c in line)
    return " ".join(shown.split())[:_LINE_CHARACTERS_MAX]


def _spoken(group: str) -> str:
    family, given, *others = group.split("^")[:5] + [""] * max(0, 2 - group.count("^"))
    first = " ".join(part.strip() for part in (given, *others) if part.strip())
    return ", ".join(part for part in (family.strip(), first) if part)


def _joined(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


def _quantity(attributes: Attributes, tag: int, unit: str, name: str = "") -> str:
    number = attributes.number(tag)
    return "" if number is None else _joined(name, f"{number:.6g} {unit}").replace("  ", " ")


def _numbered(name: str, number: str) -> str:
    return f"{name} {number}" if number else ""


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdecimal() else text


def _time(text: str) -> str:
    return f"{text[:2]}:{text[2:4]}" if text[:4].isdecimal() and len(text) >= 4 else ""


@lru_cache(maxsize=_FONTS_KEPT)
def _font(path: str, size: int) -> Font:
    try:
        return ImageFont.truetype(path, size)
    except OSError:
        return _built_in(size)


def _is_scalable(font: Font) -> bool:
    return isinstance(font, ImageFont.FreeTypeFont)


def _built_in(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def _has(font: Font, letter: str) -> bool:
    """Whether the font has a picture of its own for the letter, rather than that of a missing one."""
    if not isinstance(font, ImageFont.FreeTypeFont):
        return letter.isascii()
    shown, missing = font.getmask(letter), font.getmask(chr(0x10FFFF))
    return shown.size != missing.size or bytes(shown) != bytes(missing) or not sum(shown.size)
