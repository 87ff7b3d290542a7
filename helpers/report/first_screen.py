"""What the first screen of the page shows: did it help, by how much, how sure, at what cost.

Everything comes from metrics.json alone: a change there changes the page. Verdicts have a word and a sign, so
that no reader depends on colours.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.eval.completion_comparison import ARMS, PRIMARY
from helpers.profiles import PROFILES
from helpers.report.entries import entry_verdict
from helpers.report.tables import (
    NO_BREAK,
    TRACK_NAMES,
    change_text,
    items_name,
    metric_name,
    number,
    p_text,
    set_aside_text,
    set_aside_warning,
    verdict_text,
)
from helpers.report.tables_completion import ARM_NAMES, completion_cost, completion_verdict
from helpers.report.tables_completion import TITLE as COMPLETION_TITLE

# Track -> its control on code that has nothing to do with the repository.
ELSEWHERE = {"track_a": "general_code", "track_b": "general_problems", "track_c": "foreign_package"}
SIGNS = {"improved": "✓", "no_detectable_difference": "≈", "regressed": "✗", "not_run": "–"}
FEW_ITEMS = 10  # below that, an interval says little: the rows are shown as too few to tell
UNSURE_EXPOSURE = ("trained_on", "unknown")
WIDTH, HEIGHT, MIDDLE = 240, 40, 120  # of the interval picture, in its own units
SMOKE = "A smoke run only shows that every step works. With so little training, figures mean nothing more."


def first_screen(metrics: Mapping[str, Any], left_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the page's first screen shows, as text; `interval` of a card is SVG.

    Args:
        left_out: a line for everything that the page had to leave out; they join the warnings.
    """
    run = metrics["run"]
    return {
        "headline": headline(metrics),
        "adapted": adapted_sentence(metrics),
        "cards": [verdict_card(name, metrics[name]) for name in TRACK_NAMES],
        "completion": completion_line(metrics),
        "cost": cost_sentence(metrics),
        "fails": fails_sentence(metrics),
        "aside": aside_sentence(metrics),
        "warnings": [*warning_lines(metrics), *left_out],
        "facts": [
            f"profile {run['profile']}",
            f"seed {run['seed']}",
            f"started {run['started'][:16].replace('T', ' ')}",
            f"code {run['commit']}",
            f"run {run['run_id']}",
        ],
    }


def headline(metrics: Mapping[str, Any]) -> str:
    """Say in one line which tracks improved, did not change detectably, regressed or did not run.

    Example: "Tracks A and C improved; B regressed". What got worse outside of the repository stands there
    too: "Tracks A and B improved, but B forgets".
    """
    said, forgotten = [], forgetting(metrics)
    for verdict, singular, plural in (
        ("improved", "improved", "improved"),
        ("no_detectable_difference", "shows no detectable difference", "show no detectable difference"),
        ("regressed", "regressed", "regressed"),
        ("not_run", "was not run", "were not run"),
    ):
        letters = [name[-1].upper() for name in TRACK_NAMES if metrics[name]["verdict"] == verdict]
        if letters:
            worse = _listed([letter for letter in letters if f"track_{letter.lower()}" in forgotten])
            joint = "but" if verdict == "improved" else "and"
            forget = "forget" if " and " in worse else "forgets"
            added = f", {joint} {worse} {forget}" if worse else ""
            said.append(f"{_listed(letters)} {plural if len(letters) > 1 else singular}{added}")
    several = said[0].split()[1] == "and" or "," in said[0].split()[0]
    return f"Track{'s' if several else ''} {'; '.join(said)}"


def adapted_sentence(metrics: Mapping[str, Any]) -> str:
    """Say which models were adapted to which code base."""
    corpus = metrics["run"]["corpus"]
    models: dict[str, list[str]] = {}
    for name in TRACK_NAMES:
        track = metrics[name]
        if track["model"] and track["verdict"] != "not_run":
            models.setdefault(shown_model(track), []).append(name[-1].upper())
    listed = [
        f"{model} (Track{'s' if len(tracks) > 1 else ''} {' and '.join(tracks)})"
        for model, tracks in models.items()
    ]
    name = corpus.get("name") or corpus["spec"]
    version = f" {corpus['version']}" if corpus["version"] else ""
    licence = f", licence {corpus['licence']}" if "licence" in corpus else ""
    what = f"{_listed(listed)} adapted to" if listed else "No model was adapted to"
    return f"{what} {name}{version} ({corpus['spec']}): {corpus['files']:,} files{licence}."


