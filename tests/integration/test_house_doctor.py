"""The doctor in front of a real PostgreSQL and a real S3 server that checks signatures."""

import asyncio
from pathlib import Path

from isocenter.cli.doctor import clock, services
from isocenter.cli.doctor.findings import Verdict
from isocenter.platform.db import migrations
from isocenter.platform.settings import Settings
from services.postgres import Postgres
from services.radosgw import RadosGateway


def test_postgresql_behind_and_then_current(tmp_path: Path, postgres_url: str) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres_url)
    (finding,) = services.database(settings)
    assert finding.verdict is Verdict.BAD and "behind" in finding.says
    asyncio.run(migrations.upgrade(postgres_url))
    finding, organisations = services.database(settings)
    assert finding.verdict is Verdict.GOOD and "current" in finding.says
    assert organisations.verdict is Verdict.GOOD, organisations.says


def test_a_postgresql_database_that_is_not_there(tmp_path: Path, postgres: Postgres) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres.url("nowhere"))
    (finding,) = services.database(settings)
    assert finding.verdict is Verdict.BAD and finding.remedy


def s3_settings(folder: Path, server: RadosGateway, **changes: str) -> Settings:
    account = server.account
    return Settings.model_validate(
        {
            "data_dir": folder,
            "storage_url": f"s3://{server.bucket()}",
            "storage_endpoint": account.endpoint,
            "storage_region": account.region,
            "storage_access_key": account.access_key_id,
            "storage_secret_key": account.secret_access_key,
            **changes,
        }
    )


def test_s3_with_the_right_keys(tmp_path: Path, radosgw: RadosGateway) -> None:
    settings = s3_settings(tmp_path, radosgw)
    (finding,) = services.storage(settings)
    assert finding.verdict is Verdict.GOOD, finding.says
    (finding,) = clock.clock(settings)
    assert finding.verdict is not Verdict.BAD, finding.says


def test_s3_with_a_wrong_secret_which_is_not_told(tmp_path: Path, radosgw: RadosGateway) -> None:
    (finding,) = services.storage(s3_settings(tmp_path, radosgw, storage_secret_key="wr0ng-s3cr3t"))
    assert finding.verdict is Verdict.BAD
    assert "wr0ng-s3cr3t" not in finding.says + finding.remedy


def test_s3_without_the_bucket(tmp_path: Path, radosgw: RadosGateway) -> None:
    (finding,) = services.storage(s3_settings(tmp_path, radosgw, storage_url="s3://nowhere"))
    assert finding.verdict is Verdict.BAD and finding.remedy
