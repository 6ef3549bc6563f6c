"""The one table of settings. Everything else is derived from it: the keys of ``isocenter.toml``, the
``ISOCENTER_…`` variables, the flags of the command line and docs/configuration.md."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from isocenter.kit.sizes import format_bytes, parse_bytes
from isocenter.platform.settings.passkeys import relying_party

ENVIRONMENT_PREFIX = "ISOCENTER_"


def _size(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _size_or_none(value: object) -> object:
    return None if value == "" else _size(value)


def _ae_title(value: str) -> str:
    """An AE value: 1 to 16 characters of the default repertoire without backslash or control characters,
    leading and trailing spaces without meaning (PS3.5 §6.2)."""
    title = value.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return title


def _host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", value):
            raise ValueError(
                "an address to listen on is an IP address or a host name: 127.0.0.1, 0.0.0.0, ::"
            ) from None
    return value


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and not (host.strip("[]") and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("is written host:port, as in audit.example:6514")
    return value


def _url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        if value and urlsplit(value).scheme not in schemes:
            raise ValueError(f"should begin with {', '.join(f'{scheme}://' for scheme in schemes)}")
        try:
            _ = urlsplit(value).port
        except ValueError:
            raise ValueError("names a port that is no number up to 65535") from None
        return value

    return AfterValidator(check)


def _origins(value: str) -> str:
    for origin in listed(value):
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}".lower():
            raise ValueError("an origin is scheme, host and port in lower case: https://viewer.example:8443")
        if not parts.hostname or "@" in parts.netloc or "*" in parts.netloc:
            raise ValueError("each origin is named in full; there is no pattern for them")
    return value


def _networks(value: str) -> str:
    for network in listed(value):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError("addresses or networks are expected: 127.0.0.1, 10.0.0.0/8, ::1") from None
    return value


def _host_names(value: str) -> str:
    for host in listed(value):
        if not re.fullmatch(r"\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", host):
            raise ValueError("host names in lower case and without a port are expected: archive.example")
    return value


def _domain(value: str) -> str:
    if value and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", value):
        raise ValueError("a domain in lower case is expected: hospital.example")
    return value


def listed(value: str) -> tuple[str, ...]:
    """The parts of a setting that takes several, separated by commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
OptionalSize = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_size_or_none)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
DatabaseUrl = Annotated[str, _url("sqlite", "postgresql", "postgres")]
StorageUrl = Annotated[str, _url("file", "memory", "s3", "gs", "az")]
WebUrl = Annotated[str, _url("http", "https")]


def setting(default: Any, group: str, says: str, *, secret: bool = False) -> Any:
    """One row of the table. ``secret`` values are masked wherever they are shown and have no flag, since
    every user of a machine can read the command lines of its processes."""
    return Field(
        default=default,
        description=says,
        json_schema_extra={"group": group, "secret": secret},
        repr=not secret,
    )


PLACES = "Places"
ENCRYPTION = "Encryption"
DOORS = "Doors"
DICOM = "DICOM network"
INGEST = "What is accepted"
LIMITS = "Limits"
PIXELS = "Pixels"
HOUSEKEEPING = "Housekeeping"
LOGS = "Logs"
AUDIT = "Audit"


