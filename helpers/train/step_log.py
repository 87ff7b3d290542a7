"""The log of a from-scratch run: one JSON object a line, for every step and every evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.machine.progress import bar
from helpers.train.checkpoints import TrainingProgress

LOG = "log.jsonl"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's log: `loss` or `evaluation` with `step`, `tokens` and `seconds`."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


class StepLog:
    """Writes the log and shows a progress bar; a run resumed after step `first` drops later lines."""

    def __init__(self, path: Path, first: int, label: str, total: int) -> None:
        kept = []
        if first and path.exists():
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    break  # a kill cut this line short
                if row["step"] <= first:
                    kept.append(line)
        path.write_text("".join(f"{line}\n" for line in kept))
        self.stream = path.open("a", encoding="utf-8")
        self.bar = bar(label, total=total, unit="step")
        self.bar.update(first)

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        self.stream.close()

    def write(self, **row: Any) -> None:
        """Append one row at once, so that a kill loses at most the last one."""
        self.stream.write(json.dumps(row) + "\n")
        self.stream.flush()

    def write_step(self, progress: TrainingProgress, loss: float, share: float, norm: float) -> None:
        """Append a training step and show it."""
        tokens, seconds = progress.tokens, progress.seconds
        self.write(step=progress.step, loss=loss, share=share, norm=norm, tokens=tokens, seconds=seconds)
        self.bar.set_postfix_str(
            f"loss {loss:.3f}, {tokens / max(seconds, 1e-9):,.0f} tokens/s", refresh=False
        )
        self.bar.update(1)
