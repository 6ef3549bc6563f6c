"""What is written into pictures, and reports as text: any script, nothing that a browser would run."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isocenter.dicom.scanner import Wanted, scan
from isocenter.dicom.tags import PIXEL_DATA
from isocenter.imaging.rendering.annotation import Lettering, patient_lines, technique_lines
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.described import describe
from isocenter.imaging.rendering.documents import render_document
from isocenter.imaging.rendering.errors import NoContentTree
from isocenter.imaging.rendering.icons import Kind, icon
from isocenter.imaging.rendering.request import HTML, JPEG, PLAIN, PNG, Annotation
from isocenter.platform.fonts import font_files
from services.archive import EXPLICIT, element
from services.rendered_files import Tag, image, rendered, sequence

UTF_8: Tag = (0x00080005, "CS", "ISO_IR 192")
_GRAY = np.full((400, 400), 100, np.uint8)
_SHOWN: Tag = (0x00080060, "CS", "US")


def named(name: str, *more: Tag) -> Attributes:
    source = image(_GRAY, UTF_8, (0x00100010, "PN", name.encode()), *more)
    return describe(source.header, EXPLICIT).attributes


def lines(name: str, *more: Tag) -> list[str]:
    return patient_lines(named(name, *more), Lettering(font_files(), 14))


# --- annotations ------------------------------------------------------------------------------------------


def test_annotations_are_written_where_they_belong() -> None:
    source = image(_GRAY, _SHOWN, UTF_8, (0x00100010, "PN", "Doe^Jane"), (0x00180060, "DS", "120"))
    plain = rendered(source)
    patient = rendered(source, annotations=(Annotation.PATIENT,), fonts=font_files())
    technique = rendered(source, annotations=(Annotation.TECHNIQUE,), fonts=font_files())
    assert (patient[:100] != plain[:100]).any() and np.array_equal(patient[200:], plain[200:])
    assert (technique[300:] != plain[300:]).any() and np.array_equal(technique[:200], plain[:200])
    both = rendered(source, annotations=(Annotation.PATIENT, Annotation.TECHNIQUE), fonts=font_files())
    assert (both[:100] != plain[:100]).any() and (both[300:] != plain[300:]).any()


def test_what_the_lines_say() -> None:
    said = lines(
        "Doe^Jane^M^Dr",
        (0x00100020, "LO", "4711"),
        (0x00100030, "DA", "19700131"),
        (0x00100040, "CS", "F"),
        (0x00080020, "DA", "20260102"),
        (0x00080030, "TM", "101112.5"),
    )
    assert said == ["Doe, Jane M Dr", "4711", "1970-01-31 F", "2026-01-02 10:11"]
    technique = technique_lines(
        named(
            "x",
            (0x00080060, "CS", "MR"),
            (0x00180080, "DS", "500"),
            (0x00180081, "DS", "12.5"),
            (0x00180050, "DS", "3.0"),
            (0x00200013, "IS", "7"),
        )
    )
    assert technique == ["MR", "TR 500 ms TE 12.5 ms", "3 mm Im 7"]


@pytest.mark.parametrize(
    "name",
    ["Ærøskøbing^Åse", "Παπαδόπουλος^Γιώργος", "Иванов^Пётр", "محمد^علي", "כהן^דוד", "สมชาย^ใจดี", "शर्मा^राम"],
)
def test_names_in_the_scripts_that_we_bring_fonts_for(name: str) -> None:
    lettering = Lettering(font_files()[:4], 20)
    assert lettering.covers(name.replace("^", " "))
    source = image(_GRAY, _SHOWN, UTF_8, (0x00100010, "PN", name.encode()))
    drawn = rendered(source, annotations=(Annotation.PATIENT,), fonts=font_files())
    assert (drawn != _GRAY).any()


def test_a_group_that_no_font_has_is_left_out_where_another_can_be_drawn() -> None:
    lettering = Lettering(font_files()[:4], 20)
    attributes = named("Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert patient_lines(attributes, lettering) == ["Yamada, Tarou"]
    assert patient_lines(named("=山田^太郎"), lettering) == ["山田, 太郎"], "better boxes than nothing"


def test_hostile_names_stay_on_their_line() -> None:
    (line,) = lines("A" * 500 + "\N{RIGHT-TO-LEFT OVERRIDE}^B")
    assert len(line) <= 64 and line.isprintable()
    assert lines("Do\te\x1b[31m^J") == ["Do e [31m, J"]


def test_without_any_font_file_there_is_a_built_in_one() -> None:
    source = image(_GRAY, _SHOWN, (0x00100010, "PN", "Doe^Jane"))
    assert (rendered(source, annotations=(Annotation.PATIENT,), fonts=()) != _GRAY).any()
    missing = rendered(source, annotations=(Annotation.PATIENT,), fonts=("/nowhere/font.ttf",))
    assert (missing != _GRAY).any()


# --- reports ----------------------------------------------------------------------------------------------


def concept(meaning: str) -> Tag:
    return (0x0040A043, "SQ", sequence([(0x00080104, "LO", meaning)]))


def report(*items: list[Tag], title: str = "Findings") -> bytes:
    elements: list[Tag] = [
        UTF_8,
        (0x00100010, "PN", "Doe^Jane"),
        (0x0040A040, "CS", "CONTAINER"),
        concept(title),
        (0x0040A730, "SQ", sequence(*items)),
    ]
    return b"".join(element(tag, vr, value) for tag, vr, value in sorted(elements))


def text(name: str, value: str | bytes, *below: list[Tag]) -> list[Tag]:
    tags: list[Tag] = [(0x0040A040, "CS", "TEXT"), concept(name), (0x0040A160, "UT", value)]
    return [*tags, (0x0040A730, "SQ", sequence(*below))] if below else tags


def test_a_report_as_text_and_as_html() -> None:
    unit: Tag = (0x004008EA, "SQ", sequence([(0x00080100, "SH", "mm"), (0x00080104, "LO", "millimeter")]))
    number: list[Tag] = [
        (0x0040A040, "CS", "NUM"),
        concept("Diameter"),
        (0x0040A300, "SQ", sequence([(0x0040A30A, "DS", "12.5"), unit])),
    ]
    content = report(text("Lung", "A nodule.\r\nSmall.", number))
    plain = render_document(content, EXPLICIT, PLAIN).decode()
    assert plain.splitlines()[0] == "Findings"
    assert "Patient: Jane Doe" in plain or "Patient: Doe Jane" in plain
    assert "Lung: A nodule.\n  Small.\n  Diameter: 12.5 mm" in plain
    page = render_document(content, EXPLICIT, HTML).decode()
    assert "<em>Lung</em>: A nodule.<br>Small." in page and "<em>Diameter</em>: 12.5 mm" in page
    assert page.count("<ul>") == page.count("</ul>") and page.count("<li>") == page.count("</li>")


def test_nothing_of_a_report_is_markup() -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    page = render_document(report(text(bad, bad), title=bad[:64]), EXPLICIT, HTML).decode()
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    plain = render_document(report(text("a", "b\x1b[31m\x07c")), EXPLICIT, PLAIN)
    assert b"\x1b" not in plain and b"\x07" not in plain


def test_deep_and_long_reports_end() -> None:
    item = text("deepest", "x")
    for _ in range(60):
        item = text("deeper", "x", item)
    assert b"deepest" in render_document(report(item), EXPLICIT, HTML)
    many = render_document(report(*[text("a", "b")] * 25_000), EXPLICIT, PLAIN)
    assert b"longer than what is shown" in many


@pytest.mark.parametrize("content", [b"", b"junk" * 10, element(0x00100010, "PN", "Doe")])
def test_what_is_no_report_says_so(content: bytes) -> None:
    with pytest.raises(NoContentTree):
        render_document(content, EXPLICIT, HTML)


def test_real_reports(pydicom_test_files: list[Path]) -> None:
    for name, said in (("reportsi.dcm", "Document Title"), ("test-SR.dcm", "Diameter: 3 cm")):
        content = next(path for path in pydicom_test_files if path.name == name).read_bytes()
        found = scan(content, Wanted((PIXEL_DATA,)))
        plain = render_document(content[found.header_size :], found.transfer_syntax_uid, PLAIN).decode()
        assert said in plain


# --- icons ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_icons_are_pictures_of_the_size_asked_for(kind: Kind) -> None:
    for media_type, name in ((JPEG, "JPEG"), (PNG, "PNG")):
        picture = Image.open(io.BytesIO(icon(kind, media_type, 90, 60)))
        assert (picture.format, picture.size) == (name, (90, 60))
        assert len(picture.getcolors(10_000) or []) > 1
