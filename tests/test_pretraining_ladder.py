"""Track A's ladder: equal budgets, found again, shown only beside its own corpus and model."""

from __future__ import annotations

import dataclasses
import json

import pytest
import tiny_models

from helpers.data.general_code import general_code_texts
from helpers.profiles import SMOKE
from helpers.report.ladder_table import ladder_table, ladder_text
from helpers.settings import LoraSettings
from helpers.tools import ladder as pretraining_ladder
from helpers.tools.ladder import RESULT, RUNGS, _general_validation, climb

WANTED = (
    "the profile's settings, one pass",
    "the same from another seed",
    "rank 16",
    "without the embedding's rows",
    "all weights, no adapter",
)
MODULE = "def add_{0}(first, second):\n    '''Add {0} things.'''\n    return first + second * {0}\n\n\n"


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    """A ladder of five rungs over a code base of twelve files, and the profile it started from."""
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
    rungs = tuple(rung for rung in RUNGS if rung.name in WANTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining_ladder, "GENERAL_FILES", 2)
        result = climb(profile, tiny_models.CPU_FP32, folder, tokens=1500, rungs=rungs)
        patch.setattr(pretraining_ladder, "train_language_model", None)  # found again, not made again
        again = climb(profile, tiny_models.CPU_FP32, folder, tokens=1500, rungs=rungs)
    assert again == result == json.loads((folder / RESULT).read_text())
    return folder, profile, result


def test_rungs_differ_in_what_they_name_and_in_nothing_else(climbed):
    _, _, result = climbed
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


def test_what_is_chosen_by_is_none_of_what_is_reported(climbed):
    _, profile, _ = climbed
    chosen_by = _general_validation(profile.track_a, 3, "networkx")
    assert len(chosen_by) == pretraining_ladder.GENERAL_FILES
    assert not set(chosen_by) & set(general_code_texts(2, 3, exclude="networkx"))


def test_the_table_shows_every_rung_beside_the_untouched_model(climbed):
    _, _, result = climbed
    table = ladder_table(result)
    assert list(table.index) == ["before training", *WANTED]
    assert table.loc["all weights, no adapter", "Rank"] == "–"
    assert table.loc["rank 16", "change"].startswith("−")


def test_it_is_shown_beside_its_own_corpus_and_model_alone(climbed, tmp_path):
    folder, profile, result = climbed
    shown = ladder_text(result["corpus_sha256"], profile.track_a.model, folder=folder)
    assert "| rank 16 |" in shown
    assert f"at commit {result['commit']}" in shown
    other = ladder_text("0" * 64, profile.track_a.model, folder=folder)
    model = str(tiny_models.save(tmp_path / "other", "qwen2", seed=9))
    for text in (other, ladder_text(result["corpus_sha256"], model, folder=folder)):
        assert "left out" in text
        assert "|" not in text
    assert "No ladder was measured" in ladder_text("0" * 64, model, folder=tmp_path)
