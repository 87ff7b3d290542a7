"""Run untrusted programs against tests and judge them by their answers.

`api` runs programs and records answers, `examination` runs a trusted program's cases one by one, and
`run_conditions` names what must not affect an answer (hash seed, memory layout, time zone, ...).
`step_counter` measures work independently of the machine's speed, and `workers` says what a warm process
preloads. The other modules are internals of the processes that run and judge a program. Fresh
interpreters import them, so nothing here may import torch. This package does not decide which programs
or tests to run, and it runs them on Linux only.
"""

__all__ = [
    "api", "call_filter", "child", "confine", "examination", "parsed_tests", "run_conditions",
    "scratch", "watch", "workers", "zygote",
]  # fmt: skip
