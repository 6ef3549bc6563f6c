"""From the one setting that says where objects live to the store that keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from isocenter.kit.errors import InvalidInput
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.storage.memory import MemoryStore

if TYPE_CHECKING:
    from isocenter.platform.storage.object_store import BucketStore

CONNECT_TIMEOUT = timedelta(seconds=3)
SILENCE_TIMEOUT = timedelta(seconds=12)  # S3 may think before it answers; senders do not wait much longer
REQUEST_TIMEOUT = timedelta(seconds=120)  # one part or window of 8 MB, or one object below 16 MB
RETRY_TIMEOUT = timedelta(seconds=8)
RETRIES_MAX = 3

_QUERY_OPTIONS = {"endpoint", "public_endpoint", "region"}


def open_store(
    url: str,
    *,
    endpoint: str = "",
    public_endpoint: str = "",
    region: str = "",
    access_key: str = "",
    secret_key: str = "",
    url_base: str | None = None,
    signing_key: bytes | None = None,
    io_threads: int = 8,
) -> ObjectStore:
    """The store that ``url`` names:

    * ``file:///srv/isocenter`` or a plain path: a local folder; ``url_base`` and ``signing_key`` let it
      sign links
    * ``memory://``: this process's memory
    * ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``. ``endpoint``,
      ``public_endpoint`` and ``region`` may also stand in the URL:
      ``s3://bucket?endpoint=https://minio.example:9000&region=eu-1``. Without keys the providers' usual
      environment variables and machine roles count. For Azure the access key is the account's name.

    Raises InvalidInput (``invalid-storage-url``); nothing is contacted yet: ask ``health``.
    """
    parts = urlsplit(url)
    if parts.scheme in {"", "file"}:
        return LocalStore(
            _folder(url, parts), url_base=url_base, signing_key=signing_key, io_threads=io_threads
        )
    if parts.scheme == "memory":
        return MemoryStore(url_base=url_base, signing_key=signing_key)
    options = {"endpoint": endpoint, "public_endpoint": public_endpoint, "region": region, **_query(parts)}
    if parts.scheme == "s3":
        keys = {"access_key_id": access_key, "secret_access_key": secret_key, "region": options["region"]}
        return _open_bucket("S3Store", parts, options, keys)
    if parts.scheme == "az":
        account = {"account_name": access_key, "account_key": secret_key}
        return _open_bucket("AzureStore", parts, options, account)
    if parts.scheme == "gs":
        return _open_bucket("GCSStore", parts, options, {})
    raise _invalid(f"{parts.scheme}:// is no kind of object store that Isocenter knows")


def _open_bucket(
    kind: str, parts: SplitResult, options: Mapping[str, str], keys: Mapping[str, str]
) -> BucketStore:
    from obstore import store as providers
    from obstore.exceptions import BaseError

    from isocenter.platform.storage.object_store import BucketStore

    if not parts.hostname:
        raise _invalid(f"{parts.scheme}:// lacks the name of the bucket")
    if parts.username or parts.password:
        raise _invalid("keys do not belong into the storage URL, which reaches logs")

    def connect(endpoint: str) -> Any:
        config = {name: value for name, value in keys.items() if value}
        if endpoint:
            config["endpoint"] = endpoint.rstrip("/")
        return getattr(providers, kind)(
            parts.netloc,
            prefix=unquote(parts.path).strip("/") or None,
            config=config,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": SILENCE_TIMEOUT,
                "timeout": REQUEST_TIMEOUT,
            },
            retry_config={
                "max_retries": RETRIES_MAX,
                "retry_timeout": RETRY_TIMEOUT,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        )

    try:
        bucket = connect(options["endpoint"])
        public_endpoint = options["public_endpoint"]
        return BucketStore(bucket, public=connect(public_endpoint) if public_endpoint else None)
    except BaseError as error:
        raise _invalid(f"the object store's settings do not fit together: {error}") from error


def _folder(url: str, parts: SplitResult) -> Path:
    if not parts.scheme:
        return Path(url)
    if parts.netloc not in {"", "localhost"} or not parts.path or parts.query:
        raise _invalid(f"{url} does not name a folder of this machine")
    return Path(unquote(parts.path))


def _query(parts: SplitResult) -> dict[str, str]:
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = sorted(given.keys() - _QUERY_OPTIONS)
    if unknown:
        raise _invalid(f"the storage URL takes {', '.join(sorted(_QUERY_OPTIONS))}, not {', '.join(unknown)}")
    return given


def _invalid(detail: str) -> InvalidInput:
    return InvalidInput(
        detail,
        code="invalid-storage-url",
        remedy="Write file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; "
        "keys go into settings of their own.",
    )
