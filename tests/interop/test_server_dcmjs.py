"""dicomweb-client of dcmjs-org, the DICOMweb client inside of OHIF and other viewers, run by node."""

from __future__ import annotations

import base64
import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from services.isocenter import Isocenter
from services.packages import find_program, missing
from services.rendered_files import stored
from services.viewer import VIEWERS

SCRIPT = Path(__file__).parent / "node" / "dicomweb_client.js"
FRAMES = np.stack([np.full((16, 24), 40 * number, np.uint8) for number in (1, 2, 3)])
MODULES = VIEWERS / "node_modules"


@pytest.fixture
def node() -> Path:
    if not (MODULES / "dicomweb-client").is_dir():
        missing("dicomweb-client for node", "(or: scripts/install-test-viewers)")
    return find_program("node", "nodejs")


def run(node: Path, server: Isocenter, file: Path, authorization: str = "") -> dict[str, Any]:
    ran = subprocess.run(
        [node, SCRIPT, server.dicom_web_url, file],
        env={**os.environ, "NODE_PATH": str(MODULES), "AUTHORIZATION": authorization},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = orjson.loads(ran.stdout)
    return said


def test_stores_finds_and_fetches_with_an_api_key(
    start_isocenter: Callable[..., Isocenter], node: Path, tmp_path: Path
) -> None:
    server = start_isocenter(auth="required")
    made = server.run("key", "create", "viewer", "--role", "radiologist", "--json")
    assert made.returncode == 0, made.stderr
    key = f"Api-Key {orjson.loads(made.stdout)['secret']}"
    image = stored(
        FRAMES, study="1.2.3.78", series="1.2.3.78.1", sop="1.2.3.78.1.1", modality="US", name="NODE^JS"
    )
    file = tmp_path / "image.dcm"
    file.write_bytes(image.file)
    said = run(node, server, file, key)

    whole = base64.b64encode(image.file).decode()
    assert not said["failed"]
    assert (said["studies"], said["sopInstanceUID"], said["rows"]) == (1, image.sop, 16)
    assert said["metadata"] == [1, 1]
    assert (said["instance"], said["series"], said["study"]) == (whole, [whole], [whole])
    assert [base64.b64decode(one) for one in said["frames"]] == [frame.tobytes() for frame in FRAMES[:2]]
    assert base64.b64decode(said["bulk"]) == FRAMES.tobytes()
    for name in ("rendered", "frameRendered"):
        picture = Image.open(io.BytesIO(base64.b64decode(said[name])))
        assert (picture.format, picture.size, set(np.asarray(picture).flat)) == ("PNG", (24, 16), {80})
    assert (said["missing"], said["refused"]) == (404, 401)
