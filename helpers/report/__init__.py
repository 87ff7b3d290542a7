"""Reporting: turn per-item rows into metrics.json, and metrics.json into tables, plots and pages.

`record_a`, `record_b` and `record_c` compute each track's section from its rows, `entries` holds the pieces
they share, and `metrics` assembles, checks and recomputes the document. Everything else only reads
it: tables, plots, notebook display, HTML page, comparison of runs. `export` makes the page, `first_screen`,
`essay`, `deciding` and `sections` its parts; `rebuild` makes the reports of a finished run again. `execute`
and `headless_run` run the notebook that all of this appears in. Nothing here trains or scores a model.
"""

__all__ = [
    "compare", "compare_page", "data_plots", "display", "execute", "export", "figure_style", "gallery",
    "headless_run", "ladder_table", "metrics", "own_metric", "plots", "plots_b", "plots_c",
    "plots_completion", "rebuild", "record_completion", "tables", "tables_c", "tables_completion",
    "typeset",
]  # fmt: skip
