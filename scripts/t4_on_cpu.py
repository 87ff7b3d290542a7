"""Profile t4, whole, on a CPU: every step of the notebook with stand-ins for its models and few items.

    python scripts/t4_on_cpu.py OUT [--nf4]

With --nf4 Tracks A and B take 1.5B stand-ins, their frozen weights in 4 bits (bitsandbytes' CPU back end).
Started again after an interruption it goes on. Exit status 0 means: every track ran, the reports are
whole, and the figures follow from the per-item files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import stand_ins  # noqa: E402 (found beside this file)

from helpers.run.workspace import read_json  # noqa: E402

TRACKS = ("track_a", "track_b", "track_c")
FEW = (
    "corpus.max_files=40",
    "track_a.train_tokens=16000",
    "track_a.validation_tokens=1500",
    "track_a.test_tokens=4000",
    "track_a.epochs=1",
    "track_a.window=256",
    "track_a.stride=128",
    "track_a.general_files=2",
    "track_a.bootstrap_samples=500",
    "track_b.train_pairs=16",
    "track_b.validation_pairs=4",
    "track_b.executable_tasks=4",
    "track_b.language_tasks=2",
    "track_b.samples_per_task=3",
    "track_b.max_new_tokens=192",
    "track_b.max_prompt_tokens=512",
    "track_b.epochs=1",
    "track_b.bootstrap_samples=500",
    "track_c.train_pairs=16",
    "track_c.validation_pairs=4",
    "track_c.test_queries=8",
    "track_c.max_tokens=64",
    "track_c.epochs=1",
    "track_c.batch_pairs=8",
    "track_c.seeds=2",
    "track_c.bootstrap_samples=500",
    "failure_cases=10",
)


def corpus_texts() -> list[str]:
    """What the stand-ins' tokenizers are learnt from: files of the default corpus."""
    sources = sorted(Path(find_spec("networkx").origin).parent.rglob("*.py"))[:80]
    return [path.read_text(encoding="utf-8") for path in sources]


def run_profile(
    out: Path, size: stand_ins.Size, *, larger: bool, settings: Sequence[str] = (), **environment: str
) -> dict[str, Any]:
    """Run profile t4 on stand-ins of this size below `out`; its metrics, checked.

    Args:
        larger: 1.5B in Tracks A and B with their frozen weights in 4 bits, instead of 0.5B.
        settings: as `--set` takes them.
        environment: variables for the run, beside those there are.

    Raises:
        CalledProcessError, AssertionError: if the run fails, leaves a track out, or its figures do not
            follow from its files.
    """
    base = "Qwen2.5-Coder-1.5B" if larger else "Qwen2.5-Coder-0.5B"
    names = (base, f"{base}-Instruct", stand_ins.EMBEDDER)
    made = stand_ins.build(out / "stand_ins", corpus_texts(), size, names)
    command = [sys.executable, "-W", "ignore", "-m", "helpers", "run", "--profile", "t4", "--resume"]
    command += ["--out", str(out)]
    for flag, name in zip(("--causal-lm", "--chat-lm", "--embedder"), names, strict=True):
        command += [flag, str(made[name])]
    command += [part for setting in settings for part in ("--set", setting)] + (["--nf4"] if larger else [])
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | environment)
    (run,) = (out / "runs").iterdir()
    subprocess.run([sys.executable, "-m", "helpers", "verify", "--run", str(run)], cwd=ROOT, check=True)
    metrics = read_json(out / ("metrics.t4.json" if settings else "metrics.json"))
    for name in TRACKS:
        assert metrics[name]["verdict"] != "not_run", f"{name}: {metrics[name].get('reason')}"
        assert "planned_gib" in metrics[name]["cost"]["memory_by_stage"]["train"]
    return metrics


def main(out: Path, larger: bool) -> None:
    """Run the suite on small stand-ins, check what came out."""
    metrics = run_profile(out, stand_ins.SMALL, larger=larger, settings=FEW)
    for name in ("track_a", "track_b"):
        assert metrics[name]["cost"]["frozen_weights"] == ("NF4" if larger else "float32")
    print("profile t4 ran whole on the CPU:", {name: metrics[name]["verdict"] for name in TRACKS})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), "--nf4" in sys.argv[2:])
