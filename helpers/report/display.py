"""Small tables and example texts that show data and decisions in the notebook.

They show the counts and samples that pass between the steps; `tables` and `plots` show the results.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown
from nbconvert.filters import markdown2html

from helpers.data.leaks import LeakReport
from helpers.data.queries.retrieval_data import RetrievalData
from helpers.data.tasks.instruct_data import InstructData
from helpers.escaping import code_block, html_text
from helpers.machine.hardware import Runtime
from helpers.models.footprint import Machine
from helpers.models.shapes import ShapeError
from helpers.plan import plan_rows, plan_run
from helpers.records import Query, TaskSetAside
from helpers.settings import Profile

HEADING_TAG = re.compile(r"(</?h)([1-6])\b")


def table(frame: pd.DataFrame, *, long_names: bool = False) -> HTML:
    """Render a table for reading: index as first column, no border, line breaks kept.

    Args:
        long_names: break words anywhere, for dotted names too long for a column.
    """
    shown = frame.reset_index().rename(columns=_cell).map(_cell)
    # Without the option, a hosted notebook would typeset what stands between two dollar signs.
    with pd.option_context("display.max_colwidth", None, "display.html.use_mathjax", False):
        page = shown.to_html(
            index=False, border=0, justify="left", escape=False, classes="names" if long_names else None
        )
    return HTML(page)


def decisions(runtime: Runtime) -> HTML:
    """List every hardware decision with its reason, one row each."""
    rows = [{"Decision": d.name, "Value": d.value, "Reason": d.reason} for d in runtime.decisions]
    return table(pd.DataFrame(rows).set_index("Decision"))


def memory_plan(profile: Profile, runtime: Runtime) -> HTML | str:
    """Show the planned memory and time of every step on this machine, one row each."""
    try:
        stages = plan_run(profile, Machine.of(runtime))
    except ShapeError as unknown:
        return f"No plan: {unknown}"
    return table(pd.DataFrame(plan_rows(stages, runtime.memory_gib)).set_index("stage"))


def counts(values: Mapping[str, int], what: str, unit: str) -> HTML:
    """Show a mapping of counts: names in column `what`, counts in column `unit`."""
    return table(pd.DataFrame(values.items(), columns=[what, unit]).set_index(what))


def split_sizes(leaks: LeakReport) -> HTML:
    """Show files and functions per split, as counted by the leak check."""
    rows = {"files": leaks.files, "functions": leaks.functions}
    return table(pd.DataFrame(rows).rename_axis("Split"))


def setting_values(values: Any, names: Sequence[str]) -> HTML:
    """Show the named settings of one track."""
    rows = [{"Setting": name.replace("_", " "), "Value": f"{getattr(values, name):g}"} for name in names]
    return table(pd.DataFrame(rows).set_index("Setting"))


def card(text: str) -> HTML:
    """Show the data card in a scrolling box, its headings two levels below the notebook's own."""
    header, body = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    page = markdown2html(f"{code_block(header, 'yaml')}\n{body}")
    lowered = HEADING_TAG.sub(lambda tag: f"{tag[1]}{min(6, int(tag[2]) + 2)}", page)
    return HTML(f'<div class="card">{lowered}</div>')


def pair(instruction: str, response: str) -> Markdown:
    """Show one instruction with its answer."""
    return Markdown(f"**Instruction**\n\n{code_block(instruction)}\n\n**Answer**\n\n{code_block(response)}")


def by_kind(instruct: InstructData | None, retrieval: RetrievalData | None) -> dict[str, dict[str, int]]:
    """Count pairs, tasks and queries as kind -> split -> number, for the tracks that have data."""
    items = {
        "B": (instruct.train, instruct.validation, instruct.tasks) if instruct else ((), (), ()),
        "C": (retrieval.train, retrieval.validation, retrieval.test) if retrieval else ((), (), ()),
    }
    splits = {
        name: Counter(f"{track}: {item.kind}" for track, parts in items.items() for item in parts[place])
        for place, name in enumerate(("train", "validation", "test"))
    }
    kinds = sorted({kind for counted in splits.values() for kind in counted})
    return {kind: {name: counted[kind] for name, counted in splits.items()} for kind in kinds}


def queries(some: Sequence[Query]) -> HTML:
    """Show queries beside the function that answers them."""
    rows = [(q.text, q.kind.replace("_", " "), next(iter(q.relevant))) for q in some]
    return table(pd.DataFrame(rows, columns=["Query", "Kind", "Answer"]).set_index("Query"))


def searches(rows: Sequence[Mapping[str, Any]]) -> HTML:
    """Show queries with the rank of their answer and the top three functions, before and after."""
    shown = [
        {
            "Query": row["text"],
            "Shown because": row["why"],
            "Answer": _short(next(iter(row["relevant"]))),
            "Rank before → after": f"{row['rank_before'] or 'none'} → {row['rank_after'] or 'none'}",
            "Top three before": "\n".join(map(_short, row["top3_before"])),
            "Top three after": "\n".join(map(_short, row["top3_after"])),
        }
        for row in rows
    ]
    return table(pd.DataFrame(shown).set_index("Query"), long_names=True)


def set_aside(items: Sequence[TaskSetAside], total: int) -> HTML | str:
    """Show the tasks set aside because their reference did not pass, with the scorer's detail."""
    if not items:
        return f"All {total} references pass: no task is set aside."
    rows = [
        {"Task set aside": i.task_id, "Kind": i.kind.replace("_", " "), "Function": i.function,
         "Status": i.status, "Detail": i.detail}
        for i in items
    ]  # fmt: skip
    return table(pd.DataFrame(rows).set_index("Task set aside"), long_names=True)


def _short(document_id: str) -> str:
    """Return the file and function of a document id, without the folders."""
    return document_id.rpartition("/")[2]


def _cell(value: Any) -> Any:
    """Return text as HTML that shows it; figures stay, since pandas formats them by column."""
    return value if isinstance(value, Number) else html_text(str(value))
