"""Track C's data: queries from docstrings, and the functions that they are searched in.

`retrieval_data` makes both sides of a corpus; `questions` chooses the functions that ask, `wording` turns a
docstring into a query, `documents` turns a function into the text that is searched. Searching and scoring
are in `helpers.eval`, training in `helpers.train`.
"""

__all__ = ["documents", "letters", "questions", "retrieval_data", "wording"]
