"""OHIF in Chromium, as at a workstation. The build comes from scripts/install-test-viewers."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Response,
    sync_playwright,
)

from isocenter.doors.web.release import release_folder
from services.packages import find_program, missing

VIEWERS = Path(__file__).resolve().parents[2] / ".viewers"
_FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # WebGL without a graphics card.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
WAIT_MS = 60_000
_LEFT_WHILE_LOADING = "The stack viewport has been destroyed"
"""Said by OHIF, in its console or as an error that nobody catches, where another series is opened before the
picture of the one before it was there."""

_CANVAS = "canvas.cornerstone-canvas"
_POSITION = re.compile(r"I:\s*(\d+)\s*\((\d+)/(\d+)\)")
_PICTURE = "selector => document.querySelector(selector).toDataURL('image/png')"
_CHANGED = (
    """before => document.querySelector('[data-cy="viewport-overlay-bottom-right"]').innerText !== before"""
)


def installed_viewer() -> tuple[str, str]:
    """The flags for a server that has it; skips where nobody installed it."""
    if not release_folder(VIEWERS).is_dir():
        missing("OHIF", "(or: scripts/install-test-viewers)")
    return ("--viewer-dir", str(VIEWERS))


@contextmanager
def chromium_with_webgl() -> Iterator[Browser]:
    program = find_program("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Workstation:
    """A browser profile with one page. ``problems``: what the page complained of, ``failed``: answers of 400
    and above, as ``status method path``."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 800})
        self.context.set_default_timeout(WAIT_MS)
        self.url = url
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.failed: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self._complained(str(error)))
        self.page.on("response", self._note)

    def _heard(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self._complained(said.text)

    def _complained(self, text: str) -> None:
        if _LEFT_WHILE_LOADING not in text:
            self.problems.append(text)

    def _note(self, response: Response) -> None:
        if response.status >= 400:
            path = response.url.removeprefix(self.url)
            self.failed.append(f"{response.status} {response.request.method} {path}")

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def close(self) -> None:
        self.context.close()

    def open_study(self, study: str) -> None:
        """In OHIF's basic viewer, with what a first visit shows put away."""
        self.open(f"/ohif/viewer?StudyInstanceUIDs={study}")
        self.settle_in()

    def settle_in(self) -> None:
        # On a slow machine the tour lies over the notice before that can be clicked.
        self.page.get_by_text("Confirm and hide").dispatch_event("click")
        self.page.get_by_text("Skip all").click()

    def part(self, name: str) -> Locator:
        """By the name that OHIF gives its parts for tests."""
        return self.page.locator(f'[data-cy="{name}"]')

    def position(self) -> tuple[int, int, int]:
        """Instance Number of the image in the viewport, which one of how many it is."""
        match = _POSITION.search(self.part("viewport-overlay-bottom-right").inner_text())
        assert match is not None
        return int(match[1]), int(match[2]), int(match[3])

    def scroll(self, images: int = 1) -> None:
        """With the wheel, so many times; each time until another image is there."""
        area = self.page.locator(_CANVAS).bounding_box()
        assert area is not None
        self.page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
        for _ in range(images):
            before = self.part("viewport-overlay-bottom-right").inner_text()
            self.page.mouse.wheel(0, 100)
            self.page.wait_for_function(_CHANGED, arg=before)

    def picture(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The viewport's image (without texts and drawings) in gray, rows by columns; it fits into the height
        or width of the viewport and lies in the middle."""
        encoded: str = self.page.evaluate(_PICTURE, _CANVAS)
        shown = Pillow.open(io.BytesIO(base64.b64decode(encoded.partition(",")[2]))).convert("L")
        rows, columns = size
        scale = min(shown.height / rows, shown.width / columns)
        height, width = rows * scale, columns * scale
        left, top = (shown.width - width) / 2, (shown.height - height) / 2
        box = (left, top, left + width, top + height)
        return np.asarray(shown.resize((columns, rows), Pillow.Resampling.BOX, box))

    def wait_for_picture(self, expected: NDArray[np.uint8], tolerance: float = 4.0) -> None:
        """Until the viewport shows that, with a mean difference of at most ``tolerance`` gray levels."""
        until_s = time.monotonic() + WAIT_MS / 1000
        while True:
            shown = self.picture((expected.shape[0], expected.shape[1]))
            difference = float(np.abs(shown.astype(int) - expected.astype(int)).mean())
            if difference <= tolerance:
                return
            assert time.monotonic() < until_s, f"another picture: {difference:.1f} gray levels away"
            self.page.evaluate("new Promise(resolve => requestAnimationFrame(resolve))")

    def measure(self, width: float = 160, height: float = 120) -> None:
        """Draw a length across the middle, so many pixels of the page wide and high."""
        area = self.page.locator(_CANVAS).bounding_box()
        assert area is not None
        x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
        self.part("MeasurementTools-split-button-primary").click()
        self.page.mouse.click(x - width / 2, y - height / 2)
        self.page.mouse.move(x, y)
        self.page.mouse.click(x + width / 2, y + height / 2)

    def measurements(self) -> Locator:
        """What the panel of measurements lists, each with its length."""
        if not self.part("trackedMeasurements-panel").count():
            self.part("trackedMeasurements-btn").click()
        return self.part("data-row-details-primary")
