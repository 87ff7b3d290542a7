"""The profiling lab: grade a faster version of a slow training script, and trust the verdict.

`grader` is the entry: it checks a submission's source, runs it whole in the sandbox, times it against the
slow script in alternation, and scores what it trained on inputs drawn afterwards. `grade_types` holds what
it returns. The problems themselves lie in `labs/problems/`.
"""

__all__ = [
    "agent", "example_grades", "grade_text", "grader", "lab_figures", "lab_run", "lower_bound",
    "own_loops", "problem", "slow_profile", "steps",
]  # fmt: skip
