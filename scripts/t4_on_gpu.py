"""Profile t4, whole, on a CUDA GPU held to what a T4 has: peaks, speed and times for the documentation.

    python scripts/t4_on_gpu.py OUT [--larger]

Full-size stand-ins with random weights (0.5B, or 1.5B in 4 bits with --larger), float16, no flash kernels,
14.74 GiB (see `as_t4`). Writes OUT/t4_measured.json and OUT/t4_measured.md, the plan beside what was
measured. Random weights never end an answer: Track B's times are those of the longest answers. Started
again after an interruption it goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import as_t4  # noqa: E402 (found beside this file)
import stand_ins  # noqa: E402
from t4_on_cpu import TRACKS, run_profile  # noqa: E402

from helpers.run.workspace import write_json, write_text  # noqa: E402


def measured(metrics: dict[str, Any]) -> dict[str, Any]:
    """What the documentation needs of metrics.json: device, seconds, and a row for every stage.

    A row's `planned_gib` and `peak_gib` count tensors, `seconds` the whole stage; `tokens_per_second`
    stands with the trainings that count tokens. What was not planned or measured is None.
    """
    rows = []
    for track in TRACKS:
        cost = metrics[track]["cost"]
        memory, seconds = cost["memory_by_stage"], cost["seconds_by_stage"]
        for stage in memory | seconds:
            speed = cost.get("tokens_per_second") if stage == "train" else None
            rows.append(
                {
                    "stage": f"{track}/{stage}",
                    "planned_gib": memory.get(stage, {}).get("planned_gib"),
                    "peak_gib": memory.get(stage, {}).get("peak_gib"),
                    "seconds": seconds.get(stage),
                    "tokens_per_second": speed,
                }
            )
    run = metrics["run"]
    lowered = {track: metrics[track]["cost"].get("lowered", []) for track in TRACKS}
    models = {track: Path(metrics[track]["model"]).name for track in TRACKS}
    return {
        "device": run["hardware"]["name"], "memory_gib": run["hardware"]["memory_gib"],
        "precision": run["hardware"]["precision"], "versions": run["versions"], "seconds": run["seconds"],
        "models": models, "made_smaller": lowered, "stages": rows,
    }  # fmt: skip


def as_markdown(found: dict[str, Any]) -> str:
    """`measured`'s answer as one table under a line that says what was measured, and where."""
    head = ("stage", "planned GiB", "measured GiB", "seconds", "tokens/s")
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in found["stages"]:
        numbers = (
            _number(row["planned_gib"], 2), _number(row["peak_gib"], 2), _number(row["seconds"], 0),
            _number(row["tokens_per_second"], 0),
        )  # fmt: skip
        lines.append(f"| {row['stage']} | " + " | ".join(numbers) + " |")
    models = ", ".join(dict.fromkeys(found["models"].values()))
    where = f"{found['device']}, {found['memory_gib']:.2f} GiB, {found['precision']}"
    smaller = [f"{track}: {step}" for track, steps in found["made_smaller"].items() for step in steps]
    return (
        f"Profile t4 with random weights of the sizes of {models}; {where}; "
        f"{found['seconds'] / 60:.1f} minutes in all. Made smaller for want of memory: "
        f"{'; '.join(smaller) or 'nothing'}.\n\n" + "\n".join(lines) + "\n"
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def main(out: Path, larger: bool) -> None:
    """Run, then write both files."""
    as_t4.pretend()  # says at once where there is no such GPU
    folder = as_t4.startup_folder(out / "ipython")
    found = measured(run_profile(out, stand_ins.FULL, larger=larger, IPYTHONDIR=str(folder)))
    assert (found["memory_gib"], found["precision"]) == (14.74, "float16"), "the run was not held to a T4"
    write_json(out / "t4_measured.json", found)
    write_text(out / "t4_measured.md", as_markdown(found))
    print(as_markdown(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), "--larger" in sys.argv[2:])
