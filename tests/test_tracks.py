"""The tracks' steps: which stages a changed setting computes again, and a metric of one's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.profiles import PROFILES
from helpers.records import InstructPair, RehearsedAnswer, ResponseScore, SourceFile, Task
from helpers.run.workspace import digest, read_json
from helpers.settings import Profile
from helpers.tracks import a, b, c
from helpers.tracks.guards import Guards

FILE = SourceFile("m.py", "x = 1\n", "0" * 64, 6)
SPLITS = ("training", "validation", "test")
CORPUS = SimpleNamespace(spec="path:mine", sha256="0", import_name="", files=())


class Recorder:
    """A session whose stages build nothing: each result is the digest of the stage's inputs."""

    def __init__(self, folder: Path, profile: Profile):
        self.folder, self.profile, self.seed, self.runtime = folder, profile, profile.seed, None
        self.guards = Guards(folder)
        self.digests: dict[str, str] = {}

    def stage(self, name: str, inputs: Any, build: Any) -> Path:
        self.digests[name] = digest(inputs)
        return self.folder / name

    def rows(self, name: str, inputs: Any, compute: Any, record: Any = dict) -> list[Any]:
        self.stage(name, inputs, compute)
        if record is RehearsedAnswer:
            return [RehearsedAnswer(self.digests[name], "", "")]
        return [self.digests[name]]

    def history(self, stage: str) -> dict[str, Any]:
        return {"of": self.digests[stage]}

    def require(self, track: str, **counts: int) -> bool:
        return True


@pytest.fixture
def stages(tmp_path: Path, monkeypatch):
    """Function of a profile: stage -> digest of what it depends on, steps called as the notebook does."""

    def nothing(*arguments: Any, **options: Any) -> None:
        return None

    for module in (a, b, c):
        for name in ("display", "show"):
            monkeypatch.setattr(module, name, nothing if name == "display" else SimpleNamespace(
                counts=nothing, setting_values=nothing, pair=nothing, queries=nothing, set_aside=nothing))  # fmt: skip
        monkeypatch.setattr(module, "plots", SimpleNamespace(loss_curve=None))
    monkeypatch.setattr(Guards, "draw", nothing)
    for name in ("load_tokenizer", "general_code_texts"):
        monkeypatch.setattr(a, name, nothing)
    monkeypatch.setattr(a, "draw_splits", lambda *of: {split: [FILE] for split in SPLITS})
    monkeypatch.setattr(a, "own_names", lambda functions: {"x"})
    monkeypatch.setattr(a, "scored_in_bfloat16", lambda scores: False)
    monkeypatch.setattr(b, "execution_context", nothing)
    monkeypatch.setattr(b.NameContext, "from_functions", nothing)
    monkeypatch.setattr(b, "retry_infrastructure_errors", nothing)
    monkeypatch.setattr(b, "held_tasks", lambda run, tasks, references: tasks)
    for name in ("load_embedder", "load_index", "retrieve", "index_facts", "load_hybrid"):
        monkeypatch.setattr(c, name, nothing)
    pair = InstructPair("p", "explain", "f", "m.py", "do", "done", 0, ())

    def run(profile: Profile) -> dict[str, str]:
        run = Recorder(tmp_path, profile)
        made = SimpleNamespace(train=[pair], validation=[], tasks=[])  # alike, whatever the stage depends on
        monkeypatch.setattr(b, "load_instruct_data", lambda folder: made)
        drawn = SimpleNamespace(train=[], validation=[], test=[], documents=[])
        monkeypatch.setattr(c, "build_retrieval_data", lambda *of: drawn)
        tracks = [kind(run, CORPUS, [], None) for kind in (a.TrackA, b.TrackB, c.TrackC)]
        for track, steps in zip(tracks, ("build before train after", "build hold_tasks before train after",
                                         "build before train after weigh_words"), strict=True):  # fmt: skip
            for name in steps.split():
                getattr(track, name)()
        assert run.guards.not_run == {}
        return run.digests

    return run


BASE = PROFILES["smoke"]


def changed(track: str, **values: Any) -> Profile:
    return dataclasses.replace(BASE, **{track: dataclasses.replace(getattr(BASE, track), **values)})


@pytest.mark.parametrize(
    ("profile", "again"),
    [
        (BASE, set()),
        (changed("track_a", epochs=3), {"track_a/train", "track_a/after"}),
        (changed("track_a", stride=32), {"track_a/before", "track_a/after"}),
        (changed("track_a", window=256), {"track_a/before", "track_a/train", "track_a/after"}),
        (changed("track_a", test_tokens=1), set()),
        (changed("track_a", controls=True), set()),
        (changed("track_b", learning_rate=1.0), {"track_b/train", "track_b/answers_after", "track_b/scored_after"}),
        (changed("track_b", samples_per_task=4),
         {"track_b/answers_before", "track_b/answers_after", "track_b/scored_before", "track_b/scored_after"}),
        (changed("track_b", rehearsed_answers=5),
         {"track_b/rehearsal", "track_b/train", "track_b/answers_after", "track_b/scored_after"}),
        (changed("track_b", generation_batch=4), set()),
        (changed("track_b", language="chat"), {"track_b/data"}),
        (changed("track_c", scale=20.0), {"track_c/train", "track_c/index_after", "track_c/hybrid"}),
        (changed("track_c", bootstrap_samples=5), set()),
    ],
)  # fmt: skip
def test_a_changed_setting_recomputes_what_reads_it_and_nothing_else(stages, profile, again) -> None:
    before, after = stages(BASE), stages(profile)
    assert len(before) == 16
    assert {name for name in before if before[name] != after[name]} == again


def test_a_metric_of_ones_own_reaches_the_section(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(b, "display", lambda shown: None)
    monkeypatch.setattr(b, "show", SimpleNamespace(table=lambda frame: None))
    monkeypatch.setattr(b.tables, "metric_table", lambda section: None)
    track = b.TrackB(Recorder(tmp_path, BASE), CORPUS, [], None)
    track.tasks = [
        Task(f"t{i}", "explain", f"f{i}", "m.py", "do", "four", "f", "", "", 1) for i in range(3)
    ]  # fmt: skip

    def scores(*texts: str) -> list[ResponseScore]:
        rows = [("t0", 0, texts[0]), ("t0", 1, "a sample"), ("t1", 0, texts[1]), ("t2", 0, texts[2])]
        return [ResponseScore(t, "explain", t, n, text, "failed", False, None, (), ()) for t, n, text in rows]

    track.scores_before, track.scores_after = scores("", "a", "ab"), scores("abcd", "abc", "ab")
    track.section = {"metrics": {}, "data": {}}
    track.add_metric("length_ratio", lambda answer, reference: len(answer) / len(reference))
    assert track.run.guards.not_run == {}
    kept = read_json(tmp_path / "track_b" / "section.json")
    entry = kept["metrics"]["length_ratio"]
    assert entry["before"]["value"] == pytest.approx((0 + 0.25 + 0.5) / 3)
    assert entry["after"]["value"] == pytest.approx((1 + 0.75 + 0.5) / 3)
    assert kept["data"]["added_metrics"] == ["length_ratio"]
