"""Which instance stands for a study or a series in a picture (PS3.18 §10.4.1.1.3 and .5 leave it open).

Of a study, the first series (by Series Number) of images that are made by looking at the patient; where there
is none, the first of derived ones (segmentations, dose, maps); of a series, the instance in the middle. Where
nothing has pixels, the first instance, which an icon can stand for.
"""

from __future__ import annotations

from isocenter.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.features.archive.presented import presented
from isocenter.features.archive.retrieve import INSTANCE_COLUMNS, StoredInstance, instance_of_row
from isocenter.kit.errors import NotFound
from isocenter.platform.db import Database, Sql, Work
from isocenter.platform.storage.interface import ObjectStore

DERIVED_MODALITIES = ("SEG", "RTDOSE", "REG", "FID", "PR", "KO", "SR", "M3D", "OT", "DOC")

# What is deflated may have pixels too, somewhere.
_SHOWN = (
    "(instance.pixel_offset IS NOT NULL"
    f" OR instance.transfer_syntax_uid = '{DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}')"
)
_SERIES = f"""
    SELECT series.id AS series_pk, count(*) AS held
    FROM study
    JOIN series ON series.organization_id = study.organization_id AND series.study_pk = study.id
    JOIN instance ON instance.series_pk = series.id AND instance.current = 1 AND {_SHOWN}
    WHERE study.organization_id = :organization_id AND study.study_instance_uid = :study
"""  # noqa: S608 - constants only
_FIRST_SERIES = """
    GROUP BY series.id, series.modality, series.series_number
    ORDER BY CASE WHEN series.modality IN :derived THEN 1 ELSE 0 END,
             series.series_number IS NULL, series.series_number, series.id
    LIMIT 1
"""
FIND_SERIES_OF_STUDY = Sql(_SERIES + _FIRST_SERIES)
FIND_SERIES = Sql(_SERIES + " AND series.series_instance_uid = :series" + _FIRST_SERIES)

FIND_IN_THE_MIDDLE = Sql(f"""
    SELECT {INSTANCE_COLUMNS}
    FROM series
    JOIN study ON study.id = series.study_pk
    JOIN instance ON instance.series_pk = series.id AND instance.current = 1 AND {_SHOWN}
    WHERE series.organization_id = :organization_id AND series.id = :series_pk
    ORDER BY instance.instance_number IS NULL, instance.instance_number, instance.id
    LIMIT 1 OFFSET :before
""")  # noqa: S608 - constants only

_FIRST_OF_ALL = f"""
    SELECT {INSTANCE_COLUMNS}
    FROM study
    JOIN series ON series.organization_id = study.organization_id AND series.study_pk = study.id
    JOIN instance ON instance.series_pk = series.id AND instance.current = 1
    WHERE study.organization_id = :organization_id AND study.study_instance_uid = :study
"""  # noqa: S608 - constants only
_IN_ORDER = """
    ORDER BY series.series_number IS NULL, series.series_number, series.id,
             instance.instance_number IS NULL, instance.instance_number, instance.id
    LIMIT 1
"""
FIND_FIRST_OF_STUDY = Sql(_FIRST_OF_ALL + _IN_ORDER)
FIND_FIRST_OF_SERIES = Sql(_FIRST_OF_ALL + " AND series.series_instance_uid = :series" + _IN_ORDER)


async def find_representative(
    database: Database, store: ObjectStore, organization_id: int, study: str, series: str = ""
) -> StoredInstance:
    """The instance that stands for the study, or for one of its series. Raises NotFound when there is
    none."""
    found = await database.read(_find, organization_id, study, series)
    if found is None:
        what = "series" if series else "study"
        raise NotFound(f"There is no such {what} here.", code=f"no-such-{what}")
    [leaving] = await presented(store, [found])
    return leaving


def _find(organization_id: int, study: str, series: str) -> Work[StoredInstance | None]:
    scope = {"organization_id": organization_id, "study": study}
    if series:
        rows = yield FIND_SERIES(**scope, series=series, derived=DERIVED_MODALITIES)
    else:
        rows = yield FIND_SERIES_OF_STUDY(**scope, derived=DERIVED_MODALITIES)
    if rows:
        rows = yield FIND_IN_THE_MIDDLE(
            organization_id=organization_id, series_pk=rows[0]["series_pk"], before=rows[0]["held"] // 2
        )
    elif series:
        rows = yield FIND_FIRST_OF_SERIES(**scope, series=series)
    else:
        rows = yield FIND_FIRST_OF_STUDY(**scope)
    return instance_of_row(rows[0]) if rows else None
