"""Which source is to give what; asked again whenever a source has failed, who is to give the rest. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isocenter.features.spanner.retrieval.wanted import Holding, Key, Wanted

UIDS_MAX = 500
"""In one order: a UI element of explicit VR is 64 KB long at most (PS3.5 §7.1.2); some peers take less."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one source is asked for: all of the study; or whole series; or instances of one series.

    ``keys``: what it is expected to give; ``sop_classes``: of these.
    """

    source_id: int
    study_uid: str
    series_uids: tuple[str, ...]
    instance_uids: tuple[str, ...]
    keys: frozenset[Key]
    sop_classes: tuple[str, ...]


def orders(
    wanted: Wanted,
    holdings: Sequence[Holding],
    missing: Iterable[Key],
    tried: Mapping[Key, set[int]],
    ranking: Sequence[int],
) -> list[Order]:
    """Each missing instance from the first of ``ranking`` that has it and was not tried for it yet; those
    that nobody is left for are in no order.

    Everything of a study, or of a series, is asked for by its UID alone.
    """
    by_key = {one.key: one for one in holdings}
    shares: dict[int, list[Holding]] = {}
    for key in missing:
        holding = by_key[key]
        best = next(
            (
                source_id
                for source_id in ranking
                if source_id in holding.source_ids and source_id not in tried.get(key, ())
            ),
            None,
        )
        if best is not None:
            shares.setdefault(best, []).append(holding)
    return [
        order
        for source_id in ranking
        if source_id in shares
        for order in _orders_of(wanted, source_id, shares[source_id], holdings)
    ]


def _orders_of(
    wanted: Wanted, source_id: int, share: Sequence[Holding], holdings: Sequence[Holding]
) -> list[Order]:
    has = [one for one in holdings if source_id in one.source_ids]
    if len(share) == len(has) and not wanted.series_uids and not wanted.instance_uids:
        return [_order(wanted, source_id, share)]
    whole: list[Holding] = []
    parts: list[Order] = []
    for series_uid, members in _by_series(share).items():
        if not wanted.instance_uids and len(members) == sum(one.series_uid == series_uid for one in has):
            whole += members
        else:
            for first in range(0, len(members), UIDS_MAX):
                some = members[first : first + UIDS_MAX]
                instances = tuple(one.sop_instance_uid for one in some)
                parts.append(_order(wanted, source_id, some, (series_uid,), instances))
    if whole:
        series_uids = tuple(dict.fromkeys(one.series_uid for one in whole))
        parts.insert(0, _order(wanted, source_id, whole, series_uids))
    return parts


def _order(
    wanted: Wanted,
    source_id: int,
    members: Sequence[Holding],
    series_uids: tuple[str, ...] = (),
    instance_uids: tuple[str, ...] = (),
) -> Order:
    classes = tuple(sorted({one.sop_class_uid for one in members}))
    keys = frozenset(one.key for one in members)
    return Order(source_id, wanted.study_uid, series_uids, instance_uids, keys, classes)


def _by_series(members: Sequence[Holding]) -> dict[str, list[Holding]]:
    found: dict[str, list[Holding]] = {}
    for one in members:
        found.setdefault(one.series_uid, []).append(one)
    return found
