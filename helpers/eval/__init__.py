"""Evaluation: the measures, and the code that applies them before and after training.

Perplexity, pass@k, retrieval measures, the scoring of answers, the statistics that say what a change is
worth, and the choice of failure cases. The same functions score the model before and after training and
every baseline. Nothing here trains a model, draws a figure or writes metrics.json: `helpers.report` turns
these results into entries, tables and plots.
"""

__all__ = [
    "completion_arms", "completion_choice", "completion_comparison", "completion_context",
    "completion_results", "completion_task", "failures", "failures_b", "failures_completion",
    "file_score_rows", "file_scores", "fusion", "hybrid", "lexical", "pass_at_k", "perplexity", "planted",
    "planted_secrets", "references", "response_generation", "response_scoring", "retrieval", "sandbox",
    "statistics", "token_roles", "vector_index",
]  # fmt: skip
