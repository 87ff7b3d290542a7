"""Profile t4, whole, on a CPU: every step of the notebook with stand-ins for its models and few items.

    python scripts/t4_on_cpu.py OUT [--nf4]

With --nf4 Track A takes the 1.5B stand-in and all frozen weights go to 4 bits (bitsandbytes' CPU back end).
Started again after an interruption it goes on. Exit status 0 means: every track ran, the reports are
whole, and the figures follow from the per-item files.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import stand_ins  # noqa: E402 (found beside this file)

from helpers.workspace import read_json  # noqa: E402

FEW = (
    "corpus.max_files=24",
    "track_a.train_tokens=8000",
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
    "track_b.max_new_tokens=48",
    "track_b.max_prompt_tokens=512",
    "track_b.epochs=1",
    "track_b.bootstrap_samples=500",
    "track_c.train_pairs=16",
    "track_c.validation_pairs=4",
    "track_c.test_queries=8",
    "track_c.max_tokens=64",
    "track_c.epochs=1",
    "track_c.batch_pairs=8",
    "track_c.bootstrap_samples=500",
    "failure_cases=10",
)


def main(out: Path, nf4: bool) -> None:
    """Build the stand-ins, run the suite on them, check what came out."""
    sources = sorted(Path(find_spec("networkx").origin).parent.rglob("*.py"))[:80]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    made = stand_ins.build(out / "stand_ins", texts)
    command = [sys.executable, "-W", "ignore", "-m", "helpers", "run", "--profile", "t4", "--resume"]
    command += ["--out", str(out)]
    command += ["--causal-lm", str(made["Qwen2.5-Coder-1.5B" if nf4 else "Qwen2.5-Coder-0.5B"])]
    command += ["--chat-lm", str(made["Qwen2.5-Coder-0.5B-Instruct"]), "--embedder", str(made["e5-small-v2"])]
    command += [part for setting in FEW for part in ("--set", setting)] + (["--nf4"] if nf4 else [])
    subprocess.run(command, cwd=ROOT, check=True)
    (run,) = (out / "runs").iterdir()
    subprocess.run([sys.executable, "-m", "helpers", "verify", "--run", str(run)], cwd=ROOT, check=True)
    metrics = read_json(out / "metrics.t4.json")
    tracks = {name: metrics[name] for name in ("track_a", "track_b", "track_c")}
    for name, track in tracks.items():
        assert track["verdict"] != "not_run", f"{name}: {track.get('reason')}"
    for name in ("track_a", "track_b"):
        assert tracks[name]["cost"]["frozen_weights"] == ("NF4" if nf4 else "float32")
    memory = {name: track["cost"]["memory_by_stage"] for name, track in tracks.items()}
    assert all("planned_gib" in memory[name]["train"] for name in tracks)
    print("profile t4 ran whole on the CPU:", {name: track["verdict"] for name, track in tracks.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), "--nf4" in sys.argv[2:])
