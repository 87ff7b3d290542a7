"""Choose the rows of a metric table that decide, and word them for the page.

Decisive are the primary metric, whatever is measured over all items, and every part of the items where the
change is beyond noise. Rows on fewer than ten items are grouped as too few to tell, whatever they show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.report.entries import entry_verdict
from helpers.report.first_screen import FEW_ITEMS, SIGNS
from helpers.report.tables import change_text, estimate_text, metric_name, number, p_text

ROW_GROUPS = {
    "decides": "Decisive",
    "unclear": "No change beyond noise in a part of the items",
    "few": f"Too few to tell (n < {FEW_ITEMS})",
}


def grouped_rows(metrics: Mapping[str, Mapping[str, Any]], primary: str = "") -> dict[str, list[dict]]:
    """Sort metric entries into `ROW_GROUPS`, each as a row of text; empty groups are kept.

    Args:
        metrics: name -> metric entry, as in a track's section.
        primary: the name that comes first and always decides.
    """
    groups: dict[str, list[dict]] = {name: [] for name in ROW_GROUPS}
    for name in sorted(metrics, key=lambda name: (name != primary, "/" in name)):
        entry = metrics[name]
        row = metric_row(name, entry)
        if name == primary:
            group = "decides"
        elif entry["after"]["n"] < FEW_ITEMS:
            group = "few"
        elif "/" in name and entry_verdict(entry) == "no_detectable_difference":
            group = "unclear"
        else:
            group = "decides"
        groups[group].append(row)
    return groups


def metric_row(name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """Return one metric as text: name, unit, before, after, change, p, n, sign and reading."""
    verdict = entry_verdict(entry)
    few = entry["after"]["n"] < FEW_ITEMS
    return {
        "name": metric_name(name),
        "unit": f"{entry['unit']}; {'higher' if entry['higher_is_better'] else 'lower'} is better",
        "before": number(entry["before"]["value"]),
        "after": number(entry["after"]["value"]),
        "before_interval": estimate_text(entry["before"]),
        "after_interval": estimate_text(entry["after"]),
        "change": change_text(entry["delta"]),
        "p": p_text(entry["delta"]["p_value"]),
        "n": f"{entry['after']['n']:,}",
        "kind": "few" if few else verdict.replace("_", "-"),
        "sign": "?" if few else SIGNS[verdict],
        "reading": "too few to tell" if few else verdict.replace("_", " "),
    }
