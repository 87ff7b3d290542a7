"""Planted names: measure how often the hallucination checker errs, on names known to be real or fake.

The checker itself is `helpers.code.names`; nothing here judges a model's answers.
"""

__all__ = ["name_check"]
