"""Kill a miniature run (stages, a real training, reports) again and again; see `test_interruption.py`.

Every attempt is a fork of this process, which has imported everything already. So most of an attempt is work,
and the kills fall into that. Asserts that the figures are those of an undisturbed run, and prints one JSON
object with the number of kills and attempts.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tiny_models
import torch

from helpers.eval.perplexity import evaluate_perplexity
from helpers.models.causal_lm import load_adapted, load_causal_lm
from helpers.profiles import RunRequest
from helpers.run.workspace import read_json, write_json
from helpers.settings import LoraSettings, TrackASettings
from helpers.tracks.session import open_session, publish_reports
from helpers.train.continued_pretraining import train_language_model

TEXTS = [f"def function_{i}(value):\n    return value + {i}\n\n\n" * 5 for i in range(6)]


def attempt(model: str, out: Path) -> None:
    """Resume whatever is there and end with `metrics.smoke.json`."""
    torch.set_num_threads(1)
    settings = TrackASettings(
        model=model, window=32, stride=16, train_tokens=0, validation_tokens=0, test_tokens=0, epochs=3,
        learning_rate=1e-2, batch_sequences=4, warmup_fraction=0.1, lora=LoraSettings(rank=4, alpha=8),
        rehearsal_share=0.0,
    )  # fmt: skip
    run = open_session(RunRequest("smoke", out=out, resume=True))

    def score(base_model, tokenizer) -> list[dict]:
        result = evaluate_perplexity(base_model, tokenizer, TEXTS[5:], window=32, stride=16)
        return [{"nll": text.nll_nats} for text in result.texts]

    before = run.rows("track_a/before", [settings], lambda: score(*load_causal_lm(model, run.runtime)))
    trained = run.stage(
        "track_a/train", [settings, TEXTS],
        lambda folder: train_language_model(
            settings, TEXTS[:4], TEXTS[4:5], run.runtime, seed=run.seed, out_dir=folder
        ),
    )  # fmt: skip
    history = run.history("track_a/train")
    after = run.rows(
        "track_a/after", [settings, history],
        lambda: score(*load_adapted(model, trained / "adapter", run.runtime)),
    )  # fmt: skip
    kept = ("train_loss", "validation", "best_step", "useful_share", "useful_tokens", "learning_rate")
    metrics = {"before": before, "after": after, "history": {name: history[name] for name in kept}}
    write_json(run.folder / "report" / "metrics.smoke.json", metrics)
    publish_reports(run.folder, out)


def forked(work: Callable[[], object]) -> int:
    # A thread's lock would stay locked for ever in the child: whatever starts threads runs in a child.
    # Arrow's allocator looks after its own thread in a fork.
    threads = [comm.read_text().strip() for comm in Path("/proc/self/task").glob("*/comm")]
    assert len([name for name in threads if name != "jemalloc_bg_thd"]) == 1, threads
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.redirect_stdout(sys.stderr):
            try:
                work()
                status = 0
            finally:
                os._exit(status)
    return child


def main(folder: Path, kills_wanted: int, seed: int) -> None:
    """Run undisturbed, then with kills at random moments until there were enough of them."""
    model = str(folder / "model")
    assert os.waitpid(forked(lambda: tiny_models.save(folder / "model", "qwen2")), 0)[1] == 0
    start = time.monotonic()
    assert os.waitpid(forked(lambda: attempt(model, folder / "calm")), 0)[1] == 0
    whole = time.monotonic() - start
    wanted = read_json(folder / "calm" / "metrics.smoke.json")
    rng, kills, runs, attempts, torn = random.Random(seed), 0, 0, 0, 0
    while kills < kills_wanted:
        out = folder / f"disturbed{runs}"
        runs += 1
        while not (out / "metrics.smoke.json").exists():
            attempts += 1
            child = forked(partial(attempt, model, out))
            until = time.monotonic() + rng.uniform(0.02, 0.7) * whole
            ended = 0
            while not ended and (kills >= kills_wanted or time.monotonic() < until):
                ended, status = os.waitpid(child, os.WNOHANG)
                time.sleep(0.005)
            if ended:
                assert status == 0, "an attempt failed"
            else:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                kills += 1
                torn += bool(list(out.glob("runs/*/**/*.partial")))
        found = read_json(out / "metrics.smoke.json")
        assert found == wanted, (found, wanted)
        assert len(list((out / "runs").iterdir())) == 1, "an unfinished run was not resumed"
    print(json.dumps({"kills": kills, "runs": runs, "attempts": attempts, "torn": torn, "seconds": whole}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
