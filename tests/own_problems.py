"""Own problems in HumanEval's form, each with a right and a wrong body, for tests of the sandbox."""

from dataclasses import dataclass

from helpers.sandbox.api import Outcome, run_program
from helpers.tools.answers import closed_prompt, whole_program


@dataclass(frozen=True)
class Case:
    """A prompt (empty for whole programs), a right body, the tests, and a wrong body if there is one."""

    prompt: str
    right: str
    tests: str
    wrong: str | None
    entry_point: str = "f"


def outcomes(case: Case) -> tuple[Outcome, Outcome | None]:
    """Run the right and the wrong body; the tests get the classes of the prompt from the prompt."""
    tests = f"{closed_prompt(case.prompt)}\n{case.tests}"

    def run(body: str) -> Outcome:
        program = whole_program(case.prompt, case.entry_point, body)
        return run_program(program, tests, entry_point=case.entry_point)

    return run(case.right), None if case.wrong is None else run(case.wrong)
