"""Read and edit source code as text: functions, docstrings, tokens, and the code in a model's answer.

`functions` and `tree_sitter_functions` cut functions from files (Python and other languages), `languages`
parses languages beside Python, `edits` and `docstrings` change a function's text, `near_duplicates` compares
token sets, and `secrets` masks keys. `extraction`, `fences` and `first_statement` find the code in an answer,
`style` and `quality` rate it, and the package `names` finds names in it that do not exist. This package runs
no code under study (see `helpers.sandbox`) and does not choose the files of a corpus (see `helpers.data`).
"""

__all__ = [
    "definitions", "docstrings", "edits", "extraction", "fences", "first_statement", "functions",
    "languages", "literals", "names", "near_duplicates", "python_text", "quality", "secrets", "statements",
    "style",
]  # fmt: skip
