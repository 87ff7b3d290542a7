"""Reporting: turn per-item rows into metrics.json, and metrics.json into tables, plots and pages.

`record_a`, `record_b` and `record_c` compute each track's section from its rows, `entries` holds the pieces
they share, and `metrics` assembles, checks, writes and recomputes the document. Everything else only reads
it: tables, plots, notebook display, HTML page, comparison of runs. `execute` and `suite` run the notebook
that all of this appears in. Nothing here trains or scores a model.
"""

__all__ = [
    "compare", "data_plots", "display", "documents", "entries", "execute", "export", "ladder_table",
    "live_line", "metrics", "own_metric", "plots", "plots_c", "record_a", "record_b", "record_c", "suite",
    "tables", "tables_a", "tables_c",
]  # fmt: skip
