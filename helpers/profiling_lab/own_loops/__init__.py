"""The suite's own training against plain library defaults: whole processes in turn, results scored after.

`compare_loops` is the entry; `loops` holds what is compared.
"""

__all__ = ["compare_loops"]
