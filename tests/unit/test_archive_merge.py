"""Merging completes and never overwrites or loses (MISSION A1), whatever comes in whatever order."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.json_model import text_fragment
from isocenter.features.archive.entry import LevelData, digest_of
from isocenter.features.archive.merge import contradictions, fragments_by_tag, is_empty, merge

TAGS = [0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00101000, 0x00102160, 0x00104000]
VRS = dict(zip(TAGS, ["PN", "LO", "DA", "CS", "LO", "SH", "LT"], strict=True))
COLUMNS = {0x00100010: "name_key", 0x00100030: "birth_date", 0x00100040: "sex"}

values = st.one_of(st.none(), st.just(""), st.text(max_size=8), st.sampled_from(["A", "B"]))


@st.composite
def level_data(draw: st.DrawFn) -> LevelData:
    """What one object may tell: absent, empty and filled attributes; columns that agree with them."""
    told = {tag: draw(values) for tag in TAGS}
    fragments = {
        tag: text_fragment(tag, VRS[tag], [value] if value else [])
        for tag, value in told.items()
        if value is not None
    }
    columns: dict[str, str | int | None] = {name: told[tag] or "" for tag, name in COLUMNS.items()}
    return LevelData(columns, fragments)


def value_in(fragments: str, tag: int) -> str | None:
    return fragments_by_tag(fragments).get(tag)


@given(st.lists(level_data(), min_size=1, max_size=6))
def test_what_was_told_first_stays_and_what_was_missing_comes(objects: list[LevelData]):
    first, *rest = objects
    columns, fragments = dict(first.columns), first.text
    for new in rest:
        before_columns, before = dict(columns), fragments
        merged = merge(columns, fragments, new)
        columns, fragments = merged.columns, merged.fragments
        assert merged.changed == ((columns, fragments) != (before_columns, before))
        for tag, line in fragments_by_tag(before).items():
            if not is_empty(line):
                assert value_in(fragments, tag) == line, "a value was overwritten"
        for tag in new.fragments:
            assert value_in(fragments, tag) is not None, "an attribute was lost"
        for name, value in before_columns.items():
            assert columns[name] == (value or new.columns[name])
    for tag in TAGS:
        told = [one.fragments[tag] for one in objects if tag in one.fragments]
        filled = [line for line in told if not is_empty(line)]
        assert value_in(fragments, tag) == (filled[0] if filled else told[0] if told else None)
    lines = fragments.split("\n") if fragments else []
    assert lines == sorted(lines)
    assert len({line[:10] for line in lines}) == len(lines), "an attribute stands there twice"
    orjson.loads("{" + ",".join(lines) + "}")


@given(level_data())
def test_merging_the_same_again_changes_nothing(one: LevelData):
    merged = merge(one.columns, one.text, one)
    assert not merged.changed
    assert (merged.columns, merged.fragments) == (one.columns, one.text)


@given(level_data(), level_data())
def test_a_contradiction_is_two_different_values_of_one_attribute(known: LevelData, new: LevelData):
    found = {one.tag: one for one in contradictions(known.columns, known.text, new)}
    for tag, name in COLUMNS.items():
        differ = bool(known.columns[name] and new.columns[name] and known.columns[name] != new.columns[name])
        assert (tag in found) == differ
        if differ:
            assert found[tag].kept == known.fragments[tag]
            assert found[tag].other == new.fragments[tag]


def test_an_empty_attribute_is_one_without_a_value():
    assert is_empty(text_fragment(0x00100010, "PN", []))
    assert not is_empty(text_fragment(0x00100020, "LO", ["0"]))
    assert not is_empty(text_fragment(0x00100010, "PN", ["A"]))


parts = st.lists(st.binary(max_size=4), max_size=4)


@given(parts, parts)
def test_different_values_have_different_digests(one: list[bytes], other: list[bytes]):
    assert (digest_of(one) == digest_of(other)) == (one == other)


@given(st.binary(max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_however_they_run_together(joined: bytes, here: int, there: int):
    """The same bytes, cut at two places."""
    one, other = [joined[:here], joined[here:]], [joined[:there], joined[there:]]
    assert (digest_of(one) == digest_of(other)) == (one == other)
