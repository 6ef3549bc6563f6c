"""Two real servers that speak TLS with each other: one sends to the other, and believes nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson

from services.certificates import certificate
from services.isocenter import Isocenter
from services.series import new_series


def test_a_move_over_tls(start_isocenter: Callable[..., Isocenter], tmp_path: Path) -> None:
    here, there, stranger = (certificate(tmp_path, name) for name in ("here", "there", "stranger"))
    source = start_isocenter(
        *("--dicom-tls-cert", str(here.certificate), "--dicom-tls-key", str(here.key)),
        *("--dicom-tls-peers-ca", str(there.certificate)),
    )
    target = start_isocenter(
        *("--dicom-tls-cert", str(there.certificate), "--dicom-tls-key", str(there.key)),
        *("--dicom-tls-ca", str(here.certificate)),
    )
    images = new_series(3, name="OVER^TLS")
    source.store(images)

    def destination(*options: str) -> None:
        added = source.run("ae", "destination", "add", "ISOCENTER", "127.0.0.1", target.dicom_port, *options)
        assert added.returncode == 0, added.stderr

    def move() -> dict[str, object]:
        done = source.run(
            *("scu", "move", "127.0.0.1", source.dicom_port, "--called", "ISOCENTER", "--json"),
            *("--tls-ca", here.certificate, "--study", images[0].study),
        )
        return dict(orjson.loads(done.stdout))

    destination("--tls")
    told = move()
    assert (told["status"], told["completed"]) == ("0000", 3)
    assert len(target.found(f"/studies/{images[0].study}/instances")) == 3
    # A name that is not in its certificate, no TLS at all, and a certificate that nobody vouches for.
    for options in (("--tls-name", "another.example"), ()):
        destination(*options)
        assert (move()["status"], move()["failed"]) == ("A702", 3), options
    destination("--tls")
    there.certificate.write_bytes(stranger.certificate.read_bytes())
    assert move()["status"] == "A702", "the authorities are read again when they change"
