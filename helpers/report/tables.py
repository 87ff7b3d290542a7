"""Tables and sentences built from metrics.json, for the terminal, the notebook and the HTML page.

No figure is typed in. Each function takes the metrics or one track's section, and words an improvement, no
difference and a regression in the same tone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helpers.escaping import cell, inline
from helpers.report.entries import entry_verdict
from helpers.settings import SET_ASIDE_LIMIT

TRACK_NAMES = {
    "track_a": "A · extended pretraining",
    "track_b": "B · instruction tuning",
    "track_c": "C · embedding tuning",
}
METRIC_NAMES = {  # others are shown as they are, with spaces for underscores
    "top1_accuracy": "next-token accuracy",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
    "recall@10": "Recall@10",
    "recall@1": "Recall@1",
    "recall@5": "Recall@5",
    "pass@1": "pass@1, greedy",
    "pass@1_sampled": "pass@1, sampled",
    "parsable": "code that parses",
    "style": "style score",
}
ITEMS = {"bits_per_byte": "files", "pass@1": "tasks", "mrr@10": "queries"}  # what n counts
NO_BREAK = "\N{NO-BREAK SPACE}"  # keeps figures together in narrow table cells


def summary_rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return track, model, metric, before, after, change, p, n and verdict per track, as text."""
    rows = []
    for name, title in TRACK_NAMES.items():
        track = metrics[name]
        row = {"track": title, "model": track["model"], "metric": metric_name(track["primary_metric"])}
        entry = track["metrics"].get(track["primary_metric"])
        row |= _cells(entry) if entry else dict.fromkeys(("before", "after", "change", "p", "n"), "–")
        reason = f": {track['reason']}" if track["verdict"] == "not_run" else ""
        row["verdict"] = verdict_text(track) + reason
        rows.append(row)
    return rows


def summary_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Show the primary metric of each track (`summary_rows` as a table)."""
    return pd.DataFrame(summary_rows(metrics)).rename(columns=_heading).set_index("Track")


def metric_table(track: Mapping[str, Any]) -> pd.DataFrame:
    """Show every metric of one track, before and after with intervals, and how to read its change.

    Metrics over all items come first, those over a part of the items (`NAME/PART`) below them. Intervals
    matter most for counts of zero: 0 of 30 does not mean never.
    """
    rows = [
        {"metric": metric_name(name), **_cells(entry)}
        | {side: estimate_text(entry[side]) for side in ("before", "after")}
        | {"reading": entry_verdict(entry).replace("_", " ")}
        for name, entry in sorted(track["metrics"].items(), key=lambda item: "/" in item[0])
    ]
    columns = ["metric", "before", "after", "change", "p", "n", "reading"]
    return pd.DataFrame(rows, columns=columns).rename(columns=_heading).set_index("Metric")


def control_table(track: Mapping[str, Any]) -> pd.DataFrame:
    """Show the controls that are metric entries (forgetting, foreign code, ...), as `metric_table` does."""
    controls = {name: c for name, c in track["controls"].items() if isinstance(c, dict) and "delta" in c}
    return metric_table({"metrics": controls}).rename_axis("Control")


def baseline_table(track: Mapping[str, Any], beside: Sequence[str] = ()) -> pd.DataFrame:
    """Show trivial baselines beside the model before and after, on the primary metric.

    Args:
        beside: further metrics, one column each; a dash where a system has no value.
    """
    primary = track["primary_metric"]
    names = [name for name in (primary, *beside) if name in track["metrics"]]
    columns = {name: f"{metric_name(name)} [95% interval]" for name in names}
    rows = [
        {"System": f"{side} adaptation"}
        | {columns[name]: estimate_text(track["metrics"][name][side]) for name in names}
        for side in ("before", "after")
    ]
    for name, values in track["baselines"].items():
        if primary not in values:
            continue
        row = {"System": name.replace("_", " ")}
        row |= {columns[metric]: estimate_text(values[metric]) for metric in names if metric in values}
        if "after_minus_baseline" in values[primary]:
            row["adapted − this system"] = change_text(values[primary]["after_minus_baseline"])
        rows.append(row)
    return pd.DataFrame(rows).fillna("–").set_index("System")


def checker_table(track: Mapping[str, Any]) -> pd.DataFrame:
    """Show how often the hallucination checker was right on planted names; empty if not measured."""
    checker = track["controls"].get("hallucination_checker")
    columns = ["Hallucination checker", "Value [95% interval]", "n", "Wrong on"]
    if not checker:
        return pd.DataFrame(columns=columns).set_index(columns[0])
    rows = [
        (what, estimate_text(checker[rate]), str(checker[rate]["n"]), ", ".join(checker[wrong]) or "none")
        for what, rate, wrong in (
            ("precision: flagged names that are fakes", "precision", "false_alarms"),
            ("recall: fakes that are flagged", "recall", "missed"),
        )
    ]
    return pd.DataFrame(rows, columns=columns).set_index(columns[0])


def cost_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Show the cost of each track that ran: minutes by stage, training speed, peak process memory."""
    rows = []
    for name, title in TRACK_NAMES.items():
        cost = metrics[name]["cost"]
        if not cost:
            continue
        spent = cost["seconds_by_stage"].items()
        stages = ", ".join(f"{stage.replace('_', ' ')} {seconds:.0f} s" for stage, seconds in spent)
        speed = f"{cost['tokens_per_second']:,.0f}" if "tokens_per_second" in cost else "–"
        row = {"Track": title, "Minutes": f"{cost['seconds'] / 60:.1f}", "Stages": stages}
        rows.append(row | {"Training tokens/s": speed, "Peak GiB": f"{cost['peak_memory_gib']:.1f}"})
    columns = ["Track", "Minutes", "Stages", "Training tokens/s", "Peak GiB"]
    return pd.DataFrame(rows, columns=columns).set_index("Track")


