"""``/api/v1/config/spanner/``: which sources are asked together, and how (MISSION B3)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.witness import Witness
from isocenter.doors.spanning.source_routes import Removed, SourceId
from isocenter.features.spanner.checking import CACHE_S_MAX, PRIORITY_MAX, RETRIES_MAX, TIMEOUT_S_MAX
from isocenter.features.spanner.configurations import Configurations, SetUp
from isocenter.features.spanner.entries import Configuration, FailureStrategy, Mapped, SourceType
from isocenter.features.spanner.service import Spanner
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

ConfigId = Annotated[int, Path(ge=1, lt=1 << 62)]
Seconds = Annotated[float, Field(ge=0.1, le=TIMEOUT_S_MAX, strict=True)]


class ConfigurationFields(BaseModel):
    """``max_concurrent_sources``: asked at the same time, 0: all. ``timeout_seconds``: for each source, all
    its attempts together; ``retry_attempts``: after the first. ``deduplication_enabled``: rows of one
    entity are one answer. ``enterprise_mode``: a question must name somebody or something.
    ``ae_title``: what workstations call to ask all of it; empty: none. ``cache_seconds``: how old an answer
    may be that is given to who asks the same. ``keep_retrieved``: objects that are retrieved through it are
    archived here."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: Annotated[str, Field(max_length=500)] = ""
    max_concurrent_sources: Annotated[int, Field(ge=0, le=1000, strict=True)] = 0
    timeout_seconds: Seconds = 10.0
    retry_attempts: Annotated[int, Field(ge=0, le=RETRIES_MAX, strict=True)] = 1
    failure_strategy: FailureStrategy = FailureStrategy.PARTIAL_RESULTS
    deduplication_enabled: StrictBool = True
    enterprise_mode: StrictBool = False
    ae_title: Annotated[str, Field(max_length=64)] = ""
    cache_seconds: Annotated[int, Field(ge=0, le=CACHE_S_MAX, strict=True)] = 5
    keep_retrieved: StrictBool = False


class ConfigurationModel(ConfigurationFields):
    id: int
    version: int
    created_at: datetime


class ConfigurationsModel(BaseModel):
    configurations: list[ConfigurationModel]


class MappedFields(BaseModel):
    """``priority``: 1 is trusted most: of what sources contradict each other in, its values are shown.
    ``timeout_override``: in seconds, instead of the configuration's. ``source_type``, where it is given, must
    be its type."""

    model_config = ConfigDict(extra="forbid")
    source_id: Annotated[int, Field(ge=1, lt=1 << 62, strict=True)]
    source_type: SourceType | None = None
    priority: Annotated[int, Field(ge=1, le=PRIORITY_MAX, strict=True)] = 100
    timeout_override: Seconds | None = None


class MappedModel(BaseModel):
    source_id: int
    source_name: str
    source_type: SourceType
    enabled: bool
    priority: int
    timeout_override: float | None


class SetUpModel(ConfigurationModel):
    sources: list[MappedModel]


class MappedSources(BaseModel):
    sources: list[MappedModel]


