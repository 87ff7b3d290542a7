"""Track A's ladder: equal budgets, finished variants reused, shown only for its own corpus and model."""

from __future__ import annotations

import dataclasses
import json

import pytest
import tiny_models

from helpers.data.general_code import general_code_texts
from helpers.profiles import LAPTOP, SMOKE
from helpers.report.ladder_table import ladder_table, ladder_text
from helpers.settings import LoraSettings
from helpers.tools import track_a_ladder
from helpers.tools.track_a_ladder import RESULT, VARIANTS, _general_validation, run_track_a_ladder

WANTED = (
    "the profile's settings, one pass",
    "the same from another seed",
    "rank 16",
    "without the embedding's rows",
    "all weights, no adapter",
)
MODULE = "def add_{0}(first, second):\n    '''Add {0} things.'''\n    return first + second * {0}\n\n\n"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A ladder of five variants on a code base of twelve files, and the profile it started from."""
    folder = tmp_path_factory.mktemp("ladder")
    for number in range(12):
        code = "".join(MODULE.format(number * 100 + part) for part in range(8))
        (folder / "code").mkdir(exist_ok=True)
        (folder / "code" / f"module_{number}.py").write_text(f"NAME_{number} = {number}\n\n\n" + code)
    track = dataclasses.replace(
        SMOKE.track_a, model=str(tiny_models.save(folder / "model", "qwen2")), window=32, stride=16,
        rehearsal_share=0.0, learning_rate=1e-2, validation_tokens=300, general_files=2,
        lora=LoraSettings(rank=4, alpha=4),
    )  # fmt: skip
    corpus = dataclasses.replace(SMOKE.corpus, spec=f"path:{folder / 'code'}", near_duplicate_threshold=1.0)
    profile = dataclasses.replace(SMOKE, corpus=corpus, track_a=track)
    variants = tuple(variant for variant in VARIANTS if variant.name in WANTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(track_a_ladder, "GENERAL_FILES", 2)
        result = run_track_a_ladder(profile, tiny_models.CPU_FP32, folder, tokens=1500, variants=variants)
        patch.setattr(track_a_ladder, "train_language_model", None)  # reused, not trained again
        again = run_track_a_ladder(profile, tiny_models.CPU_FP32, folder, tokens=1500, variants=variants)
    assert again == result == json.loads((folder / RESULT).read_text())
    return folder, profile, result


def test_variants_differ_in_what_they_name_and_in_nothing_else(measured):
    _, _, result = measured
    usual, seed, rank, held, full = result["rows"]
    assert [row["name"] for row in result["rows"]] == list(WANTED)
    assert usual["tokens"] == seed["tokens"] == rank["tokens"] == held["tokens"] == full["tokens"]
    rows = usual["trainable_parameters"] - held["trainable_parameters"]
    assert rows > 0
    assert rows % 16 == 0  # whole rows of the tiny model's width
    assert held["trainable_parameters"] * 4 == rank["trainable_parameters"] - rows
    assert full["trainable_parameters"] > rank["trainable_parameters"]
    assert usual["validation"] != seed["validation"]
    assert all(row["validation"] < result["before"]["validation"] for row in result["rows"])


def test_what_a_profile_has_already_is_no_rung():
    """SmolLM2's adapters have rank 16 and leave the embeddings alone."""

    def rungs(settings):
        return {variant.name for variant in VARIANTS[1:] if variant.differs(settings)}

    real, small = rungs(LAPTOP.track_a), rungs(SMOKE.track_a)
    assert small - real == {"rank 16", "without the embedding's rows"}
    assert real <= small
    assert {"the same from another seed", "rank 64", "all weights, no adapter"} <= real


def test_variants_are_not_compared_on_the_reported_general_code(measured):
    _, profile, _ = measured
    chosen_by = _general_validation(profile.track_a, 3, "networkx")
    assert len(chosen_by) == track_a_ladder.GENERAL_FILES
    assert not set(chosen_by) & set(general_code_texts(2, 3, exclude="networkx"))


def test_the_table_shows_every_variant_beside_the_untouched_model(measured):
    _, _, result = measured
    table = ladder_table(result)
    assert list(table.index) == ["before training", *WANTED]
    assert table.loc["all weights, no adapter", "LoRA rank"] == "–"
    assert table.loc["rank 16", "Change"].startswith("−")


def test_the_ladder_is_shown_only_for_its_own_corpus_and_model(measured, tmp_path):
    folder, profile, result = measured
    shown = ladder_text(result["corpus_sha256"], profile.track_a.model, folder=folder)
    assert "| rank 16 |" in shown
    assert f"at commit {result['commit']}" in shown
    other = ladder_text("0" * 64, profile.track_a.model, folder=folder)
    model = str(tiny_models.save(tmp_path / "other", "qwen2", seed=9))
    for text in (other, ladder_text(result["corpus_sha256"], model, folder=folder)):
        assert "left out" in text
        assert "|" not in text
    assert "No ladder was measured" in ladder_text("0" * 64, model, folder=tmp_path)