def markdown(table: pd.DataFrame) -> str:
    """Format a table as Markdown, index first; cells show their text, whatever it holds."""
    frame = table.reset_index()
    lines = [list(frame.columns), *frame.astype(str).to_numpy().tolist()]
    rows = ["| " + " | ".join(cell(str(value)) for value in line) + " |" for line in lines]
    return "\n".join([rows[0], "| --- " * len(frame.columns) + "|", *rows[1:]])


def verdict_text(track: Mapping[str, Any]) -> str:
    """Return the track's verdict without underscores."""
    return track["verdict"].replace("_", " ")


def verdict_sentence(track: Mapping[str, Any]) -> str:
    """Word the primary metric and its verdict in plain language (Markdown).

    If too many tasks had to be set aside, that comes first.
    """
    if track["verdict"] == "not_run":
        return f"Not run: {inline(track['reason'].rstrip('.'))}. Needed: {inline(track['needed'])}."
    entry = track["metrics"][track["primary_metric"]]
    delta, (low, high) = entry["delta"], entry["delta"]["ci95"]
    name = metric_name(track["primary_metric"])
    before, after = (number(entry[side]["value"]) for side in ("before", "after"))
    moved = f"{'rose' if delta['value'] > 0 else 'fell'} from {before} to {after}"
    if not delta["value"]:
        moved = f"stayed at {after}"
    change = (
        f"{name[0].upper()}{name[1:]} {moved} on {items_text(track)}: a change of "
        f"{number(delta['value'], signed=True)}, 95% interval {number(low, signed=True)} to "
        f"{number(high, signed=True)}, {p_text(delta['p_value'])}."
    )
    better = "Higher" if entry["higher_is_better"] else "Lower"
    reading = {
        "improved": f"{better} is better, so this is an improvement beyond chance.",
        "no_detectable_difference": (
            f"This is no detectable difference: on these {items_name(track)}, chance could explain the "
            "change. That is not proof that nothing changed."
        ),
        "regressed": f"{better} is better, so this is a regression beyond chance.",
    }
    return f"{set_aside_warning(track)} {change} {reading[entry_verdict(entry)]}".lstrip()


def pretraining_control_sentences(track: Mapping[str, Any]) -> str:
    """Say what the model may have seen, what it forgot, and whether foreign code helps as much (Markdown)."""
    controls, facts = track["controls"], track["data"]
    said = []
    if "exposure_note" in facts:
        said.append(f"**Seen before?** {inline(facts['exposure_note'])}.")
    if unseen := controls.get("changed_after_cut_off"):
        said[-1] += (
            f" On the {unseen['after']['n']} of them that are held out, bits per byte change by "
            f"{change_text(unseen['delta'])}."
        )
    if general := controls.get("general_code"):
        low, high = general["delta"]["ci95"]
        share = general["delta"]["value"] / general["before"]["value"]
        moved = "rise" if low > 0 else "fall" if high < 0 else "do not change detectably"
        said.append(
            f"**Forgetting.** On {general['after']['n']} files of general code, bits per byte {moved}: "
            f"{change_text(general['delta'])}, or {share:+.1%}.".replace("-", "−")
        )
        if (scale := track["cost"].get("adapter_scale", 1.0)) < 1:
            said[-1] += f" The saved adapter is scaled by {scale:g}, chosen on the validation files."
    if foreign := controls.get("foreign_corpus"):
        added = controls["own_instead_of_foreign"]["delta"]
        low, high = added["ci95"]
        own = track["metrics"][track["primary_metric"]]["delta"]["value"]
        reading = (
            "the gain comes from the repository's own files"
            if high < 0
            else "the repository's own files were no better than foreign code"
            if low > 0
            else "these files cannot tell the repository's own files from foreign code"
        )
        said.append(
            f"**Foreign code.** Training on {inline(facts['foreign_corpus'])} with the same budget "
            f"({facts['foreign_tokens']:,} tokens, against {facts['own_tokens']:,} of the repository) "
            f"changes the held-out files by {change_text(foreign['delta'])} bits per byte; training on the "
            f"repository changes them by {number(own, signed=True)}. Repository minus foreign: "
            f"{change_text(added)}, so {reading}."
        )
    if twin := controls.get("clean_twin"):
        said.append(_twin_sentence(track, twin))
    if checked := controls.get("bfloat16_products"):
        said.append(_precision_sentence(checked))
    return "\n\n".join(said) or "This profile measures no controls."


