"""Scoring with bfloat16 products: only where it pays, checked against float32, the same on both sides."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.eval import file_score_rows
from helpers.eval.file_score_rows import (
    BFLOAT16,
    FLOAT32,
    FileScore,
    bfloat16_difference,
    precision_rows,
    scored_in_bfloat16,
)
from helpers.eval.file_scores import checked_files, score_files
from helpers.models import bfloat16_products
from helpers.models.causal_lm import load_causal_lm
from helpers.models.reading_decoder import ReadingDecoder
from helpers.models.target_scores import TargetHead
from helpers.report.metrics import _again_a as recomputed
from helpers.report.metrics import record_track_a, write_items
from helpers.report.tables import pretraining_control_sentences
from helpers.settings import TINY_CODE_LM
from helpers.tracks import a

MIXED = dataclasses.replace(tiny_models.CPU_FP32, autocast_dtype=torch.bfloat16)
FILES = [(f"{n}.py", f"def f{n}(a, b):\n    return a + b * {n}\n" * 4) for n in range(12)]
SIZES = {"window": 32, "stride": 24}


@pytest.fixture
def model(monkeypatch):
    if not bfloat16_products._has_float32_kernel():
        pytest.skip("this torch has no products in bfloat16 for CPUs")
    monkeypatch.setattr(bfloat16_products, "LEAST_WEIGHTS", 0)
    monkeypatch.setattr(bfloat16_products, "rows_are_independent", lambda *shape: True)
    monkeypatch.setattr(bfloat16_products, "_can_attend", lambda *model: True)
    monkeypatch.setattr(ReadingDecoder, "rows_are_independent", lambda self: True)
    tok = tiny_models.tokenizer()
    return tiny_models.model("llama", len(tok)), tok


def of_part(rows, part):
    return [row for row in rows if row.part == part]


def without_part(rows):
    return [dataclasses.replace(row, part="") for row in rows]


def test_a_sample_is_scored_both_ways_and_all_files_in_bfloat16(model, monkeypatch):
    monkeypatch.setattr(file_score_rows, "BFLOAT16_LIMIT", 0.05)  # a random model's losses are large
    parts = {"test": FILES, "general_code": FILES[:2]}
    exact = score_files(*model, parts, **SIZES)
    heads, score = set(), TargetHead.score
    monkeypatch.setattr(
        TargetHead, "score", lambda head, *given: heads.add(bool(head.rounded)) or score(head, *given)
    )
    rows = score_files(*model, parts, runtime=MIXED, **SIZES)
    sample = {path for path, _ in checked_files(FILES)}
    assert 0 < len(sample) < len(FILES)

    def of_sample(some):
        return without_part(row for row in of_part(some, "test") if row.path in sample)

    assert sorted(without_part(of_part(rows, FLOAT32)), key=str) == sorted(of_sample(exact), key=str)
    rounded = {row.path: row.nll_nats for row in of_part(rows, BFLOAT16)}
    assert rounded == pytest.approx({row.path: row.nll_nats for row in of_sample(rows)}, rel=1e-3)
    assert rounded != {row.path: row.nll_nats for row in of_part(rows, FLOAT32)}
    assert heads == {False, True}  # of the sample in float32, of all else
    assert [(r.part, r.path, r.n_tokens) for r in rows if not r.part.startswith("check/")] == [
        (r.part, r.path, r.n_tokens) for r in exact
    ]
    assert scored_in_bfloat16(rows)
    assert not scored_in_bfloat16(exact)


def test_scores_that_bfloat16_changes_too_much_are_those_of_float32(model):
    with torch.no_grad():
        model[0].get_output_embeddings().weight.mul_(200)
    rows = score_files(*model, {"test": FILES}, runtime=MIXED, **SIZES)
    assert abs(bfloat16_difference(precision_rows(rows))) > file_score_rows.BFLOAT16_LIMIT
    assert not scored_in_bfloat16(rows)
    plain = [row for row in rows if not row.part.startswith("check/")]
    assert plain == score_files(*model, {"test": FILES}, **SIZES)


def test_the_embedded_model_is_scored_in_float32():
    small = load_causal_lm(TINY_CODE_LM, tiny_models.CPU_FP32)[0]
    assert not bfloat16_products.products_pay(small, MIXED)


@given(st.dictionaries(st.text(min_size=1, max_size=9), st.integers(1, 300), min_size=1, max_size=15))
def test_the_sample_stays_within_its_share_and_does_not_depend_on_the_order(sizes):
    files = [(path, "x" * size) for path, size in sizes.items()]
    sample = checked_files(files)
    assert sample == checked_files(files[::-1])
    taken = sum(len(text) for _, text in sample)
    least = min(sizes.values())
    assert taken <= 0.1 * sum(sizes.values()) or taken == least
    assert set(sample) <= set(files)


def test_the_report_says_the_difference_and_verify_finds_it_again(tmp_path):
    nats = math.log(2)  # one bit

    def side(model, *changes):
        return [
            {"model": model, "path": f"{n}.py", "n_bytes": 1000, "n_tokens": 9, "nll_float32": 500 * nats,
             "nll_bfloat16": (500 + change) * nats}
            for n, change in enumerate(changes)
        ]  # fmt: skip

    rows = [
        {"path": f"{n}.py", "n_bytes": 9, "n_tokens": 3, "nll_before": 2.0, "nll_after": 1.0}
        for n in range(7)
    ]
    precision = side("untouched", 1, 2) + side("tuned", -1, -4)
    facts = {"model": "m", "seed": 1, "samples": 100, "cost": {"seconds": 1}}
    section = record_track_a(rows, precision_rows=precision, **facts)
    found = section["controls"]["bfloat16_products"]
    assert found["difference_bits_per_byte"] == pytest.approx({"untouched": 0.0015, "tuned": -0.0025})
    assert (found["files"], found["used"]) == (2, False)
    assert "+0.00150 for the untouched model and −0.00250" in pretraining_control_sentences(section)
    write_items(tmp_path, "files", rows)
    write_items(tmp_path, "precision", precision)
    again = recomputed(tmp_path, section, {**facts})
    assert again["controls"]["bfloat16_products"] == found


@pytest.mark.parametrize("after_holds", [True, False])
def test_both_sides_are_scored_in_the_same_precision(after_holds):
    def scores(path, difference):
        checks = [FileScore(part, path, 100, 9, 50 + (part == BFLOAT16) * difference, 1)
                  for part in (FLOAT32, BFLOAT16)]  # fmt: skip
        return [*checks, FileScore("test", path, 100, 9, 50.0, 1)]

    exact = [FileScore("test", "a.py", 100, 9, 49.0, 1)]
    stages = {"track_a/after": scores("a.py", 0.01 if after_holds else 9.0), "track_a/before_float32": exact}
    track = SimpleNamespace(
        settings=None, trained=Path("train"), history={}, scores_before=scores("a.py", 0.01), asked=[],
        _measured=dict, _evaluation=list,
    )  # fmt: skip

    def rows(name, inputs, compute, record):
        track.asked.append(name)
        return stages[name]

    track.run = SimpleNamespace(runtime=MIXED, rows=rows)
    a.TrackA.after.__wrapped__(track)
    if after_holds:
        assert track.asked == ["track_a/after"]
        assert track.precision is MIXED
    else:
        assert track.asked == ["track_a/after", "track_a/before_float32"]
        assert track.scores_before == exact
        assert track.precision is None
    assert set(track.checked) == {"untouched", "tuned"}
