"""Find the names in an answer that do not exist: the hallucination checker.

`checker.invented_names` is the entry point, and `context.NameContext` says what exists for a code base.
`modules` and `lookup` answer what installed modules offer; `receivers`, `calls` and `mentions` check
attributes, keyword arguments, and docstrings and prose. A missing import or a name used before it is
bound is a bug, not an invented name; this package does not report those. `helpers.eval.planted` measures how
often it errs.
"""

__all__ = ["checker", "context", "lookup", "mentions", "modules"]