def _twin_sentence(track: Mapping[str, Any], twin: Mapping[str, Any]) -> str:
    """Compare the gain with that of a model that never saw the repository, each as a share (Markdown)."""
    facts, own = track["data"], track["metrics"][track["primary_metric"]]
    ours, its = (
        f"{entry['delta']['value'] / entry['before']['value']:+.1%}".replace("-", "−")
        for entry in (own, twin)
    )
    low, high = twin["delta"]["ci95"]
    gained = "gains" if high < 0 else "loses" if low > 0 else "does not change detectably"
    clean = facts["twin_exposure"] == "unseen"
    reading = (
        f"it cannot have remembered these files, and {gained} by the same method"
        if clean
        else f"it may have seen these files too, and {gained}: this control says little"
    )
    return (
        f"**Clean twin.** {inline(facts['twin_model'])}, tuned on the same files by the same method: bits "
        f"per byte change by {change_text(twin['delta'])}, or {its}, where the model itself changes by "
        f"{ours}. {inline(facts['twin_note'])}: {reading}."
    )


def _precision_sentence(checked: Mapping[str, Any]) -> str:
    """Say in which precision the files were scored, and what that changes (Markdown)."""
    changes = " and ".join(
        f"{change:+.5f} for the {model} model"
        for model, change in checked["difference_bits_per_byte"].items()
    ).replace("-", "−")
    reading = (
        "so all files were scored that way"
        if checked["used"]
        else "which is too much, so all files were scored in float32"
    )
    return (
        f"**Precision.** Scored in float32 and with bfloat16 products, {checked['files']} of the held-out "
        f"files {'differs' if checked['files'] == 1 else 'differ'} in bits per byte by {changes} (limit "
        f"{checked['limit']:g}), {reading}."
    )


def instruction_control_sentence(track: Mapping[str, Any]) -> str:
    """Say what share of general problems the model solves before and after tuning (Markdown)."""
    general = track["controls"].get("general_problems")
    if not general:
        return "This profile does not measure what Track B's model forgets."
    low, high = general["delta"]["ci95"]
    moved = "rises" if low > 0 else "falls" if high < 0 else "does not change detectably"
    return (
        f"**Forgetting.** On {general['after']['n']} of HumanEval's problems, which have nothing to do with "
        f"the repository, the share solved {moved}: {number(general['before']['value'])} before, "
        f"{number(general['after']['value'])} after, {change_text(general['delta'])}."
    )


def set_aside_text(n: int, total: int) -> str:
    """Word the warning that so many tasks were set aside that the tests cannot be trusted here."""
    return (
        f"the tests do not hold on this machine: the references of {n} of {total} tasks ({n / total:.0%}) "
        "fail their own tests here; these tasks are set aside and the figures cover the others"
    )


def set_aside_warning(track: Mapping[str, Any]) -> str:
    """Return `set_aside_text` as a sentence if more than `SET_ASIDE_LIMIT` of the tasks were, else ""."""
    counts = track["data"].get("counts", {})
    n, total = counts.get("tasks_set_aside", 0), counts.get("tasks_made", 0)
    if n <= SET_ASIDE_LIMIT * total:
        return ""
    text = set_aside_text(n, total)
    return f"{text[0].upper()}{text[1:]}."


def closing_lines(metrics: Mapping[str, Any]) -> list[str]:
    """List what is missing from the run, one line each: tracks not run, tasks set aside, and warnings."""
    lines = [
        f"Track {title} was not run: {metrics[name]['reason']}"
        for name, title in TRACK_NAMES.items()
        if metrics[name]["verdict"] == "not_run"
    ]
    aside, track = metrics.get("tasks_set_aside", []), metrics["track_b"]
    if aside and track["verdict"] != "not_run" and not set_aside_warning(track):
        total = track["data"]["counts"]["tasks_made"]
        named = "; ".join(f"{item['task_id']} {item['status']}" for item in aside[:3])
        counted = f"{len(aside)} of {total} tasks"
        lines.append(f"Track B: {counted} were set aside: their references fail here ({named})")
    return [*lines, *metrics["run"].get("warnings", [])]


def verdict_sentences(metrics: Mapping[str, Any]) -> str:
    """Return `verdict_sentence` for every track as Markdown, one paragraph each."""
    parts = (f"**{title}.** {verdict_sentence(metrics[name])}" for name, title in TRACK_NAMES.items())
    return "\n\n".join(parts)


def print_summary(
    metrics: Mapping[str, Any], console: Console | None = None, beside: Sequence[Sequence[str]] = ()
) -> None:
    """Print the final table of a run, 80 columns wide, followed by the warnings.

    Args:
        beside: further rows below the tracks', a text for each column.
    """
    console = console or Console()
    run = metrics["run"]
    title = f"Profile {run['profile']} · {run['corpus']['spec']} · {run['seconds'] / 60:.1f} min"
    named = Text(title, style="bold")
    table = Table(title=named, title_justify="left", box=box.SIMPLE_HEAD, show_lines=True)
    table.add_column("Track, metric, model")
    table.add_column("Before → after", no_wrap=True)
    table.add_column("Change [95%]", no_wrap=True)
    table.add_column("n", no_wrap=True, justify="right")
    table.add_column("Verdict")
    for row in summary_rows(metrics):
        verdict = row["verdict"].partition(":")[0]  # why a track was not run is printed below the table
        value, _, interval = row["change"].partition(" ")
        change = f"{value}, p {row['p']}\n{interval}" if interval else value
        what = f"{row['track']}\n{row['metric']}\n{row['model']}"
        cells = (what, f"{row['before']} → {row['after']}", change, row["n"], verdict)
        table.add_row(*map(Text, cells))  # a plain string would be read as markup: "[/b]" in a name
    for cells in beside:
        table.add_row(*map(Text, cells))
    console.print(table)
    for line in closing_lines(metrics):
        console.print(Text.assemble(("Warning: ", "bold"), line))


def items_text(track: Mapping[str, Any]) -> str:
    """Return what the primary metric was measured on, such as "17 held-out files"."""
    n = track["metrics"][track["primary_metric"]]["after"]["n"]
    return f"{n:,} held-out {items_name(track)}"


def items_name(track: Mapping[str, Any]) -> str:
    """Return what the primary metric's n counts, in the plural."""
    return ITEMS.get(track["primary_metric"], "items")


def metric_name(name: str) -> str:
    """Return a readable name; `pass@1/fix_bug` becomes "pass@1, greedy · fix bug"."""
    base, _, part = name.partition("/")
    text = METRIC_NAMES.get(base, base.replace("_", " "))
    return f"{text} · {part.replace('_', ' ')}" if part else text


def number(value: float, *, signed: bool = False) -> str:
    """Format with three decimals, fewer for large values, up to six for tiny ones, and a true minus sign."""
    size = abs(value)
    places = 3 if size < 10 else 2 if size < 100 else 1
    if 0 < size < 0.001:
        places = min(6, 1 - math.floor(math.log10(size)))
    text = f"{value:{'+' if signed else ''}.{places}f}"
    return text.replace("-", "−") if float(text) else "0.000"


def p_text(p_value: float) -> str:
    """Format as `p = .012` or `p < .001`."""
    return "p < .001" if p_value < 0.001 else f"p = {p_value:.3f}".replace("0.", ".", 1)


def _cells(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "before": number(entry["before"]["value"]),
        "after": number(entry["after"]["value"]),
        "change": change_text(entry["delta"]),
        "p": p_text(entry["delta"]["p_value"]).removeprefix("p ").removeprefix("= ").replace(" ", NO_BREAK),
        "n": str(entry["after"]["n"]),
    }


def change_text(delta: Mapping[str, Any]) -> str:
    """Format as `+0.118 [+0.072, +0.166]`."""
    return f"{number(delta['value'], signed=True)} {_interval(delta['ci95'], signed=True)}"


def estimate_text(values: Mapping[str, Any]) -> str:
    """Format a value, with its interval if it has one."""
    text = number(values["value"])
    return f"{text} {_interval(values['ci95'])}" if "ci95" in values else text


def _interval(bounds: Sequence[float], *, signed: bool = False) -> str:
    """Format as `[+0.072, +0.166]`, with a no-break space so that no table cell splits it."""
    low, high = (number(bound, signed=signed) for bound in bounds)
    return f"[{low},{NO_BREAK}{high}]"


def _heading(column: str) -> str:
    return "Change [95% interval]" if column == "change" else column if column in "pn" else column.title()