class Settings(BaseModel):
    """Values are checked and converted: sizes are bytes, times are seconds, paths are :class:`Path`.

    ``database_url`` and the like may be empty; code reads their ``…_or_default`` twins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    data_dir: Path = setting(Path("data"), PLACES, "Folder for everything that is kept; made if missing")
    database_url: DatabaseUrl = setting(
        "", PLACES, "sqlite:///path or postgresql://user:password@host/name; empty: SQLite in the data folder"
    )
    database_migration_url: Annotated[str, _url("postgresql", "postgres")] = setting(
        "", PLACES, "The same database under the role that owns its tables; empty: as database_url says"
    )
    storage_url: StorageUrl = setting(
        "", PLACES, "file:///path, s3://bucket/prefix, gs://… or az://…; empty: objects in the data folder"
    )
    storage_endpoint: WebUrl = setting("", PLACES, "URL of the S3 service where it is not Amazon's")
    storage_public_endpoint: WebUrl = setting(
        "", PLACES, "URL under which browsers reach the S3 service, for signed links; empty: the endpoint"
    )
    storage_region: str = setting("", PLACES, "Region of the bucket")
    storage_access_key: str = setting("", PLACES, "Access key of the object store", secret=True)
    storage_secret_key: SecretStr = setting(
        SecretStr(""), PLACES, "Secret key of the object store", secret=True
    )
    redis_url: Annotated[str, _url("redis", "rediss", "unix")] = setting(
        "",
        PLACES,
        "redis://:password@host:6379/0, where several servers count attempts together; empty: alone",
    )
    spool_dir: Path | Literal[""] = setting(
        "", PLACES, "Folder for large objects on their way in; empty: spool/ in the data folder"
    )
    viewer_dir: Path | Literal[""] = setting(
        "", PLACES, "Folder of the installed viewer (OHIF); empty: viewers/ in the data folder"
    )

    encryption: Literal["off", "on"] = setting(
        "off", ENCRYPTION, "Whether new objects are encrypted in the store (AES-256-GCM)"
    )
    encryption_master_key_file: Path | Literal[""] = setting(
        "", ENCRYPTION, "File with the master key; `isocenter encryption init` makes it"
    )
    encryption_master_key: SecretStr = setting(
        SecretStr(""), ENCRYPTION, "The master key itself: 32 bytes in base64", secret=True
    )
    encryption_master_key_command: str = setting(
        "", ENCRYPTION, "Command that prints the master key, for a key management service"
    )

    bind: Annotated[str, AfterValidator(_host)] = setting(
        "127.0.0.1", DOORS, "Address to listen on; 0.0.0.0 opens both doors to the network"
    )
    http_port: Port = setting(8080, DOORS, "Port for HTTP and DICOMweb; 0 takes any free one")
    dicom_port: Port = setting(11112, DOORS, "Port for DIMSE; 0 takes any free one")
    public_url: WebUrl = setting(
        "", DOORS, "URL that others reach this server by, where a proxy stands in between"
    )
    allowed_hosts: Annotated[str, AfterValidator(_host_names)] = setting(
        "", DOORS, "Names that clients may call this server by (Host), separated by commas; empty: any"
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] = setting(
        "", DOORS, "Origins of web pages that may read answers, separated by commas: https://viewer.example"
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = setting(
        "", DOORS, "Addresses or networks of proxies whose X-Forwarded-For and Forwarded are believed"
    )
    passkey_rp_id: Annotated[str, AfterValidator(_domain)] = setting(
        "", DOORS, "Domain that passkeys belong to, the host of public_url or one above; empty: that host"
    )
    passkey_origins: Annotated[str, AfterValidator(_origins)] = setting(
        "",
        DOORS,
        "Origins of further pages that may use passkeys, separated by commas, all under that domain",
    )
    http_tls_cert: Path | Literal[""] = setting(
        "", DOORS, "Certificate chain (PEM); makes the HTTP port speak HTTPS"
    )
    http_tls_key: Path | Literal[""] = setting("", DOORS, "Private key of that certificate (PEM)")
    http_tls_ca: Path | Literal[""] = setting(
        "", DOORS, "Authorities (PEM); when set, HTTPS clients must show a certificate of one of them"
    )
    http_tls_min: Literal["1.3", "1.2"] = setting("1.3", DOORS, "Oldest TLS version that HTTPS speaks")

    auth: Literal["required", "off"] = setting(
        "required", DOORS, "Whether HTTP asks who is there; off only where nobody but this machine gets in"
    )
    metrics_from_this_machine: bool = setting(
        False, DOORS, "Whether programs of this machine may read /metrics without a credential"
    )
    installation_key: SecretStr = setting(
        SecretStr(""),
        DOORS,
        "Signs access tokens, encrypts second factors and client secrets; empty: a file of the data folder",
        secret=True,
    )

    ae_title: Annotated[str, AfterValidator(_ae_title)] = setting("ISOCENTER", DICOM, "Our own AE title")
    calling_ae_titles: Literal["registered", "any"] = setting(
        "registered", DICOM, "Who may call: AE titles that were registered, or any; loopback always may"
    )
    accept_unknown_sop_classes: bool = setting(
        False, DICOM, "Store objects of SOP classes that the standard does not list (private ones too)"
    )
    dimse_max_pdu: Annotated[int, BeforeValidator(_size), Field(ge=4096, le=1 << 24)] = setting(
        128 << 10, DICOM, "Longest P-DATA PDU that we accept"
    )
    dimse_max_associations: Annotated[int, Field(ge=1)] = setting(
        200, DICOM, "Associations open at once; further ones are rejected for now"
    )
    dimse_artim_timeout_s: Seconds = setting(
        30.0, DICOM, "Seconds that a peer may take to ask for or to end an association (ARTIM, PS3.8 §9.1.5)"
    )
    dimse_idle_timeout_s: Seconds = setting(60.0, DICOM, "Seconds of silence after which we abort")
    dimse_response_timeout_s: Seconds = setting(
        60.0, DICOM, "Seconds that a system which we call may say nothing while it owes us an answer"
    )
    dimse_move_associations: Annotated[int, Field(ge=1, le=64)] = setting(
        1, DICOM, "Associations that one C-MOVE may use at once; with more than one objects may change places"
    )
    dimse_user_identity: Literal["ignore", "verify"] = setting(
        "ignore",
        DICOM,
        "User names with passcodes and tokens of associations: taken note of, or checked against accounts",
    )
    dicom_tls_cert: Path | Literal[""] = setting(
        "", DICOM, "Certificate chain (PEM); makes the DIMSE port speak TLS"
    )
    dicom_tls_key: Path | Literal[""] = setting("", DICOM, "Private key of that certificate (PEM)")
    dicom_tls_ca: Path | Literal[""] = setting(
        "", DICOM, "Authorities (PEM); when set, callers must show a certificate of one of them"
    )
    dicom_tls_peers_ca: Path | Literal[""] = setting(
        "",
        DICOM,
        "Authorities (PEM) of systems that we call; empty: those of dicom_tls_ca, else the system's",
    )
    dicom_tls_profile: Literal["bcp195", "bcp195-modified", "bcp195-nd"] = setting(
        "bcp195", DICOM, "TLS versions and cipher suites: PS3.15 B.12, B.13, or B.10 for older equipment"
    )

    validation: Literal["strict", "standard", "lenient"] = setting(
        "standard", INGEST, "How much of the standard an object must keep to; what fails is quarantined"
    )
    conflict_policy: Literal["reject", "keep-first", "replace", "keep-both"] = setting(
        "reject", INGEST, "What other bytes under a SOP Instance UID that is already here get"
    )
    batch_policy: Literal["accept-valid", "all-or-nothing"] = setting(
        "accept-valid", INGEST, "Whether one bad object refuses the whole STOW request or upload"
    )
    max_object_size: OptionalSize = setting(None, INGEST, "Largest object that is accepted; empty: no limit")

    memory_budget: Annotated[int, BeforeValidator(_size), Field(ge=1 << 20)] = setting(
        256 << 20, LIMITS, "Memory for objects on their way in, all senders together; beyond it they wait"
    )
    spool_threshold: Size = setting(
        16 << 20, LIMITS, "Objects larger than this go through a file instead of memory"
    )
    min_free_disk: Size = setting(
        1 << 30, LIMITS, "Below this much free space senders hear that we are out of space"
    )

    pixel_workers: Annotated[int, Field(ge=1, le=256)] = setting(
        2, PIXELS, "Processes that decode and encode pixels; started when they are needed"
    )
    pixel_memory: Annotated[int, BeforeValidator(_size), Field(ge=64 << 20)] = setting(
        2 << 30, PIXELS, "Memory that one of them may take for one piece of work"
    )
    pixel_time_s: Seconds = setting(30.0, PIXELS, "Seconds that one piece of work may take")
    store_as: Literal["received", "htj2k"] = setting(
        "received", PIXELS, "htj2k: uncompressed images are compressed without loss once they are safe"
    )
    transcode_cache: Size = setting(
        1 << 30, PIXELS, "Disk for objects in other transfer syntaxes, for who asks again; 0 keeps none"
    )

    thumbnail_after_s: Seconds = setting(
        60.0,
        HOUSEKEEPING,
        "Seconds without a change after which a series gets its thumbnail and its metadata",
    )
    sweep_interval_s: Seconds = setting(
        3600.0, HOUSEKEEPING, "Seconds between two rounds of retention and of the sweep for orphaned objects"
    )
    sweep_grace_s: Seconds = setting(
        86400.0, HOUSEKEEPING, "Age in seconds below which an object without an index entry is left alone"
    )

    query_log_days: Annotated[int, Field(ge=1, le=36500)] = setting(
        400, HOUSEKEEPING, "Days after which questions to many archives are forgotten by the query log"
    )

    log_format: Literal["text", "json"] = setting("text", LOGS, "One line of text or of JSON per event")
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", LOGS, "Least severe level shown"
    )

    audit_syslog: Annotated[str, AfterValidator(_host_and_port)] = setting(
        "", AUDIT, "host:port of an audit repository that gets DICOM audit messages (syslog over TLS)"
    )
    audit_syslog_ca: Path | Literal[""] = setting(
        "", AUDIT, "Authorities (PEM) of the repository's certificate; empty: the system's"
    )
    audit_syslog_cert: Path | Literal[""] = setting(
        "", AUDIT, "Certificate chain (PEM) that we show the repository"
    )
    audit_syslog_key: Path | Literal[""] = setting("", AUDIT, "Private key of that certificate (PEM)")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.http_port == self.dicom_port != 0:
            raise ValueError(f"http_port and dicom_port are both {self.http_port}; they need one each")
        if self.auth == "off" and not is_loopback(self.bind):
            raise ValueError(
                f"auth = off lets everybody do everything who reaches bind = {self.bind}; "
                "set bind to 127.0.0.1, or leave auth on"
            )
        for door in ("http", "dicom"):
            cert, key, ca = (getattr(self, f"{door}_tls_{part}") for part in ("cert", "key", "ca"))
            if (cert == "") != (key == ""):
                raise ValueError(f"{door}_tls_cert and {door}_tls_key go together: set both or neither")
            if ca != "" and cert == "":
                raise ValueError(f"{door}_tls_ca needs {door}_tls_cert and {door}_tls_key: set all three")
        _ = self.relying_party
        if self.database_migration_url and not urlsplit(self.database_url).username:
            raise ValueError(
                "database_migration_url needs a database_url that names the role to work under: "
                "postgresql://role:password@host/name"
            )
        if (self.audit_syslog_cert == "") != (self.audit_syslog_key == ""):
            raise ValueError("audit_syslog_cert and audit_syslog_key go together: set both or neither")
        sources = (
            self.encryption_master_key_file != "",
            bool(self.encryption_master_key.get_secret_value()),
            bool(self.encryption_master_key_command),
        )
        if sum(sources) > 1 or (self.encryption == "on" and not any(sources)):
            raise ValueError(
                "encryption needs one master key: set one of encryption_master_key_file, "
                "encryption_master_key and encryption_master_key_command"
            )
        if self.spool_threshold > self.memory_budget:
            raise ValueError(
                f"spool_threshold ({format_bytes(self.spool_threshold)}) is above memory_budget "
                f"({format_bytes(self.memory_budget)}); no object of that size could ever be let in"
            )
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Masked as everywhere: a settings object in a traceback gives nothing away."""
        return ((name, shown(name, getattr(self, name))) for name in Settings.model_fields)

    @property
    def data_folder(self) -> Path:
        """``data_dir``, absolute."""
        return self.data_dir.expanduser().absolute()

    @property
    def database_url_or_default(self) -> str:
        return self.database_url or f"sqlite:///{self.data_folder / 'isocenter.db'}"

    @property
    def storage_url_or_default(self) -> str:
        return self.storage_url or (self.data_folder / "objects").as_uri()

    @property
    def spool_folder(self) -> Path:
        return Path(self.spool_dir).expanduser().absolute() if self.spool_dir else self.data_folder / "spool"

    @property
    def viewer_folder(self) -> Path:
        return (
            Path(self.viewer_dir).expanduser().absolute() if self.viewer_dir else self.data_folder / "viewers"
        )

    @property
    def log_token_key_file(self) -> Path:
        return self.data_folder / "secrets" / "log-tokens.key"

    @property
    def public_url_or_default(self) -> str:
        """Without a trailing slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = "localhost" if self.bind in {"0.0.0.0", "::"} else self.bind  # noqa: S104
        scheme = "https" if self.http_tls_cert else "http"
        return (
            f"{scheme}://[{host}]:{self.http_port}" if ":" in host else f"{scheme}://{host}:{self.http_port}"
        )

    @property
    def relying_party(self) -> tuple[str, tuple[str, ...]]:
        """The domain that passkeys belong to, and the origins of pages that may use them."""
        return relying_party(
            self.public_url_or_default, rp_id=self.passkey_rp_id, origins=listed(self.passkey_origins)
        )

    @property
    def allowed_host_list(self) -> tuple[str, ...]:
        """With the host of ``public_url``; empty where any is answered."""
        own = urlsplit(self.public_url).hostname if self.public_url else None
        hosts = listed(self.allowed_hosts)
        return (*hosts, own) if hosts and own else hosts

    @property
    def cors_origin_list(self) -> tuple[str, ...]:
        return listed(self.cors_origins)

    @property
    def trusted_proxy_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        return tuple(map(ipaddress.ip_network, listed(self.trusted_proxies)))

    @property
    def http_tls_files(self) -> tuple[Path, Path, Path | None] | None:
        """Certificate, key and authorities; None where the door does not speak TLS."""
        return _tls_files(self.http_tls_cert, self.http_tls_key, self.http_tls_ca)

    @property
    def dicom_tls_peers_ca_file(self) -> Path | None:
        """None: those of the system."""
        return _file(self.dicom_tls_peers_ca or self.dicom_tls_ca)

    @property
    def dicom_tls_files(self) -> tuple[Path, Path, Path | None] | None:
        return _tls_files(self.dicom_tls_cert, self.dicom_tls_key, self.dicom_tls_ca)


def _file(path: Path | str) -> Path | None:
    return Path(path).expanduser() if path else None


def _tls_files(cert: Path | str, key: Path | str, ca: Path | str) -> tuple[Path, Path, Path | None] | None:
    if not cert:
        return None
    return Path(cert).expanduser(), Path(key).expanduser(), Path(ca).expanduser() if ca else None


def is_loopback(bind: str) -> bool:
    """Whether only programs of this machine reach what listens there."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def group_of(name: str) -> str:
    return str(_extra(name)["group"])


def is_secret(name: str) -> bool:
    return bool(_extra(name)["secret"])


def is_size(name: str) -> bool:
    """Whether the value is a number of bytes, which people read and write with a unit."""
    return any(
        isinstance(part, BeforeValidator) and part.func in {_size, _size_or_none}
        for part in Settings.model_fields[name].metadata
    )


def _extra(name: str) -> dict[str, Any]:
    extra = Settings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra


def shown(name: str, value: object) -> str:
    """A value as a person reads it: sizes with a unit, secrets and the passwords in URLs masked."""
    if is_secret(name):
        bare = value.get_secret_value() if isinstance(value, SecretStr) else value
        return "********" if bare else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_size(name) and isinstance(value, int):
        return format_bytes(value)
    if isinstance(value, float):
        return f"{value:g}"
    masked = re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:********@", str(value))
    return re.sub(r"(?<=[?&]password=)[^&]*", "********", masked)
