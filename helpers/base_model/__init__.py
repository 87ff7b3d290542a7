"""The embedded base model: train, evaluate and describe the small code model that ships with the suite.

Holds its training text, change pairs, training windows, recipes, training, evaluation and card. The
command `pretrain --data code` uses it to rebuild or prolong `helpers/models/tiny_code_lm`. Loading or
adapting that model is not done here (`helpers.models`, `helpers.train`), nor is the challenge on
titles (`helpers.fixed_budget`).
"""

__all__ = ["training"]
