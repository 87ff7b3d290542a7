"""The data card: `facts` counts what is known about the corpus, `page` renders all facts as Markdown.

Neither makes nor filters data: each builder counts its own part, and the card shows what it is given.
"""

__all__ = ["data_sets", "facts", "page"]
