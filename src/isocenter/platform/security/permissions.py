"""The one table of what each role may do (MISSION E1). ``docs/permissions.md`` is made of it."""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """What a route or a DIMSE service asks for. An API key's scopes are some of these."""

    STUDIES_SEARCH = "studies:search"
    STUDIES_RETRIEVE = "studies:retrieve"
    STUDIES_STORE = "studies:store"
    STUDIES_DELETE = "studies:delete"
    WORKLIST_READ = "worklist:read"
    WORKLIST_MANAGE = "worklist:manage"
    WORKLIST_PERFORM = "worklist:perform"
    QUARANTINE_READ = "quarantine:read"
    QUARANTINE_SETTLE = "quarantine:settle"
    DELETIONS_READ = "deletions:read"
    DELETIONS_SETTLE = "deletions:settle"
    PATIENTS_READ = "patients:read"
    PATIENTS_MANAGE = "patients:manage"
    CHANGES_READ = "changes:read"
    STATISTICS_READ = "statistics:read"
    AE_TITLES_READ = "ae-titles:read"
    AE_TITLES_MANAGE = "ae-titles:manage"
    SPANNER_SEARCH = "spanner:search"
    SPANNER_RETRIEVE = "spanner:retrieve"
    SOURCES_READ = "sources:read"
    SOURCES_MANAGE = "sources:manage"
    COMMITMENTS_READ = "commitments:read"
    COMMITMENTS_MANAGE = "commitments:manage"
    USERS_READ = "users:read"
    USERS_MANAGE = "users:manage"
    KEYS_MANAGE = "keys:manage"
    ORGANIZATION_MANAGE = "organization:manage"
    ORGANIZATIONS_MANAGE = "organizations:manage"
    AUDIT_READ = "audit:read"
    LOGS_RESOLVE = "logs:resolve"
    METRICS_READ = "metrics:read"


class Role(StrEnum):
    """What a user is in their organisation."""

    CLINICIAN = "clinician"
    RADIOGRAPHER = "radiographer"
    RADIOLOGIST = "radiologist"
    ADMIN = "admin"
    SERVICE = "service"  # a program rather than a person


_READS = frozenset(
    {
        Permission.STUDIES_SEARCH,
        Permission.STUDIES_RETRIEVE,
        Permission.SPANNER_SEARCH,
        Permission.SPANNER_RETRIEVE,
    }
)
_STORES = frozenset({Permission.STUDIES_STORE})
_PERFORMS = frozenset({Permission.WORKLIST_READ, Permission.WORKLIST_PERFORM})
_SETTLES = frozenset({Permission.QUARANTINE_READ, Permission.QUARANTINE_SETTLE})
_SCHEDULES = frozenset({Permission.WORKLIST_READ, Permission.WORKLIST_MANAGE})

OPERATOR_PERMISSIONS = frozenset({Permission.ORGANIZATIONS_MANAGE, Permission.METRICS_READ})
"""What reaches beyond one organisation; for the few who run the installation, whatever their role."""

PERMISSIONS_OF_ROLE: dict[Role, frozenset[Permission]] = {
    Role.CLINICIAN: _READS | {Permission.WORKLIST_READ},
    Role.RADIOGRAPHER: _READS
    | _STORES
    | _PERFORMS
    | _SCHEDULES
    | _SETTLES
    | {Permission.PATIENTS_READ, Permission.PATIENTS_MANAGE}
    | {Permission.DELETIONS_READ, Permission.STATISTICS_READ, Permission.SOURCES_READ},
    Role.RADIOLOGIST: _READS | _STORES | _PERFORMS | {Permission.PATIENTS_READ},
    Role.ADMIN: frozenset(Permission) - OPERATOR_PERMISSIONS,
    Role.SERVICE: _READS
    | _STORES
    | {Permission.CHANGES_READ, Permission.STATISTICS_READ}
    | {Permission.COMMITMENTS_READ, Permission.COMMITMENTS_MANAGE},
}
