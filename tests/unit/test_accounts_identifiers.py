"""Ids that are shown tell nothing of how many there are."""

from __future__ import annotations

from isocenter.features.accounts.identifiers import new_id


def test_ids_are_drawn_at_random_and_fit_into_a_json_number() -> None:
    drawn = [new_id() for _ in range(1000)]
    assert len(set(drawn)) == 1000
    assert drawn != sorted(drawn)
    assert all(1 <= one < 1 << 53 for one in drawn)
    assert max(drawn) > 1 << 48, "not a small range either"
