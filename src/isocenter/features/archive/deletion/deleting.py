"""Taking studies, series and instances out of the index; what they were waits beside it (ADR 0022).

The objects themselves stay in the store until the orphan sweep finds that nothing refers to them: deleting
them here could take away bytes that another row shares (content addresses) or that are being received again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.features.archive import changes, queries
from isocenter.features.archive.deletion import queries as statements
from isocenter.features.archive.policies import FIND_SETTINGS
from isocenter.features.archive.recount import recount_series
from isocenter.features.archive.said import Said
from isocenter.features.archive.usage import Growth
from isocenter.kit.clock import DAY_US
from isocenter.kit.errors import NotFound
from isocenter.platform.db import Row, Work

GRACE_DAYS = 30
"""Where an organisation has not said how long what it deletes can be restored (``deletion_grace_days``)."""

_KEPT_OF_INSTANCE = (
    *("current", "transfer_syntax_uid", "received_sha256", "received_transfer_syntax_uid"),
    *("duplicate_count", "door", "peer", "received_at_us"),
)
_SHOWN = frozenset({"00100010", "00100020", "00100021", "00080020", "00081030"})
"""Name, ID and its issuer, study date and description: for whoever wonders what was deleted."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """``instances``: those that were current. ``deletion``: what restores them; empty where there is no
    grace."""

    instances: int
    deletion: str


@dataclass(frozen=True, slots=True)
class Scope:
    """A study; one of its series; one instance of that."""

    study: str
    series: str = ""
    instance: str = ""


def delete_rows(organization_id: int, scopes: Sequence[Scope], said: Said) -> Work[Deleted]:
    """All of them as one deletion; whoever calls has locked the studies (``turns.py``).

    Series and studies that are left empty go too, and a patient with the last study: the index knows nothing
    of a patient but what objects said. The change feed gets an entry for each. Raises NotFound when there is
    nothing of that name.
    """
    aside = yield from _open_deletion(organization_id, scopes, said)
    growth, told, instances = Growth(), [], 0
    for scope in scopes:
        rows = yield from _take(organization_id, scope, said.now_us, aside)
        current = sum(row["current"] for row in rows)
        if aside is None:
            for row in rows:
                growth.take(row["size"])
        instances += current
        told.append(_told(scope, current, said, aside))
    if aside is not None:
        [there] = yield statements.COUNT_OBJECTS(organization_id=organization_id, deletion_pk=aside.pk)
        yield statements.SET_CONTENTS(
            organization_id=organization_id, id=aside.pk, objects=there["objects"], bytes=int(there["bytes"])
        )
    yield from changes.append(organization_id, told, growth, said.now_us)
    return Deleted(instances, aside.public_id if aside else "")


@dataclass(frozen=True, slots=True)
class _Aside:
    """The deletion that the rows go to."""

    pk: int
    public_id: str


def _open_deletion(organization_id: int, scopes: Sequence[Scope], said: Said) -> Work[_Aside | None]:
    rows = yield FIND_SETTINGS(organization_id=organization_id)
    days = orjson.loads(rows[0]["settings"]).get("deletion_grace_days")
    days = GRACE_DAYS if days is None else days
    if not days:
        return None
    one = scopes[0] if len(scopes) == 1 else Scope("")
    public_id = secrets.token_hex(16)
    [row] = yield statements.INSERT_DELETION(
        organization_id=organization_id,
        public_id=public_id,
        study=one.study,
        series=one.series,
        instance=one.instance,
        reason=said.reason,
        deleted_by=said.by,
        known=(yield from _known(organization_id, scopes)),
        now_us=said.now_us,
        purge_at_us=said.now_us + days * DAY_US,
    )
    return _Aside(row["id"], public_id)


def _known(organization_id: int, scopes: Sequence[Scope]) -> Work[str]:
    """DICOM JSON of whose it is; of the study, too, where it is only one."""
    rows = yield statements.FIND_WHOSE(organization_id=organization_id, study=scopes[0].study)
    lines = [line for row in rows for line in row["patient"].split("\n")]
    if len(scopes) == 1:
        lines += [line for row in rows for line in row["study"].split("\n")]
    return "{" + ",".join(sorted(line for line in lines if line[1:9] in _SHOWN)) + "}"


def _take(organization_id: int, scope: Scope, now_us: int, aside: _Aside | None) -> Work[list[Row]]:
    """The rows of the instances, which are gone."""
    found = yield queries.LOCK_STUDY(organization_id=organization_id, study_instance_uid=scope.study)
    if not found:
        raise _unknown("study")
    within: dict[str, Any] = {"organization_id": organization_id, "study_pk": found[0]["id"]}
    found = yield (
        statements.FIND_ONE_SERIES(**within, series=scope.series)
        if scope.series
        else statements.FIND_SERIES(**within)
    )
    if scope.series and not found:
        raise _unknown("series")
    of_series: dict[str, Any] = {
        "organization_id": organization_id,
        "series_pks": [row["id"] for row in found],
    }
    rows = yield (
        statements.TAKE_ONE(**of_series, instance=scope.instance)
        if scope.instance
        else statements.TAKE_OF_SERIES(**of_series)
    )
    if scope.instance and not rows:
        raise _unknown("instance")
    if aside is not None:
        uids = {row["id"]: row[1] for row in (yield statements.FIND_SERIES_UIDS(**of_series))}
        yield statements.INSERT_DELETED_OBJECT.many(
            [_put_aside(organization_id, aside, scope.study, uids[row["series_pk"]], row) for row in rows]
        )
    yield from recount_series(organization_id, of_series["series_pks"], now_us)
    return rows


def _put_aside(
    organization_id: int, aside: _Aside, study: str, series: str, row: Row
) -> dict[str, str | int]:
    kept = {name: row[name] for name in _KEPT_OF_INSTANCE}
    return {
        "organization_id": organization_id,
        "deletion_pk": aside.pk,
        "study": study,
        "series": series,
        "sop_instance_uid": row["sop_instance_uid"],
        "object_key": row["object_key"],
        "size": row["size"],
        "header_size": row["header_size"],
        "sha256": row["sha256"],
        "version": row["version"],
        "instance": orjson.dumps(kept).decode(),
    }


def _told(scope: Scope, instances: int, said: Said, aside: _Aside | None) -> changes.Told:
    detail: dict[str, object] = {"instances": instances}
    if said.reason:
        detail["reason"] = said.reason
    if aside is not None:
        detail["deletion"] = aside.public_id
    return changes.Told("deleted", scope.study, scope.series, scope.instance, detail)


def _unknown(what: str) -> NotFound:
    return NotFound(f"There is no such {what} here.", code=f"no-such-{what}")
