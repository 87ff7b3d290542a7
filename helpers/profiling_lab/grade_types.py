"""What a grading returns: plain records that turn into JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

# Why a submission did not pass, from its first failed check; "infrastructure_error" says nothing about it.
Status = Literal[
    "passed", "unreadable", "refused", "crashed", "timeout", "bad_output", "wrong_result", "too_slow",
    "infrastructure_error",
]  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One condition: whether the submission meets it, and a sentence that says what was found."""

    name: str
    passed: bool
    evidence: str


@dataclass(frozen=True)
class Grade:
    """The verdict on one submission.

    `speedup` is the baseline's processor seconds over the submission's, as geometric mean over pairs of
    runs, and `interval` its 95% interval; both are None if an earlier check failed, since nothing is timed
    then. `checks` stand in the order in which they were made, up to the last that could be made.
    """

    problem: str
    status: Status
    passed: bool
    speedup: float | None
    interval: tuple[float, float] | None
    checks: tuple[Check, ...]

    @property
    def failed(self) -> Check | None:
        """The first check that failed, or None."""
        return next((check for check in self.checks if not check.passed), None)

    def to_json(self) -> dict[str, Any]:
        """Return the grade as plain JSON values; a figure that is not finite becomes None."""
        fields = asdict(self)
        numbers = (self.speedup, *(self.interval or ()))
        if any(number is not None and not math.isfinite(number) for number in numbers):
            fields["speedup"] = fields["interval"] = None
        return fields | {"checks": [asdict(check) for check in self.checks]}
