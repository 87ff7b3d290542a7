"""The suite's loops against the library's: processes that are timed, verdicts by hand, and what is trained."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal

import pytest
from tiny_embedder import save_tiny_embedder, small_code_base
from typer.testing import CliRunner

from helpers.__main__ import app
from helpers.bootstrap import suite_file
from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.machine.hardware import detect_runtime
from helpers.profiles import EMBEDDED
from helpers.profiling_lab.own_loops import compare_loops
from helpers.profiling_lab.own_loops.compare_loops import compare_own_loops, judge_loop, loop_line
from helpers.profiling_lab.own_loops.forked_run import ForkedRunError, run_forked
from helpers.profiling_lab.own_loops.loop_data import LoopData, loop_profile
from helpers.profiling_lab.own_loops.loops import LOOPS
from helpers.profiling_lab.pair_timing import ratio_of
from helpers.records import InstructPair

LOSS, MRR = LOOPS[0], LOOPS[2]


def test_a_forked_run_returns_the_value_and_the_kernels_seconds(tmp_path) -> None:
    done = run_forked(lambda: [sum(n for n in range(2_000_000)), os.sched_getaffinity(0) == {max(os.sched_getaffinity(0))}], tmp_path)  # fmt: skip
    assert done.value == [1_999_999_000_000, True]
    assert 0 < done.cpu_s <= done.wall_s + 0.1


def test_what_a_forked_run_said_is_told_when_it_fails(tmp_path) -> None:
    with pytest.raises(ForkedRunError, match="ZeroDivisionError"):
        run_forked(lambda: 1 // 0, tmp_path)
    with pytest.raises(ForkedRunError, match="ended with status"):
        run_forked(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path)


@pytest.mark.parametrize(
    ("loop", "seconds", "scores", "verdict"),
    [
        (LOSS, (4.0, 2.0), (1.0, 1.0), "faster"), (LOSS, (2.0, 4.0), (1.0, 1.0), "slower"),
        (LOSS, (2.0, 2.0), (1.0, 1.0), "no difference shown"), (LOSS, (4.0, 2.0), (1.0, 1.02), "worse result"),
        (LOSS, (4.0, 2.0), (1.0, 1.009), "faster"), (LOSS, (4.0, 2.0), (1.0, 0.5), "faster"),
        (LOSS, (4.0, 2.0), (1.0, math.nan), "worse result"), (MRR, (4.0, 2.0), (0.5, 0.48), "worse result"),
        (MRR, (4.0, 2.0), (0.5, 0.7), "faster"),
    ],
)  # fmt: skip
def test_a_worse_result_counts_before_any_speed(loop, seconds, scores, verdict) -> None:
    slow, fast = seconds
    pairs = [(slow * wobble, fast) for wobble in (0.99, 1.0, 1.01, 1.0, 1.0)]
    found = judge_loop(loop, ratio_of(pairs), [scores] * 5)
    assert found.verdict == verdict
    assert found.speedup == pytest.approx(slow / fast, rel=0.01)
    assert f"{scores[0]:.3f}" in loop_line(found)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> LoopData:
    folder = save_tiny_embedder(tmp_path_factory.mktemp("base") / "tiny", {})
    profile = loop_profile()
    embedding = dataclasses.replace(
        EMBEDDED.track_c, model=str(folder), train_pairs=24, validation_pairs=4, test_queries=12, max_tokens=48,
        epochs=1, hard_negatives=0, trained_layers=0,
    )  # fmt: skip
    pairs = tuple(
        InstructPair(str(n), "explain", f"f{n}", "a.py", f"Say {n}", f"It is {n}", 0, ()) for n in range(8)
    )
    texts = ("def double(x):\n    return 2 * x\n" * 6,)
    return LoopData(
        dataclasses.replace(profile.track_a, window=64, stride=64), texts, texts, texts,
        dataclasses.replace(profile.track_b, epochs=1), pairs, pairs[:2], pairs[2:4],
        embedding, build_retrieval_data(*small_code_base(), embedding, seed=3),
    )  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.track)
def test_what_the_library_trained_is_read_back_and_scored(loop, data, tmp_path) -> None:
    detect_runtime()
    loop.usual(data, 0, tmp_path)
    score = loop.score(data, tmp_path)
    assert math.isfinite(score)
    assert score > 0


def test_both_loops_are_timed_in_turn_and_the_verdict_is_the_exit_status(tmp_path, monkeypatch) -> None:
    """With stand-ins for the trainings: who is trained when, what is scored, what is written."""
    log = tmp_path / "log.txt"

    def training(way: str, work: int):
        def train(_data, seed, out) -> None:
            sum(n for n in range(work))
            (out / "trained").write_text(way)
            with log.open("a") as stream:
                stream.write(f"{way} {seed}\n")

        return train

    def score(_data, folder) -> float:
        return {"usual": 2.0, "ours": 1.5}[(folder / "trained").read_text()]

    loop = dataclasses.replace(
        LOSS, ours=training("ours", 400_000), usual=training("usual", 4_000_000), score=score
    )
    monkeypatch.setattr(compare_loops, "LOOPS", (loop,))
    monkeypatch.setattr(compare_loops, "_loop_data", lambda folder: None)
    (grade,) = compare_own_loops(tmp_path, ("A",), most_pairs=5)
    assert grade.verdict == "faster"
    assert (grade.usual, grade.ours) == (2.0, 1.5)
    assert log.read_text().split("\n")[:4] == ["usual 0", "ours 0", "ours 1", "usual 1"]
    written = json.loads((tmp_path / "exports" / "own_loops.json").read_text())
    assert written["grades"][0]["verdict"] == "faster"
    assert len(written["grades"][0]["pairs"]) == 5
    slower = dataclasses.replace(loop, ours=loop.usual, usual=loop.ours, score=lambda *_: 1.0)
    monkeypatch.setattr(compare_loops, "LOOPS", (slower,))
    done = CliRunner().invoke(app, ["profiling", "own-loops", "--track", "A", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "Track A: slower" in done.output
    wrong = CliRunner().invoke(app, ["profiling", "own-loops", "--track", "D", "--out", str(tmp_path)])
    assert wrong.exit_code != 0
    assert "choose" in str(wrong.exception) + wrong.output


def test_the_pages_quote_what_was_measured() -> None:
    root = suite_file("labs/problems/README.md").parents[2]
    grades = json.loads((root / "exports" / "own_loops.json").read_text())["grades"]
    assert {"A", "B"} <= {grade["track"] for grade in grades}
    page = (root / "docs" / "profiling.md").read_text()
    for grade in grades:
        low, high = grade["interval"]
        assert (
            f"| {grade['track']} | {grade['library']} | {grade['verdict']} | {grade['speedup']:.2f} "
            f"({low:.2f} to {high:.2f}) | {grade['figure']} {grade['ours']:.3f}, {grade['usual']:.3f} |"
        ) in page
        quoted = f"{grade['speedup']:.1f} ({grade['track']})"
        assert (quoted in (root / "README.md").read_text()) == (grade["verdict"] == "faster")
