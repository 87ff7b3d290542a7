"""`datasets.load_dataset` reads a run's saved data with the card beside it, and every value is as it was saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.data.card.data_sets import DATA_SETS, UnreadableRowsError, data_set_facts, features_of
from helpers.data.card.page import render_data_card
from helpers.run.workspace import read_jsonl, write_jsonl, write_text

datasets = pytest.importorskip("datasets")


def loaded(folder: Path, cache: Path, *name: str) -> dict[str, list[dict]]:
    return {
        split: rows.to_list()
        for split, rows in datasets.load_dataset(str(folder), *name, cache_dir=str(cache)).items()
    }


def saved(folder: Path, rows: dict[str, list[dict]]) -> None:
    """Write rows as the splits of the instruction pairs, and the card beside them."""
    for split, some in rows.items():
        write_jsonl(folder / DATA_SETS["instruction_pairs"].files[split], some)
    card = render_data_card({"data_sets": data_set_facts(folder)})
    write_text(folder / "README.md", card)


AWKWARD = {
    "date": "2026-11-29",
    "moment": "2026-11-29T05:00:00+02:00",
    "text": "one\u2028line\r\n\x0cé😀 'x' \"y\" \\ a/b",
    "number": 2**63 - 1,
    "odd": 2**53 + 1,
    "digits": "123",
    "share": 0.3333,
    "several": ["2026-11-29", "2027-01-01"],
    "none": [],
    "detail": {"when": "2026-11-29", "size": 2**63 - 1, "null": "null"},
    "gone": None,
}


def test_dates_64_bit_numbers_and_keys_of_their_own_come_back(tmp_path) -> None:
    other = AWKWARD | {"number": -(2**63), "detail": {}, "gone": None, "share": 1, "several": []}
    rows = {"train": [AWKWARD, other], "validation": [AWKWARD | {"detail": {"another": 1}}]}
    saved(tmp_path, rows)
    assert loaded(tmp_path, tmp_path / "cache") == rows


def test_without_declared_types_the_reader_changes_them(tmp_path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [AWKWARD])
    read = datasets.load_dataset(
        "json", data_files=str(tmp_path / "rows.jsonl"), cache_dir=str(tmp_path / "cache")
    )
    assert read["train"][0]["date"] != AWKWARD["date"]


texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.dates().map(str),
    st.sampled_from(["1", "null", "[]", "{}"]),
)
numbers = st.integers(-(2**63), 2**63 - 1)
row = st.fixed_dictionaries(
    {
        "text": texts,
        "date": st.dates().map(str),
        "n": st.none() | numbers,
        "x": st.floats(-1e4, 1e4).map(lambda x: round(x, 4)),
        "list": st.lists(texts),
        "dict": st.dictionaries(st.text("abc_", min_size=1), numbers | st.text("xyz 19-", max_size=12)),
        "flag": st.booleans(),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, min_size=1, max_size=4))
def test_any_rows_come_back_or_are_refused(tmp_path_factory, rows) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        features_of([rows])
    except UnreadableRowsError:
        return
    saved(folder, {"train": rows})
    assert loaded(folder, folder / "cache") == {"train": rows}


@pytest.mark.parametrize(
    "rows",
    [
        [{"n": 2**63}],
        [{"d": {"n": 2**64}}],
        [{"x": 1}, {"x": "1"}],
        [{"x": 1 / 3, "d": {}}],
        [{"x": [[1]]}],
    ],
)
def test_what_no_type_keeps_is_refused_and_said(tmp_path, rows) -> None:
    with pytest.raises(UnreadableRowsError):
        features_of([rows])
    saved(tmp_path, {"train": rows})
    assert "configs" not in (tmp_path / "README.md").read_text().split("---")[1]
    assert "cannot be read" in (tmp_path / "README.md").read_text()


def test_names_of_splits_without_a_row_are_left_out(tmp_path) -> None:
    saved(tmp_path, {"train": [{"a": "x"}], "validation": []})
    assert loaded(tmp_path, tmp_path / "cache", "instruction_pairs") == {"train": [{"a": "x"}]}
    assert read_jsonl(tmp_path / "track_b/data/validation.jsonl") == []
