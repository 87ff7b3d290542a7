"""Keep one run's files: find finished stages again, publish reports whole, and estimate the time left.

`workspace` stores stages by a hash of their inputs and `code_identity` hashes the code that they use.
`folder` finds, creates and publishes a run, `lock` keeps a second process out, and `second_copy` keeps
finished stages where they outlive the machine. `expected_seconds`, `earlier_runs`, `calibration` and
`time_left` estimate how long a run takes; `stage_names` names its stages for people. This package does
not know what a stage computes: the tracks decide that.
"""

__all__ = [
    "calibration", "code_identity", "expected_seconds", "folder", "lock", "second_copy", "stage_files",
    "stage_names", "time_left", "workspace",
]  # fmt: skip
