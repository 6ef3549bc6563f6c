"""The doctor in front of a real PostgreSQL and a real S3 server that checks signatures."""

import asyncio
from pathlib import Path

from isocenter.cli.doctor import clock, redis, services
from isocenter.cli.doctor.findings import Finding, Verdict
from isocenter.platform.db import migrations
from isocenter.platform.settings import Settings
from services.postgres import Postgres
from services.radosgw import RadosGateway
from services.redis import RedisServer


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


# --- Redis ------------------------------------------------------------------------------------------------


def redis_finding(folder: Path, url: str) -> Finding:
    (finding,) = redis.redis(Settings(data_dir=folder, redis_url=url))
    assert (finding.verdict is Verdict.BAD) == bool(finding.remedy)
    return finding


def test_a_redis_that_works_and_one_that_is_gone(tmp_path: Path, redis_server: RedisServer) -> None:
    assert list(redis.redis(Settings(data_dir=tmp_path))) == []
    good = redis_finding(tmp_path, redis_server.url)
    assert good.verdict is Verdict.GOOD and redis_server.url in good.says
    assert redis_server.ask("DBSIZE") == ":0", "the doctor leaves no trace"
    redis_server.stop()
    gone = redis_finding(tmp_path, redis_server.url)
    assert "Nothing answers at 127.0.0.1" in gone.says and "counts by itself" in gone.says


def test_a_redis_that_hangs(tmp_path: Path, redis_server: RedisServer) -> None:
    redis_server.hang()
    try:
        assert "no answer within 3 s" in redis_finding(tmp_path, redis_server.url).says
    finally:
        redis_server.go_on()


def test_a_redis_that_refuses_says_why(tmp_path: Path, redis_server: RedisServer) -> None:
    def with_user(words: str) -> str:
        return redis_server.url.replace("://", f"://{words}@")

    redis_server.ask("ACL SETUSER reader on >pw ~* +get +hello +client")
    redis_server.ask("ACL SETUSER counter on >pw ~isocenter:* +@scripting +@write +@read")
    assert redis_finding(tmp_path, with_user("counter:pw")).verdict is Verdict.GOOD  # what the remedy says
    assert "may not run scripts" in redis_finding(tmp_path, with_user("reader:pw")).says
    wrong = redis_finding(tmp_path, with_user("reader:wr0ng"))
    assert "refuses the user name or the password" in wrong.says
    assert "wr0ng" not in wrong.says + wrong.remedy
    redis_server.ask("CONFIG SET maxmemory 1")
    assert "memory is full" in redis_finding(tmp_path, redis_server.url).says
    redis_server.ask("CONFIG SET maxmemory 0")
    redis_server.ask("REPLICAOF 127.0.0.1 1")
    assert "is a replica" in redis_finding(tmp_path, redis_server.url).says
    redis_server.ask("REPLICAOF NO ONE")
    redis_server.ask("CONFIG SET requirepass s3cret")
    assert "asks for a password" in redis_finding(tmp_path, redis_server.url).says
    assert redis_finding(tmp_path, with_user(":s3cret")).verdict is Verdict.GOOD


def test_something_else_at_its_port(tmp_path: Path, postgres: Postgres) -> None:
    finding = redis_finding(tmp_path, f"redis://127.0.0.1:{postgres.port}")
    assert finding.verdict is Verdict.BAD and "cannot be used" in finding.says