def configuration_router(
    configurations: Configurations, spanner: Spanner, gate: Gate, recorder: Recorder | None = None
) -> APIRouter:
    """The routes over the subject's own organisation."""
    router = APIRouter(prefix="/api/v1/config/spanner", tags=["spanner"])
    witness = Witness(recorder or NoRecorder(), "spanner-config")
    reads, manages = gate.needs(Permission.SOURCES_READ), gate.needs(Permission.SOURCES_MANAGE)

    @router.get("/")
    async def list_configurations(request: Request, subject: Subject = reads) -> ConfigurationsModel:
        async with witness.of(request, Action.READ):
            found = await configurations.all(subject.organization_id)
            return ConfigurationsModel(configurations=[_configuration_model(one) for one in found])

    @router.post("/", status_code=201)
    async def add(
        request: Request, response: Response, asked: ConfigurationFields, subject: Subject = manages
    ) -> ConfigurationModel:
        async with witness.of(request, Action.CHANGE, asked.name, durable=True) as told:
            told["what"] = "added"
            made = await configurations.add(subject.organization_id, _configuration(0, asked))
            response.headers["location"] = f"/api/v1/config/spanner/{made.id}"
            return _configuration_model(made)

    @router.get("/{config_id}")
    async def show(request: Request, config_id: ConfigId, subject: Subject = reads) -> SetUpModel:
        async with witness.of(request, Action.READ, str(config_id)):
            return set_up_model(await configurations.get(subject.organization_id, config_id))

    @router.put("/{config_id}")
    async def change(
        request: Request, config_id: ConfigId, asked: ConfigurationFields, subject: Subject = manages
    ) -> ConfigurationModel:
        async with witness.of(request, Action.CHANGE, str(config_id), durable=True) as told:
            told["name"] = asked.name
            changed = await configurations.change(subject.organization_id, _configuration(config_id, asked))
            spanner.forget(subject.organization_id)
            return _configuration_model(changed)

    @router.delete("/{config_id}")
    async def remove(request: Request, config_id: ConfigId, subject: Subject = manages) -> Removed:
        async with witness.of(request, Action.DELETE, str(config_id), durable=True):
            await configurations.remove(subject.organization_id, config_id)
            spanner.forget(subject.organization_id)
            return Removed(removed=1)

    @router.get("/{config_id}/sources/")
    async def list_mapped(request: Request, config_id: ConfigId, subject: Subject = reads) -> MappedSources:
        async with witness.of(request, Action.READ, str(config_id)):
            found = await configurations.get(subject.organization_id, config_id)
            return MappedSources(sources=[_mapped_model(one) for one in found.sources])

    @router.post("/{config_id}/sources/", status_code=201)
    async def put_source(
        request: Request, config_id: ConfigId, asked: MappedFields, subject: Subject = manages
    ) -> MappedModel:
        """Ask that source too, or otherwise than before."""
        async with witness.of(request, Action.CHANGE, str(config_id), durable=True) as told:
            told |= {"source": asked.source_id, "priority": asked.priority}
            found = await configurations.put_source(
                subject.organization_id,
                config_id,
                asked.source_id,
                source_type=asked.source_type,
                priority=asked.priority,
                timeout_override=asked.timeout_override,
            )
            spanner.forget(subject.organization_id)
            return _mapped_model(found)

    @router.delete("/{config_id}/sources/{source_id}")
    async def remove_source(
        request: Request, config_id: ConfigId, source_id: SourceId, subject: Subject = manages
    ) -> Removed:
        async with witness.of(request, Action.DELETE, str(config_id), durable=True) as told:
            told["source"] = source_id
            await configurations.remove_source(subject.organization_id, config_id, source_id)
            spanner.forget(subject.organization_id)
            return Removed(removed=1)

    return router


def _configuration(config_id: int, asked: ConfigurationFields) -> Configuration:
    return Configuration(config_id, **asked.model_dump())


def _configuration_model(one: Configuration) -> ConfigurationModel:
    return ConfigurationModel.model_validate(_fields(one))


def _fields(one: Configuration) -> dict[str, object]:
    values = {name: getattr(one, name) for name in ConfigurationFields.model_fields}
    return values | {"id": one.id, "version": one.version, "created_at": instant(one.created_at_us)}


def set_up_model(found: SetUp) -> SetUpModel:
    return SetUpModel.model_validate(
        _fields(found.configuration) | {"sources": [_mapped_model(one) for one in found.sources]}
    )


def _mapped_model(one: Mapped) -> MappedModel:
    return MappedModel(
        source_id=one.source.id,
        source_name=one.source.name,
        source_type=one.source.type,
        enabled=one.source.enabled,
        priority=one.priority,
        timeout_override=one.timeout_override,
    )
