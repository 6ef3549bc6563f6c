"""What every test may ask for. Servers start when the first test needs them and end with the session."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

from services.dcmtk import Dcmtk, StoreScp, find_dcmtk
from services.dicom_files import pydicom_files, shared_data_folder, shared_files
from services.orthanc import Orthanc
from services.postgres import Postgres
from services.processes import free_ports, make_session_folder
from services.radosgw import RadosGateway
from services.redis import RedisServer

# The same examples in every run; ISOCENTER_HYPOTHESIS=explore looks further, and without a deadline too,
# since the machine's other work must not decide whether a test passes.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("ISOCENTER_HYPOTHESIS", "repeatable"))

# Hundreds of processes are started: without compiled modules each would compile a quarter of a thousand anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SESSION_FOLDER = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One folder holds all that a run writes, ``tmp_path`` included, and goes when the run ends.

    Set ``ISOCENTER_KEEP_TEST_FILES=1`` to look at it afterwards. A run that is told to terminate ends like
    one that is interrupted, with its fixtures finished.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.add_cleanup(lambda: signal.signal(signal.SIGTERM, previous))
    folder = make_session_folder()
    config.stash[SESSION_FOLDER] = folder
    if config.option.basetemp is None:
        config.option.basetemp = folder / "tmp"

    def remove() -> None:
        if os.environ.get("ISOCENTER_KEEP_TEST_FILES") != "1":
            shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(remove)


@pytest.fixture(scope="session")
def services_folder(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.stash[SESSION_FOLDER]


@pytest.fixture
def free_port() -> int:
    (port,) = free_ports(1)
    return port


@pytest.fixture(scope="session")
def postgres(services_folder: Path) -> Iterator[Postgres]:
    server = Postgres(services_folder / "pg")
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, empty database: ``postgresql://tests_app@127.0.0.1:{port}/{name}``."""
    with postgres.fresh_database() as url:
        yield url


@pytest.fixture(scope="session")
def radosgw(services_folder: Path) -> Iterator[RadosGateway]:
    """An S3 server: ``.account`` (endpoint and keys) and ``.bucket()`` (makes one)."""
    server = RadosGateway(services_folder / "rgw")
    yield server
    server.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may stop: a start takes some milliseconds."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def orthanc_server(services_folder: Path) -> Iterator[Orthanc]:
    server = Orthanc(services_folder / "orthanc")
    yield server
    server.stop()


@pytest.fixture
def orthanc(orthanc_server: Orthanc) -> Iterator[Orthanc]:
    """Orthanc, empty; emptied again afterwards."""
    yield orthanc_server
    orthanc_server.clear()


@pytest.fixture(scope="session")
def dcmtk() -> Dcmtk:
    return find_dcmtk()


@pytest.fixture
def start_storescp(dcmtk: Dcmtk, tmp_path: Path) -> Iterator[Callable[..., StoreScp]]:
    """``start_storescp(*options, ae_title="STORESCP")``: as many receivers as a test wants."""
    with ExitStack() as running:
        count = 0

        def start(*options: str, ae_title: str = "STORESCP") -> StoreScp:
            nonlocal count
            count += 1
            name = f"storescp-{count}"
            receiver = StoreScp(dcmtk, tmp_path / name, tmp_path / f"{name}.log", *options, ae_title=ae_title)
            running.callback(receiver.stop)
            return receiver

        yield start


@pytest.fixture
def storescp(start_storescp: Callable[..., StoreScp]) -> StoreScp:
    return start_storescp()


@pytest.fixture(scope="session")
def pydicom_test_files() -> list[Path]:
    return pydicom_files()


@pytest.fixture(scope="session")
def dicom_test_files() -> list[Path]:
    """pydicom's own files, and those of the shared test data where the machine has it."""
    return [*pydicom_files(), *shared_files()]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared test data; the test is skipped on a machine without it."""
    folder = shared_data_folder()
    if folder is None:
        pytest.skip("no shared test data here; name its folder in ISOCENTER_TEST_DATA")
    return folder
