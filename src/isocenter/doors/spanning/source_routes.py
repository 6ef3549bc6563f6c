"""``/api/v1/sources``: the systems that can be asked, and how they do (MISSION B2)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from isocenter.dicom.levels import Level
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.witness import Witness
from isocenter.features.spanner.breaker import BreakerState
from isocenter.features.spanner.entries import Authentication, Limits, Quirks, Source, SourceType
from isocenter.features.spanner.failures import Ended
from isocenter.features.spanner.service import Health, Spanner
from isocenter.features.spanner.sources import Sources
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

SourceId = Annotated[int, Path(ge=1, lt=1 << 62)]
Keyword = Annotated[str, Field(max_length=64)]


class LimitsModel(BaseModel):
    """``at_once``: questions under way; ``waiting``: in line for them, more are refused; ``per_second``:
    questions begun, 0: as many as come."""

    model_config = ConfigDict(extra="forbid")
    at_once: Annotated[int, Field(ge=1, le=1000, strict=True)] = 4
    waiting: Annotated[int, Field(ge=0, le=100_000, strict=True)] = 256
    per_second: Annotated[int, Field(ge=0, le=100_000, strict=True)] = 0


class QuirksModel(BaseModel):
    """What the source does otherwise than the standard has it.

    ``wildcards``, ``ranges``: whether it understands them. ``character_set``: what its text is in, whatever
    it declares. ``results_max``: it gives no more rows, without saying so; 0: as many as there are.
    ``patient_root``: asked by the patient root model. ``upper_case_names``: finds names in upper case only.
    ``needs``: by level, keywords of which a question must hold one with a value. ``unreturned``: keywords
    that it matches on without returning them. ``escapes``: whether a DICOMweb server understands what is
    escaped in an address (%5E). ``relational``: by C-FIND it answers for series and instances without being
    told the study. ``moves``: objects are had from it by C-MOVE to us even where it knows C-GET.
    """

    model_config = ConfigDict(extra="forbid")
    wildcards: StrictBool = True
    ranges: StrictBool = True
    character_set: Annotated[str, Field(max_length=200)] = ""
    results_max: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 0
    patient_root: StrictBool = False
    upper_case_names: StrictBool = False
    needs: dict[Level, Annotated[list[Keyword], Field(max_length=20)]] = {}
    unreturned: Annotated[list[Keyword], Field(max_length=20)] = []
    escapes: StrictBool = True
    relational: StrictBool = False
    moves: StrictBool = False


class SourceFields(BaseModel):
    """By ``type``: ``dimse`` and ``modality`` need ae_title, host and port; ``dicomweb`` a url, and secret
    (a password or token) with authentication, user being the user's or the header's name; ``local`` is this
    archive. ``issuer``: who gives out its patient IDs, where its answers do not say it.

    ``secret`` is never shown again; left out when changing, it stays.
    """

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=64)]
    type: SourceType
    enabled: StrictBool = True
    description: Annotated[str, Field(max_length=500)] = ""
    issuer: Annotated[str, Field(max_length=500)] = ""
    ae_title: Annotated[str, Field(max_length=64)] = ""
    calling_ae_title: Annotated[str, Field(max_length=64)] = ""
    host: Annotated[str, Field(max_length=255)] = ""
    port: Annotated[int, Field(ge=0, le=65535, strict=True)] = 0
    tls: StrictBool = False
    tls_name: Annotated[str, Field(max_length=255)] = ""
    url: Annotated[str, Field(max_length=1000)] = ""
    authentication: Authentication = Authentication.NONE
    user: Annotated[str, Field(max_length=255)] = ""
    secret: Annotated[str, Field(max_length=4000)] | None = None
    limits: LimitsModel = LimitsModel()
    quirks: QuirksModel = QuirksModel()


class SourceModel(BaseModel):
    id: int
    name: str
    type: SourceType
    enabled: bool
    description: str
    issuer: str
    ae_title: str
    calling_ae_title: str
    host: str
    port: int
    tls: bool
    tls_name: str
    url: str
    authentication: Authentication
    user: str
    has_secret: bool
    limits: LimitsModel
    quirks: QuirksModel
    version: int
    created_at: datetime


class SourcesModel(BaseModel):
    sources: list[SourceModel]


class MishapModel(BaseModel):
    at: datetime
    ended: Ended
    detail: str


class HealthModel(BaseModel):
    """``echo_ms``: how long it took to answer this call; ``median_ms``: questions of late. ``breaker``: open:
    it is left alone, since it failed again and again. ``mishaps``: the latest first."""

    id: int
    name: str
    reachable: bool
    echo_ms: float | None
    supports: list[str]
    problem: str
    remedy: str
    breaker: BreakerState
    median_ms: float | None
    mishaps: list[MishapModel]


class Removed(BaseModel):
    removed: int


def source_router(
    sources: Sources, spanner: Spanner, gate: Gate, recorder: Recorder | None = None
) -> APIRouter:
    """The routes over the subject's own organisation."""
    router = APIRouter(prefix="/api/v1/sources", tags=["spanner"])
    witness = Witness(recorder or NoRecorder(), "source")
    reads, manages = gate.needs(Permission.SOURCES_READ), gate.needs(Permission.SOURCES_MANAGE)

    @router.get("")
    async def list_sources(request: Request, subject: Subject = reads) -> SourcesModel:
        async with witness.of(request, Action.READ):
            found = await sources.all(subject.organization_id)
            return SourcesModel(sources=[source_model(one) for one in found])

    @router.post("", status_code=201)
    async def add(
        request: Request, response: Response, asked: SourceFields, subject: Subject = manages
    ) -> SourceModel:
        async with witness.of(request, Action.CHANGE, asked.name, durable=True) as told:
            told["what"] = "added"
            made = await sources.add(subject.organization_id, _source(0, asked))
            response.headers["location"] = f"/api/v1/sources/{made.id}"
            return source_model(made)

    @router.get("/{source_id}")
    async def show(request: Request, source_id: SourceId, subject: Subject = reads) -> SourceModel:
        async with witness.of(request, Action.READ, str(source_id)):
            return source_model(await sources.get(subject.organization_id, source_id))

    @router.put("/{source_id}")
    async def change(
        request: Request, source_id: SourceId, asked: SourceFields, subject: Subject = manages
    ) -> SourceModel:
        async with witness.of(request, Action.CHANGE, str(source_id), durable=True) as told:
            told |= {"name": asked.name, "secret": asked.secret is not None}
            changed = await sources.change(
                subject.organization_id, _source(source_id, asked), keep_secret=asked.secret is None
            )
            spanner.forget(subject.organization_id)
            return source_model(changed)

    @router.delete("/{source_id}")
    async def remove(request: Request, source_id: SourceId, subject: Subject = manages) -> Removed:
        async with witness.of(request, Action.DELETE, str(source_id), durable=True):
            await sources.remove(subject.organization_id, source_id)
            spanner.forget_source(subject.organization_id, source_id)
            return Removed(removed=1)

    @router.get("/{source_id}/health")
    async def health(request: Request, source_id: SourceId, subject: Subject = reads) -> HealthModel:
        """Calls it, and tells how it did of late."""
        async with witness.of(request, Action.READ, str(source_id)) as told:
            source = await sources.get(subject.organization_id, source_id)
            found = await spanner.health(subject.organization_id, source)
            told["reachable"] = found.is_reachable
            return health_model(source, found)

    return router


