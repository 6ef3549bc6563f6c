"""The real server, for tests with programs that nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from services.browser import chromium
from services.isocenter import Isocenter


@pytest.fixture
def start_isocenter(tmp_path: Path) -> Iterator[Callable[..., Isocenter]]:
    """``start_isocenter(*flags, environ=…, data_folder=…)``: as many servers as a test wants, each in a
    folder of its own unless it is to go on with another's."""
    with ExitStack() as running:
        count = 0

        def start(*flags: str, **more: Any) -> Isocenter:
            nonlocal count
            count += 1
            server = Isocenter(tmp_path / f"isocenter-{count}", *flags, **more)
            running.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for a module whose tests are all ordinary functions (see `chromium`)."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def isocenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Isocenter]:
    """One server for the tests of a module: they use UIDs of their own."""
    server = Isocenter(tmp_path_factory.mktemp("isocenter"))
    yield server
    server.stop()
