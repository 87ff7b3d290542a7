"""Finished runs of the fixed-budget lab: what is recorded, where it lies, how it is read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from helpers.fixed_budget.frozen_metric import BudgetScore
from helpers.fixed_budget.recipes import Scale
from helpers.fixed_budget.rules import SEED

RESULT = "result.json"  # in a finished run's folder


@dataclass(frozen=True)
class BudgetRun:
    """One finished run: what was trained, what it scored, what it cost."""

    name: str
    data: dict[str, str | int]  # spec, sha256, titles, training, validation, repeated titles
    scale: str
    seed: int
    spread: bool  # whether another seed than the challenge's was allowed
    is_challenge: bool  # the challenge's data, at full scale, with its seed
    score: BudgetScore
    curve: tuple[tuple[int, float, float], ...]  # step, training tokens seen, full nats per character
    parameters: int
    vocabulary: int
    steps: int
    tokens: int  # targets trained on
    seconds: float  # training only
    tokens_per_second: float
    peak_memory_gib: float
    precision: str
    hardware: dict[str, str | int | float]
    versions: dict[str, str]
    commit: str
    finished: str  # UTC, ISO 8601
    samples: tuple[str, ...]
    recipe: dict
    side_by_side: int = 1  # runs that shared the machine; if more than one, seconds mean little

    @property
    def is_spread(self) -> bool:
        """Whether the run only measures chance, with another seed than the challenge's."""
        return self.spread and self.seed != SEED


def read_run(fields: dict) -> BudgetRun:
    """Rebuild a run from its JSON, as in `result.json` or the lab's report."""
    curve = tuple(tuple(point) for point in fields["curve"])
    score, samples = BudgetScore(**fields["score"]), tuple(fields["samples"])
    return BudgetRun(**fields | {"score": score, "curve": curve, "samples": samples})


def runs_folder(out: Path, spec: str, scale: Scale) -> Path:
    """Return the folder of all runs on these titles at this scale."""
    return out / f"{_slug(spec)}-{scale.name}"


def run_name(recipe: str, seed: int) -> str:
    """Return the name of a run's folder."""
    return f"{_slug(recipe)}-{seed}"


def _slug(text: str) -> str:
    """Keep letters and digits of `text`, in lower case; replace anything else by hyphens."""
    return "-".join("".join(c if c.isalnum() else " " for c in text).lower().split())
