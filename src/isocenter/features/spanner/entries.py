"""What administrators set up: sources, and configurations that say which of them are asked, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from isocenter.dicom.levels import Level


class SourceType(StrEnum):
    """MISSION B2. NAS indexes are no sources yet."""

    DIMSE = "dimse"
    DICOMWEB = "dicomweb"
    LOCAL = "local"  # this archive
    MODALITY = "modality"  # asked by DIMSE, where it answers queries at all


class FailureStrategy(StrEnum):
    PARTIAL_RESULTS = "partial_results"  # what came is the answer
    FAIL_FAST = "fail_fast"  # the first failure ends the query
    ALL_REQUIRED = "all_required"  # all are waited for, and all have to answer


class Authentication(StrEnum):
    """Of a DICOMweb source."""

    NONE = "none"
    BASIC = "basic"  # RFC 7617
    BEARER = "bearer"  # RFC 6750
    HEADER = "header"  # a header of the source's own, such as X-Api-Key


@dataclass(frozen=True, slots=True)
class Quirks:
    """What a source does otherwise than the standard has it, as data.

    ``wildcards`` and ``ranges``: whether it understands them; where not, the key is sent empty and its rows
    are matched here. ``character_set``: the Defined Term (PS3.3 C.12.1.1.2) that its text is in, whatever it
    declares; empty: it is right about that. ``results_max``: it gives no more than so many rows, without
    saying so; 0: as many as there are. ``patient_root``: it is asked by the patient root model.
    ``upper_case_names``: it finds names only if they are written in upper case. ``needs``: keywords of which
    a question at that level must hold one with a value, or the source is not asked. ``unreturned``: keywords
    that it matches on without returning them. ``escapes``: whether it understands what is escaped in an
    address (%5E); where not, a wild card stands for it. ``relational``: by C-FIND it answers for series and
    instances without being told the study (PS3.4 C.4.1.2.2). ``moves``: objects are had from it by C-MOVE to
    us even where it knows C-GET.
    """

    wildcards: bool = True
    ranges: bool = True
    character_set: str = ""
    results_max: int = 0
    patient_root: bool = False
    upper_case_names: bool = False
    needs: Mapping[Level, tuple[str, ...]] = field(default_factory=dict)
    unreturned: frozenset[str] = frozenset()
    escapes: bool = True
    relational: bool = False
    moves: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source is asked to bear. ``at_once``: questions under way; ``waiting``: questions in line for
    them, more are refused; ``per_second``: questions begun; 0: as many as come."""

    at_once: int = 4
    waiting: int = 256
    per_second: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """``issuer``: who gives out its patient IDs, where its answers do not say it. ``secret`` is the password
    or token, sealed; ``user`` the user name, or the header's name. ``version`` counts changes.
    Times: µs since 1970 UTC."""

    id: int
    name: str
    type: SourceType
    enabled: bool = True
    description: str = ""
    issuer: str = ""
    ae_title: str = ""
    calling_ae_title: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    tls_name: str = ""
    url: str = ""
    authentication: Authentication = Authentication.NONE
    user: str = ""
    secret: str = ""
    limits: Limits = Limits()
    quirks: Quirks = Quirks()
    version: int = 1
    created_at_us: int = 0


@dataclass(frozen=True, slots=True)
class Configuration:
    """MISSION B3. ``max_concurrent_sources``: asked at the same time, 0: all; ``timeout_seconds``: for a
    source, all its attempts together; ``retry_attempts``: after the first. ``deduplication_enabled``: rows
    of one entity are one answer. ``enterprise_mode``: a question must name somebody or something.
    ``keep_retrieved``: objects that are retrieved through it are archived here."""

    id: int
    name: str
    description: str = ""
    max_concurrent_sources: int = 0
    timeout_seconds: float = 10.0
    retry_attempts: int = 1
    failure_strategy: FailureStrategy = FailureStrategy.PARTIAL_RESULTS
    deduplication_enabled: bool = True
    enterprise_mode: bool = False
    ae_title: str = ""
    cache_seconds: int = 5
    keep_retrieved: bool = False
    version: int = 1
    created_at_us: int = 0


@dataclass(frozen=True, slots=True)
class Mapped:
    """A source in a configuration. ``priority``: 1 is trusted most and asked first; ``timeout_override``: in
    seconds, instead of the configuration's."""

    source: Source
    priority: int = 100
    timeout_override: float | None = None
