"""schemathesis, which others wrote, over the whole OpenAPI document of a server that was started: no 500, no
answer, header or body that the document does not tell of, nothing taken that it forbids."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.isocenter import Isocenter

# What is a valid AE title, UID or date is more than a JSON schema can say; methods: `test_openapi_requests`.
_NOT_CHECKED = "positive_data_acceptance,allow_header_conformance"
_EXAMPLES = "4"


@pytest.fixture(params=["off", "required"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Isocenter]:
    """With logins off everything is reached; with them, what everybody on the network can try."""
    started = Isocenter(tmp_path / "server", auth=request.param)
    yield started
    started.stop()


@pytest.mark.timeout(240)
def test_the_server_does_what_its_document_says(server: Isocenter, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/api/openapi.json"),
        *("--exclude-checks", _NOT_CHECKED, "--max-examples", _EXAMPLES),
        *("--generation-deterministic", "--no-color"),
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=230)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout
