"""What the notebook shows of data and decisions: small tables and example texts.

Figures of results come from `tables` and `plots`, which read metrics.json; here it is counts and
samples of what flows between the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from helpers.data.splits import LeakReport
from helpers.records import Failure, Query
from helpers.runtime import Runtime


def decisions(runtime: Runtime) -> pd.DataFrame:
    """One row per hardware decision with its reason."""
    rows = [{"Decision": d.name, "Value": d.value, "Because": d.reason} for d in runtime.decisions]
    return pd.DataFrame(rows).set_index("Decision")


def counts(values: Mapping[str, int], what: str, unit: str) -> pd.DataFrame:
    """A mapping of counts as a table: column `what` names, column `unit` counts."""
    return pd.DataFrame(values.items(), columns=[what, unit]).set_index(what)


def splits(leaks: LeakReport) -> pd.DataFrame:
    """Files and functions per split, as the leak check counted them."""
    rows = {"files": leaks.files, "functions": leaks.functions}
    return pd.DataFrame(rows).rename_axis("Split")


def settings(values: Any, names: Sequence[str]) -> pd.DataFrame:
    """The named settings of one track."""
    rows = [{"Setting": name.replace("_", " "), "Value": f"{getattr(values, name):g}"} for name in names]
    return pd.DataFrame(rows).set_index("Setting")


def fenced(text: str, language: str = "text") -> str:
    """`text` as a Markdown code block whose fence no line of it can close."""
    fence = "`" * max(3, _longest_backticks(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def pair(instruction: str, response: str) -> Markdown:
    """One instruction with its answer."""
    return Markdown(f"**Asked**\n\n{fenced(instruction)}\n\n**Answer**\n\n{fenced(response)}")


def queries(some: Sequence[Query]) -> pd.DataFrame:
    """Queries beside the function that answers them."""
    rows = [
        {"Query": q.text, "Kind": q.kind.replace("_", " "), "Answer": next(iter(q.relevant))} for q in some
    ]
    return pd.DataFrame(rows).set_index("Query")


def searches(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Queries with the rank of their answer and the first three functions, before and after."""
    shown = [
        {
            "Query": row["text"],
            "Shown because": row["why"],
            "Answer": next(iter(row["relevant"])),
            "Rank before → after": f"{row['rank_before'] or 'none'} → {row['rank_after'] or 'none'}",
            "First three before": "\n".join(row["top3_before"]),
            "First three after": "\n".join(row["top3_after"]),
        }
        for row in rows
    ]
    return pd.DataFrame(shown).set_index("Query")


def failures(cases: Sequence[Failure]) -> Markdown:
    """Every failure case with input, expected, got and diagnosis."""
    parts = []
    for number, case in enumerate(cases, 1):
        track = f"Track {case.track[-1].upper()}"
        parts.append(
            f"### {number}. {track}: {case.category}\n\n`{case.item_id}`\n\n**Diagnosis.** {case.diagnosis}\n\n"
            f"**Input**\n\n{fenced(case.input)}\n\n**Expected**\n\n{fenced(case.expected)}\n\n"
            f"**Got**\n\n{fenced(case.got)}"
        )
    return Markdown("\n\n".join(parts))


def _longest_backticks(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
