"""The fixed-budget lab: pretrain small language models on titles, under rules that code enforces.

Holds everything the challenge needs: titles, tokenizers, models, recipes, rules, runs, the ablation
ladder, tables and the report. The commands `pretrain` and `lab` and the notebook in `labs/` use it.
It does not adapt models to a repository (`helpers.tracks`) and does not train the embedded base
model (`helpers.base_model`); the training loop itself is `helpers.train.from_scratch`.
"""

__all__ = [
    "budget_report", "commands", "experiment", "frozen_metric", "lab_plots", "lab_tables", "recipes",
    "rules", "title_model", "tokenizer",
]  # fmt: skip
