"""Who is to give what: all that anybody can give comes, from the best that can; none fails at it twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from isocenter.features.spanner.retrieval.orders import Order, orders
from isocenter.features.spanner.retrieval.wanted import Holding, Key, Wanted

STUDY = "1.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
SOURCES = (1, 2, 3)


def holding(series: int, number: int, *source_ids: int) -> Holding:
    return Holding(f"1.2.{series}", f"1.2.{series}.{number}", CT, source_ids)


def asked(
    holdings: Sequence[Holding],
    *,
    wanted: Wanted | None = None,
    tried: Mapping[Key, set[int]] | None = None,
    ranking: Sequence[int] = SOURCES,
) -> list[Order]:
    keys = [one.key for one in holdings]
    return orders(wanted or Wanted(STUDY), holdings, keys, tried or {}, ranking)


def test_all_of_a_study_is_asked_for_by_its_uid() -> None:
    [order] = asked([holding(1, 1, 1, 2), holding(1, 2, 1), holding(2, 1, 1)])
    assert (order.source_id, order.series_uids, order.instance_uids) == (1, (), ())
    assert len(order.keys) == 3
    assert order.sop_classes == (CT,)


def test_what_only_another_has_is_asked_of_that_one() -> None:
    first, second = asked([holding(1, 1, 1, 2), holding(2, 1, 2), holding(2, 2, 2)])
    assert (first.source_id, first.series_uids) == (1, ())
    assert (second.source_id, second.series_uids, second.instance_uids) == (2, ("1.2.2",), ())


def test_the_rest_of_a_series_is_asked_for_one_by_one() -> None:
    whole, part = asked([holding(1, 1, 1, 2), holding(1, 2, 2)])
    assert (whole.source_id, whole.instance_uids) == (1, ())
    assert (part.source_id, part.series_uids, part.instance_uids) == (2, ("1.2.1",), ("1.2.1.2",))


def test_no_list_of_uids_is_longer_than_an_element_may_be() -> None:
    """64 KB in explicit VR; a large CT that breaks off in the middle leaves more than a thousand."""
    holdings = [holding(1, number, 1, 2) for number in range(1, 1200)] + [holding(1, 1200, 1)]
    rest = {one.key: {1} for one in holdings}
    ordered = asked(holdings, tried=rest)
    assert [order.source_id for order in ordered] == [2]  # it has nothing else of the series
    others = [*holdings, holding(1, 1300, 2)]
    parts = orders(Wanted(STUDY), others, [one.key for one in holdings], rest, SOURCES)
    assert [len(order.instance_uids) for order in parts] == [500, 500, 199]
    assert len(frozenset().union(*(order.keys for order in parts))) == 1199


def test_the_ranking_decides() -> None:
    [order] = asked([holding(1, 1, 1, 2, 3)], ranking=(3, 1, 2))
    assert order.source_id == 3


def test_no_more_than_is_wanted_is_asked_for() -> None:
    series = Wanted(STUDY, ("1.2.1",))
    [order] = asked([holding(1, 1, 1)], wanted=series)
    assert order.series_uids == ("1.2.1",)
    one = Wanted(STUDY, ("1.2.1",), ("1.2.1.1",))
    [order] = asked([holding(1, 1, 1)], wanted=one)
    assert order.instance_uids == ("1.2.1.1",)


def test_of_whoever_is_not_there_nothing_is_asked() -> None:
    assert asked([holding(1, 1, 9)]) == []


who_has_it = st.sets(st.sampled_from(SOURCES), min_size=1).map(lambda found: tuple(sorted(found)))
fleets = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 6), who_has_it).map(
        lambda drawn: holding(drawn[0], drawn[1], *drawn[2])
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda one: one.key,
)


@given(
    fleets,
    st.permutations(SOURCES),
    st.sets(st.tuples(st.sampled_from(SOURCES), st.integers(0, 19))),
)
def test_whoever_fails_at_what(
    holdings: list[Holding], ranking: list[int], failures: set[tuple[int, int]]
) -> None:
    """Each source fails at some instances. All that one of them can give comes; it ends."""
    broken = {(source, holdings[at % len(holdings)].key) for source, at in failures}
    missing = {one.key: one for one in holdings}
    tried: dict[Key, set[int]] = {}
    while ordered := orders(Wanted(STUDY), holdings, missing, tried, ranking):
        asked_now: set[Key] = set()
        for order in ordered:
            assert order.keys
            assert not order.keys & asked_now, "one instance is asked of two sources"
            asked_now |= order.keys
            for key in order.keys:
                holding = missing[key]
                assert order.source_id in holding.source_ids
                assert order.source_id not in tried.get(key, set())
                better = ranking[: ranking.index(order.source_id)]
                assert not set(better) & set(holding.source_ids) - tried.get(key, set())
                tried.setdefault(key, set()).add(order.source_id)
            for key in order.keys:
                if (order.source_id, key) not in broken:
                    del missing[key]
    for key, one in missing.items():
        assert all((source, key) in broken for source in one.source_ids)