def _source(source_id: int, asked: SourceFields) -> Source:
    values = asked.model_dump(exclude={"secret", "limits", "quirks"})
    quirks = asked.quirks.model_dump()
    quirks["needs"] = {level: tuple(keywords) for level, keywords in asked.quirks.needs.items()}
    quirks["unreturned"] = frozenset(asked.quirks.unreturned)
    return Source(
        source_id,
        **values,
        secret=asked.secret or "",
        limits=Limits(**asked.limits.model_dump()),
        quirks=Quirks(**quirks),
    )


def source_model(one: Source) -> SourceModel:
    quirks = one.quirks
    return SourceModel(
        id=one.id,
        name=one.name,
        type=one.type,
        enabled=one.enabled,
        description=one.description,
        issuer=one.issuer,
        ae_title=one.ae_title,
        calling_ae_title=one.calling_ae_title,
        host=one.host,
        port=one.port,
        tls=one.tls,
        tls_name=one.tls_name,
        url=one.url,
        authentication=one.authentication,
        user=one.user,
        has_secret=bool(one.secret),
        limits=LimitsModel(
            at_once=one.limits.at_once, waiting=one.limits.waiting, per_second=one.limits.per_second
        ),
        quirks=QuirksModel(
            wildcards=quirks.wildcards,
            ranges=quirks.ranges,
            character_set=quirks.character_set,
            results_max=quirks.results_max,
            patient_root=quirks.patient_root,
            upper_case_names=quirks.upper_case_names,
            needs={level: list(keywords) for level, keywords in quirks.needs.items()},
            unreturned=sorted(quirks.unreturned),
            escapes=quirks.escapes,
            relational=quirks.relational,
            moves=quirks.moves,
        ),
        version=one.version,
        created_at=instant(one.created_at_us),
    )


def health_model(source: Source, found: Health) -> HealthModel:
    return HealthModel(
        id=source.id,
        name=source.name,
        reachable=found.is_reachable,
        echo_ms=round(found.reached.echo_s * 1000, 1) if found.reached else None,
        supports=list(found.reached.supports) if found.reached else [],
        problem=found.problem,
        remedy=found.remedy,
        breaker=found.breaker,
        median_ms=None if found.median_s is None else round(found.median_s * 1000, 1),
        mishaps=[
            MishapModel(at=instant(one.at_us), ended=one.ended, detail=one.detail) for one in found.mishaps
        ],
    )
