"""What a spanned answer looks like on the wire: DICOM JSON that says where things were found, and an envelope
that says everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from isocenter.dicom.dictionary import keyword_of
from isocenter.dicom.tags import SPECIFIC_CHARACTER_SET, STUDY_INSTANCE_UID
from isocenter.doors.http.instants import instant
from isocenter.features.spanner.asking import Result
from isocenter.features.spanner.fan_out import Outcome
from isocenter.features.spanner.merge import RETRIEVE_URL, Answer, Identity
from isocenter.features.spanner.rows import Row, row_json, strings_attribute
from isocenter.features.spanner.service import Spanned

_CREATOR, _FOUND_IN = 0x00090010, 0x00091001
_UTF_8 = strings_attribute("CS", ["ISO_IR 192"])
_RESOURCES = ("studies", "series", "instances")
_CREATED = strings_attribute("LO", ["ISOCENTER SPANNING"])

DICOM_WEB = "/api/v1/spanner/{config_id}/dicom-web"
"""Where each configuration has DICOM's own web services."""

Names = Mapping[int, str]
"""Source → what it is called."""


def names_of(outcomes: Sequence[Outcome]) -> Names:
    return {one.source.id: one.source.name for one in outcomes}


def data_set(answer: Answer, names: Names, base: str) -> str:
    """The merged attributes, with the sources' names in a private one (PS3.5 §7.8.1). It is retrieved below
    ``base``, whichever source has it; a patient is not."""
    found_in = strings_attribute("LO", [names[source_id] for source_id in answer.found_in])
    row = {SPECIFIC_CHARACTER_SET: _UTF_8, **answer.row, _CREATOR: _CREATED, _FOUND_IN: found_in}
    if STUDY_INSTANCE_UID in answer.row:
        row[RETRIEVE_URL] = strings_attribute("UR", [base + _path_of(answer.identity)])
    return row_json(row)


def _path_of(identity: Identity) -> str:
    return "".join(f"/{what}/{uid}" for what, uid in zip(_RESOURCES, identity, strict=False))


def data_sets(result: Result, base: str) -> bytes:
    """What QIDO-RS answers (PS3.18 §10.6.3.3)."""
    names = names_of(result.outcomes)
    return ("[" + ",".join([data_set(answer, names, base) for answer in result.answers]) + "]").encode()


def rows_json(rows: Sequence[Row]) -> orjson.Fragment:
    return orjson.Fragment("[" + ",".join(map(row_json, rows)) + "]")


def envelope(spanned: Spanned) -> dict[str, Any]:
    result = spanned.result
    return {
        "complete": result.is_complete,
        "more": result.more,
        "asked_at": instant(result.at_us).isoformat(),
        "age_s": round(spanned.age_s, 3),
        "took_ms": _milliseconds(result.took_s),
        "sources": [outcome_model(one) for one in result.outcomes],
        "results": [_answer_model(one) for one in result.answers],
    }


def outcome_model(one: Outcome) -> dict[str, Any]:
    return {
        "id": one.source.id,
        "name": one.source.name,
        "ended": one.ended,
        "rows": one.rows,
        "dropped": one.dropped,
        "more": one.more,
        "took_ms": _milliseconds(one.took_s),
        "attempts": one.attempts,
        "detail": one.detail,
        "remedy": one.remedy,
    }


def _answer_model(answer: Answer) -> dict[str, Any]:
    origins: dict[int, list[str]] = {}
    for tag, source_id in sorted(answer.origins.items()):
        origins.setdefault(source_id, []).append(f"{tag:08X}")
    return {
        "dataset": orjson.Fragment(answer.json()),
        "found_in": answer.found_in,
        "origins": [{"source": source_id, "tags": tags} for source_id, tags in sorted(origins.items())],
        "shared_uid": answer.shared_name,
        "contradictions": [
            {
                "tag": f"{one.tag:08X}",
                "keyword": keyword_of(one.tag),
                "values": [
                    {"source": source_id, "attribute": orjson.Fragment(value)}
                    for source_id, value in sorted(one.values.items())
                ],
            }
            for one in answer.contradictions
        ],
    }


def headers_of(spanned: Spanned, warnings: Sequence[str], service: str) -> dict[str, str]:
    """``Isocenter-Sources`` is a list of RFC 9651: each source's number, how it ended, and how much came.

    ``service``: the address that warnings name as theirs (RFC 7234 §5.5, PS3.18 §8.3.4).
    """
    shared = sum(answer.shared_name for answer in spanned.result.answers)
    if shared:
        warnings = [*warnings, f"{shared} answers share their UID with another patient's"]
    headers = source_headers(spanned.result.outcomes, warnings, service)
    return {**headers, "age": str(int(spanned.age_s))}


def source_headers(outcomes: Sequence[Outcome], warnings: Sequence[str], service: str) -> dict[str, str]:
    """Without the answer's age."""
    said = [
        *warnings,
        *(f"{one.source.name}: {one.ended}, {one.detail}" for one in outcomes if one.is_missing),
        *(f"{one.source.name} has more than it gave" for one in outcomes if one.more),
    ]
    headers = {
        "isocenter-sources": ", ".join(
            f"{one.source.id};ended={one.ended};rows={one.rows};ms={_milliseconds(one.took_s)}"
            for one in outcomes
        )
    }
    if said:
        headers["warning"] = ", ".join(f'299 {service} "{_plain(text)}"' for text in said)
    return headers


def _plain(text: str) -> str:
    """For a quoted string in a header: names of sources may hold anything printable."""
    return "".join(
        character if " " <= character <= "~" and character not in '"\\' else "?" for character in text
    )


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