def verdict_card(name: str, track: Mapping[str, Any]) -> dict[str, str]:
    """Return one track's card: title, sign, verdict, before, after, change, n and picture, as text."""
    card = {
        "anchor": name.replace("_", "-"),
        "title": TRACK_NAMES[name],
        "kind": track["verdict"].replace("_", "-"),
        "sign": SIGNS[track["verdict"]],
        "verdict": verdict_text(track),
        "metric": metric_name(track["primary_metric"]),
    }
    if track["verdict"] == "not_run":
        reason = track["reason"].rstrip(".")
        return card | {"reason": f"{reason[:1].upper()}{reason[1:]}. Needed: {track['needed']}."}
    entry = track["metrics"][track["primary_metric"]]
    n = entry["after"]["n"]
    return card | {
        "before": number(entry["before"]["value"]),
        "after": number(entry["after"]["value"]),
        "change": change_text(entry["delta"]),
        "p": p_text(entry["delta"]["p_value"]).replace(" ", NO_BREAK),
        "n": f"{n:,} {items_name(track)}",
        "better": f"{'higher' if entry['higher_is_better'] else 'lower'} is better",
        "interval": interval_picture(entry),
        "few": f"only {n} {items_name(track)}: too few to tell" if n < FEW_ITEMS else "",
    }


def completion_line(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line on completion, as text: verdict, every arm's share, answer, cost; {} in older files."""
    section = metrics.get("completion")
    if section is None:
        return {}
    line = {
        "title": COMPLETION_TITLE,
        "kind": section["verdict"].replace("_", "-"),
        "sign": SIGNS[section["verdict"]],
        "verdict": completion_verdict(section),
    }
    if section["verdict"] == "not_run":
        reason = section["reason"].rstrip(".")
        return line | {"reason": f"{reason[:1].upper()}{reason[1:]}."}
    shares = [
        (ARM_NAMES[arm], number(section["arms"][arm][PRIMARY]["value"]), arm == section["arm_to_use"])
        for arm in ARMS if arm in section["arms"]
    ]  # fmt: skip
    return line | {"shares": shares, "answer": section["answer"], "cost": completion_cost(section)}


def interval_picture(entry: Mapping[str, Any]) -> str:
    """Draw the change of one metric with its interval as inline SVG; the right side is always the better.

    Its alternative text holds the figures. Colours are the page's, by class.
    """
    value, (low, high) = entry["delta"]["value"], entry["delta"]["ci95"]
    reach = max(abs(low), abs(high), abs(value)) * 1.15 or 1.0
    sign = 1 if entry["higher_is_better"] else -1
    place = [MIDDLE + sign * x / reach * (MIDDLE - 8) for x in (low, value, high)]
    left, right = min(place), max(place)
    reading = entry_verdict(entry).replace("_", " ")
    text = (
        f"Change {number(value, signed=True)}, 95% interval {number(low, signed=True)} to "
        f"{number(high, signed=True)}: {reading}. Right of the line is better."
    )
    middle = HEIGHT / 2
    return (
        f'<svg class="interval" role="img" aria-label="{html.escape(text)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<rect class="side" x="{MIDDLE}" y="0" width="{MIDDLE}" height="{HEIGHT}"/>'
        f'<line class="zero" x1="{MIDDLE}" y1="0" x2="{MIDDLE}" y2="{HEIGHT}"/>'
        f'<line class="range" x1="{left:.1f}" y1="{middle}" x2="{right:.1f}" y2="{middle}"/>'
        f'<line class="range" x1="{left:.1f}" y1="{middle - 7}" x2="{left:.1f}" y2="{middle + 7}"/>'
        f'<line class="range" x1="{right:.1f}" y1="{middle - 7}" x2="{right:.1f}" y2="{middle + 7}"/>'
        f'<circle class="point" cx="{place[1]:.1f}" cy="{middle}" r="6"/></svg>'
    )


def cost_sentence(metrics: Mapping[str, Any]) -> str:
    """Say how long the run took, on what, and how much memory it held at most."""
    run = metrics["run"]
    hardware = run["hardware"]
    cores = f", {hardware['cores']} cores" if "cores" in hardware else ""
    said = (
        f"{duration_text(run['seconds'])} on {hardware.get('name', hardware.get('device', 'unnamed'))}{cores}"
    )
    if "precision" in hardware:
        said += f", {hardware['precision']}"
    peaks = {name: metrics[name]["cost"].get("peak_memory_gib", 0.0) for name in TRACK_NAMES}
    most = max(peaks, key=lambda name: peaks[name])
    if peaks[most]:
        said += f"; at most {peaks[most]:.1f} GiB of memory (Track {most[-1].upper()})"
    return f"{said}."


def duration_text(seconds: float) -> str:
    """Format a duration: seconds below two minutes, then minutes, hours from two hours on."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def fails_sentence(metrics: Mapping[str, Any]) -> str:
    """Say what still fails after training; may be empty."""
    said = []
    if metrics["track_b"]["verdict"] != "not_run":
        after = metrics["track_b"]["metrics"]["pass@1"]["after"]
        failed = round(after["n"] * (1 - after["value"]))
        said.append(f"B: {failed} of {after['n']} tasks still fail their unit tests")
    recall = metrics["track_c"]["metrics"].get("recall@10") if "metrics" in metrics["track_c"] else None
    if recall:
        missed = 100 * (1 - recall["after"]["value"])
        said.append(f"C: {missed:.0f}% of the right functions are not among the first ten results")
    return f"{'; '.join(said)}." if said else ""


def forgetting(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return track -> what its training made detectably worse outside of the repository, in words."""
    found = {}
    for name, control in ELSEWHERE.items():
        entry = metrics[name].get("controls", {}).get(control)
        if metrics[name]["verdict"] == "not_run" or not entry or entry_verdict(entry) != "regressed":
            continue
        before, after, n = entry["before"]["value"], entry["after"]["value"], entry["after"]["n"]
        found[name] = {
            "track_a": f"general code takes {100 * (after / before - 1):.1f}% more bits per byte than before",
            "track_b": f"of {n} problems that have nothing to do with the repository (HumanEval), the model "
            f"solves {round(n * before)} before training and {round(n * after)} after it",
            "track_c": f"MRR@10 over another package falls from {before:.3f} to {after:.3f}",
        }[name] + f" ({change_text(entry['delta'])})"
    return found


def aside_sentence(metrics: Mapping[str, Any]) -> str:
    """Say how many tasks were set aside and how many secrets were masked."""
    counts = metrics["track_b"]["data"].get("counts", {})
    made, aside = counts.get("tasks_made"), len(metrics.get("tasks_set_aside", []))
    if made is None:
        said = "Track B held no tasks, so none was set aside"
    elif aside:
        said = f"{aside} of {made} tasks, because their own references fail here"
    else:
        said = f"nothing: the references of all {made} tasks pass here"
    masked = sum(metrics["run"]["corpus"].get("secrets_masked", {}).values())
    return f"{said}; {masked} secrets masked in the files." if masked else f"{said}."


def warning_lines(metrics: Mapping[str, Any]) -> list[str]:
    """List what a reader must know before believing a figure, one sentence each; often empty."""
    run = metrics["run"]
    lines = []
    missing = [name[-1].upper() for name in TRACK_NAMES if metrics[name]["verdict"] == "not_run"]
    profile = PROFILES.get(run["profile"])
    if profile is not None and not profile.is_full_run:
        lines.append(SMOKE)
    if changed := run.get("settings_changed", []):
        listed = ", ".join(changed)
        lines.append(f"Settings changed by hand: {listed}. These figures are not the profile's.")
    if missing:
        were, cards = ("s {} were", "their cards say") if missing[1:] else (" {} was", "its card says")
        lines.append(f"Track{were.format(_listed(missing))} not run; {cards} why.")
    lines += [f"Track {name[-1].upper()} forgets: {what}." for name, what in forgetting(metrics).items()]
    for name, title in TRACK_NAMES.items():
        track = metrics[name]
        if track["verdict"] == "not_run":
            continue
        n = track["metrics"][track["primary_metric"]]["after"]["n"]
        if n < FEW_ITEMS:
            lines.append(f"Track {title} rests on {n} {items_name(track)}: too few to tell much.")
        if track["data"].get("exposure") in UNSURE_EXPOSURE:
            lines.append(f"Contamination: {track['data']['exposure_note']}.")
    lines += run.get("warnings", [])
    if set_aside_warning(metrics["track_b"]):
        counts = metrics["track_b"]["data"]["counts"]
        line = f"Track B: {set_aside_text(counts['tasks_set_aside'], counts['tasks_made'])}"
        lines += [] if line in lines else [f"{line}."]
    return lines


def shown_model(track: Mapping[str, Any]) -> str:
    """Return the name of a track's model without folders, as "tiny_code_lm"; of a GGUF file, the file's."""
    file = track["data"].get("weights", {}).get("file", "")
    return file.removesuffix(".gguf") or Path(track["model"].removeprefix("package:")).name


def _listed(words: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
