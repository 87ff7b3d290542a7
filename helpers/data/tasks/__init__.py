"""Track B's data: instruction pairs to train on, and held-out tasks with tests to run.

`instruct_data` leads through the steps. Functions that may be run (`purity`) get tests (`candidate_cases`,
`suite_cases`, `test_sets`) that hold in any process (`stability`) and kill mutants (`bugs`,
`ground_truth`). They become drafts (`drafts`, `repairs`, `implementations` with `expected_answers`,
`branches`, `worsening`, `prose`); `filters` decides which drafts may stay, `choosing` which are used.
`checks`, `claims`, `aiming`, `generated_tests` and `execution` also serve to score answers. `rehearsal` has
the untouched model answer questions about general code, to be learnt again with the pairs. Generating and
scoring the answers to tasks is the job of `helpers.eval`.
"""

__all__ = [
    "aiming", "bugs", "checks", "execution", "generated_tests", "implementations", "instruct_data",
    "phrasings", "prose_models", "rehearsal", "repairs",
]  # fmt: skip
