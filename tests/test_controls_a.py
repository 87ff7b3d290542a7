"""Track A's controls: foreign code and a clean twin, each on the same held-out files, told as it is."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import tiny_models

from helpers.data import foreign
from helpers.data.exposure import Exposure
from helpers.data.foreign import foreign_texts
from helpers.errors import InsufficientDataError
from helpers.eval.file_score_rows import FileScore
from helpers.eval.file_scores import score_files
from helpers.models.causal_lm import load_causal_lm
from helpers.models.tokens import token_ids
from helpers.profiles import EMBEDDED, RunRequest
from helpers.report.record_a import record_track_a
from helpers.report.tables import pretraining_control_sentences
from helpers.run.workspace import Workspace
from helpers.settings import LoraSettings, TwinSettings
from helpers.tracks import controls_a
from helpers.tracks.controls_a import (
    foreign_facts,
    foreign_rows,
    measure_clean_twin,
    measure_foreign_corpus,
    seen_before,
    twin_facts,
)
from helpers.tracks.session import open_session

TRAINING = ["def add(first, second):\n    return first + second\n" * 6] * 3
TEST = [("a.py", "def sub(first, second):\n    return first - second\n" * 3), ("b.py", "x = 1\n" * 20)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A session in a folder of its own, as far as the control needs one."""
    folder = tmp_path_factory.mktemp("run")
    settings = dataclasses.replace(
        EMBEDDED.track_a, model=str(tiny_models.save(folder / "base", "qwen2")), window=32, stride=16, epochs=1,
        learning_rate=1e-2, rehearsal_share=0.0, lora=LoraSettings(rank=4, alpha=4),
    )  # fmt: skip
    workspace = Workspace(folder)
    return SimpleNamespace(
        profile=SimpleNamespace(track_a=settings), seed=7, runtime=tiny_models.CPU_FP32, folder=folder,
        workspace=workspace, stage=workspace.stage,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(run):
    model, tokenizer = load_causal_lm(run.profile.track_a.model, run.runtime)
    before = score_files(model, tokenizer, {"test": TEST}, window=32, stride=16)
    texts = {"training": TRAINING, "validation": [TEST[0][1]]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign, "LARGE_PACKAGES", ("rich",))
        after = measure_foreign_corpus(run, texts, TEST, tokenizer, exclude="networkx")
        patch.setattr(controls_a, "train_language_model", None)  # found again, not made again
        assert measure_foreign_corpus(run, texts, TEST, tokenizer, exclude="networkx") == after
    return tokenizer, texts, before, after


def test_the_same_files_are_scored_after_a_training_of_the_same_budget(run, measured):
    tokenizer, _, before, after = measured
    rows = foreign_rows(before, after, after)
    assert [row["path"] for row in rows["foreign_corpus"]] == ["a.py", "b.py"]
    assert any(row["nll_before"] != row["nll_after"] for row in rows["foreign_corpus"])
    assert all(row["nll_before"] == row["nll_after"] for row in rows["own_instead_of_foreign"])
    facts = foreign_facts(run)
    assert facts["foreign_corpus"].startswith("rich ")
    assert facts["own_tokens"] == sum(len(token_ids(tokenizer, text)) for text in TRAINING)
    assert not (run.folder / "track_a/foreign/adapter").exists()


def test_a_profile_without_controls_trains_nothing(run, measured):
    tokenizer, texts, before, _ = measured
    bare = dataclasses.replace(run.profile.track_a, controls=False)
    without = SimpleNamespace(**{**vars(run), "profile": SimpleNamespace(track_a=bare)})
    assert measure_foreign_corpus(without, texts, TEST, tokenizer, exclude="") == []
    assert foreign_rows(before, before, []) == {}


def test_the_twin_is_another_model_tuned_with_values_of_its_own(run, measured, tmp_path, monkeypatch):
    _, texts, before, _ = measured
    twin = TwinSettings(
        str(tiny_models.save(tmp_path / "twin", "llama")),
        16,
        8,
        1e-2,
        0.0,
        LoraSettings(rank=2, alpha=2),
        False,
    )
    settings = dataclasses.replace(run.profile.track_a, twin=twin)
    monkeypatch.setattr(run.profile, "track_a", settings)
    monkeypatch.setattr(controls_a, "exposure", lambda model, corpus: Exposure("unseen", f"{model} saw none"))
    asked = []
    train = controls_a.train_language_model
    monkeypatch.setattr(
        controls_a,
        "train_language_model",
        lambda given, *a, **k: asked.append(given) or train(given, *a, **k),
    )
    corpus = SimpleNamespace(spec="installed:birds", version="1.0")
    rows = measure_clean_twin(run, corpus, texts, TEST)
    assert [row["path"] for row in rows] == ["a.py", "b.py"]
    own = {row.path: row.nll_nats for row in before if row.part == "test"}
    assert all(row["nll_before"] not in (row["nll_after"], own[row["path"]]) for row in rows)
    (used,) = asked
    assert (used.window, used.stride, used.lora.rank, used.epochs) == (16, 8, 2, settings.epochs)
    assert used.as_twin() is None
    assert twin_facts(run) == {
        "twin_model": twin.model, "twin_exposure": "unseen", "twin_note": f"{twin.model} saw none"
    }  # fmt: skip
    assert not (run.folder / "track_a/twin/adapter").exists()
    for same in (TwinSettings(), dataclasses.replace(twin, model=settings.model)):
        monkeypatch.setattr(run.profile, "track_a", dataclasses.replace(settings, twin=same))
        assert measure_clean_twin(run, corpus, texts, TEST) == []


def scored(nll: float) -> list[FileScore]:
    """Twelve files of 100 bytes and ten tokens, each a little worse than the one before."""
    return [FileScore("test", f"{i}.py", 100, 10, nll + i, 5) for i in range(12)]


@pytest.mark.parametrize(
    ("foreign_nll", "own_nll", "says"),
    [
        (38.0, 20.0, "the gain comes from the repository's own files"),
        (20.0, 38.0, "the repository's own files were no better than foreign code"),
        (20.0, 20.0, "these files cannot tell"),
    ],
)
def test_the_sentence_turns_with_the_figures(foreign_nll, own_nll, says):
    before, after, elsewhere = scored(40.0), scored(own_nll), scored(foreign_nll)
    controls = foreign_rows(before, after, elsewhere)
    controls["general_code"] = foreign_rows(scored(10.0), scored(10.0), scored(11.0))["foreign_corpus"]
    facts = {"foreign_corpus": "elsewhere 1.0", "foreign_tokens": 900, "own_tokens": 1000}
    main = foreign_rows(before, before, after)["foreign_corpus"]
    track = record_track_a(
        main,
        model="tiny",
        seed=1,
        samples=200,
        cost={"seconds": 1.0, "adapter_scale": 0.8},
        data=facts,
        control_rows=controls,
    )
    said = pretraining_control_sentences(track)
    assert says in said
    assert "elsewhere 1.0 with the same budget (900 tokens, against 1,000 of the repository)" in said
    assert "On 12 files of general code, bits per byte rise: +0.014" in said
    assert "The saved adapter is scaled by 0.8" in said
    assert "], or +6.5%." in said  # 186 nats before, 198 after
    told = {**track, "data": facts | {"exposure_note": "nothing is known"}}
    told["controls"] = track["controls"] | {"changed_after_cut_off": track["controls"]["foreign_corpus"]}
    assert (
        "**Seen before?** nothing is known. On the 12 of them that are held out, bits"
        in pretraining_control_sentences(told)
    )
    twin = {"twin_model": "small", "twin_exposure": "unseen", "twin_note": "it saw none"}
    told = {**track, "data": facts | twin, "controls": {"clean_twin": track["controls"]["general_code"]}}
    assert "or +6.5%, where the model itself changes by " in pretraining_control_sentences(told)
    assert "it cannot have remembered these files, and loses by" in pretraining_control_sentences(told)
    told["data"]["twin_exposure"] = "trained_on"
    assert "this control says little" in pretraining_control_sentences(told)
    assert pretraining_control_sentences({**track, "controls": {}}) == "This profile measures no controls."


def test_foreign_texts_are_whole_files_of_another_package_within_the_budget(monkeypatch):
    tokenizer = tiny_models.tokenizer()
    monkeypatch.setattr(foreign, "LARGE_PACKAGES", ("networkx", "rich"))
    name, texts = foreign_texts(tokenizer, 20_000, 1, exclude="networkx")
    assert name.startswith("rich ")
    assert 10_000 < sum(len(token_ids(tokenizer, text)) for text in texts) <= 22_000
    assert not any("networkx" in text for text in texts)
    assert foreign_texts(tokenizer, 20_000, 1, exclude="networkx") == (name, texts)
    monkeypatch.setattr(foreign, "LARGE_PACKAGES", ("rich",))
    with pytest.raises(InsufficientDataError, match="none of rich is installed"):
        foreign_texts(tokenizer, 20_000, 1, exclude="rich")


def test_a_run_keeps_what_it_was_told_of_exposure_and_another_asks_again(tmp_path, monkeypatch):
    answers = [Exposure("partly_unseen", "first", ("a.py", "b.py")), Exposure("unknown", "second")]
    monkeypatch.setattr(controls_a, "exposure", lambda *a: answers.pop(0))
    corpus = SimpleNamespace(spec="installed:birds", version="1.0", sha256="0" * 64)
    told = []
    for run_id in ("one", "one", "two"):
        run = open_session(RunRequest("smoke", out=tmp_path, resume=True, run_id=run_id))
        told.append(seen_before(run, corpus))
    assert told[0] == told[1] == Exposure("partly_unseen", "first", ("a.py", "b.py"))
    assert told[2] == Exposure("unknown", "second")
