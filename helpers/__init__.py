"""Adapt a small code model to a repository, and measure honestly whether it helped.

Read in the order the data flows: `data` (corpus, functions, splits, pairs), `models`, `train`,
`eval`, `report`. `settings` says what a run is, `workspace` where it lies.
"""
