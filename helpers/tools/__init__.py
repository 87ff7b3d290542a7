"""Commands that a person runs apart from a whole run.

`search` finds functions and `complete` continues code with the models that a run adapted; `score` scores
sample files of published benchmarks; `verify_pairs` checks a run's saved pairs; `track_a_ladder` compares
training settings. A run uses only what they share with it: `general_problems` and the scorer under it, the
catalogue for `search`, and the saved ladder for its report. `helpers.__main__` reads these commands' options.
"""

__all__ = [
    "complete", "completion_run", "general_problems", "problem_files", "retrieved_prompt", "score", "search",
    "track_a_ladder", "verify_pairs",
]  # fmt: skip
