"""Run an agent's scripts as the grader runs submissions: whole, in the lab's sandbox, on the problem's data.

The data are examples for practice: the grader draws a task, seeds and examples of its own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from helpers.profiling_lab.agent.agent_tools import ScriptRun
from helpers.profiling_lab.problem import Problem
from helpers.profiling_lab.script_runner import RunnerError, ScriptRunner, script_runner

PRACTICE_TASK, PRACTICE_EXAMPLES, PRACTICE_SEED = 1, 2, 3


class SandboxedScripts:
    """Implements the tools' `ScriptRunner` over one warm process, which is replaced if it fails."""

    def __init__(self, rules: Problem) -> None:
        self._rules = rules
        self._data = rules.task.draw(PRACTICE_TASK, rules.rows, PRACTICE_EXAMPLES)
        self._held = contextlib.ExitStack()
        self._runner: ScriptRunner | None = None

    def __call__(self, source: str, timeout_s: float) -> ScriptRun:
        """Run `source` with the arguments that the grader gives a submission; `timeout_s` is processor time.

        Raises:
            RunnerError: if the sandbox itself failed.
        """
        try:
            if self._runner is None:
                self._runner = self._held.enter_context(
                    script_runner(self._rules.preload, self._rules.memory_mb)
                )
            run = self._runner.run(source, self._data, PRACTICE_SEED, max(1, math.ceil(timeout_s)))
        except RunnerError:
            self.close()
            raise
        files = {path: content for path, content in run.files.items() if content is not None}
        return ScriptRun(run.error or "ended well", run.said, run.wall_s, run.cpu_s, files)

    def close(self) -> None:
        """End the warm process, if there is one."""
        self._runner = None
        self._held.close()


@contextlib.contextmanager
def sandboxed_scripts(rules: Problem) -> Iterator[SandboxedScripts]:
    """Run scripts for the problem `rules` within a `with` block; the process starts with the first script."""
    scripts = SandboxedScripts(rules)
    try:
        yield scripts
    finally:
        scripts.close()
