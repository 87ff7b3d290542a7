"""Read a code base and make the data that the three tracks train on and are measured on.

From a spec (`corpus_spec`) to accepted files (`walking`, `cleaning`, `corpus`), splits without leaks
(`splits`), and what a model may have seen of them before (`exposure`, `older_release`). The packages
below make Track B's pairs and tasks (`tasks`), Track C's queries and documents (`queries`) and the data
card (`card`). Nothing here trains or measures a model, and code of a corpus runs in the sandbox only.
"""

__all__ = [
    "card", "completion_items", "contamination", "corpus", "corpus_spec", "draw", "exposure", "foreign",
    "general_code", "leaks", "licences", "queries", "splits", "tasks", "twins",
]  # fmt: skip
