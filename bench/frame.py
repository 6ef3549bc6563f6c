"""One frame after another, at random, of an object of 500 frames and 250 MB; and the same from an S3 server,
where this machine has one."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.rounds import Sample, alternate, write_results
from bench.servers import IsocenterServer, both_servers, environment
from bench.wado import Server, fill, repeated
from services.images import Pixels, data_set, file_of
from services.radosgw import RadosGateway

FRAMES = 500
ROWS = COLUMNS = 512
ASKED = 400
ASKED_OF_ORTHANC = 4
_OCTETS = 'multipart/related; type="application/octet-stream"'
PATH = "/studies/1.2.3.4.5/series/1.2.3.4.6/instances/1.2.3.4.7.1/frames/"


def run(rounds: int) -> None:
    made = multi_frame()
    cases = []
    with both_servers() as (ours, peer, _):
        for server in (ours, peer):
            fill(server, [made])
        cases.append(
            alternate(
                f"a frame of {FRAMES}, at random",
                lambda number: frames(ours, number, ASKED),
                lambda number: frames(peer, number, ASKED_OF_ORTHANC),
                rounds=rounds,
            )
        )
        with in_bucket() as remote:
            if remote is not None:
                fill(remote, [made])
                cases.append(
                    alternate(
                        "the same from S3, against the local folder",
                        lambda number: frames(remote, number, ASKED),
                        lambda number: frames(ours, number, ASKED),
                        rounds=rounds,
                        peer_name="local",
                    )
                )
    write_results("frame", cases)


def multi_frame() -> bytes:
    made = data_set(Pixels(rows=ROWS, columns=COLUMNS, bits_stored=16, frames=2))
    made.NumberOfFrames = str(FRAMES)
    made.PixelData = made.PixelData[: ROWS * COLUMNS * 2] * FRAMES
    return file_of(made)


def frames(server: Server, seed: int, count: int) -> Sample:
    numbers = random.Random(seed)
    paths = (PATH + str(numbers.randint(1, FRAMES)) for _ in range(count))
    return repeated(server, paths, _OCTETS)


@contextlib.contextmanager
def in_bucket() -> Iterator[IsocenterServer | None]:
    """Isocenter over an S3 server of its own; None where there is none on this machine."""
    with tempfile.TemporaryDirectory(prefix="isocenter-bench-s3-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if shutil.which("radosgw") is None:
            print("  without S3: radosgw is not installed")
            yield None
            return
        gateway = RadosGateway(folder / "radosgw")
        stack.callback(gateway.stop)
        account = gateway.account
        secret = {
            "ISOCENTER_STORAGE_ACCESS_KEY": account.access_key_id,
            "ISOCENTER_STORAGE_SECRET_KEY": account.secret_access_key,
        }
        with environment(**secret):
            server = IsocenterServer(
                folder / "isocenter",
                *("--storage-url", f"s3://{gateway.bucket()}", "--storage-endpoint", account.endpoint),
                *("--storage-region", account.region),
            )
        stack.callback(server.stop)
        yield server
