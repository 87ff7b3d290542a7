"""Track A's own sentences: what its controls say. As in `helpers.report.tables`, no figure is typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.report.tables import change_text


def control_sentences(track: Mapping[str, Any]) -> str:
    """What was forgotten, and whether foreign code would have done as well, as Markdown."""
    controls, facts = track["controls"], track["data"]
    said = []
    if general := controls.get("general_code"):
        low, high = general["delta"]["ci95"]
        share = general["delta"]["value"] / general["before"]["value"]
        moved = "rise" if low > 0 else "fall" if high < 0 else "do not detectably move"
        said.append(
            f"**Forgetting.** On {general['after']['n']} files of general code bits per byte {moved}: "
            f"{change_text(general['delta'])}, {share:+.1%} of what they were.".replace("-", "−")
        )
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
            f"**Foreign code.** The same budget spent on {facts['foreign_corpus']} "
            f"({facts['foreign_tokens']:,} tokens; {facts['own_tokens']:,} of the repository) changes the "
            f"held-out files by {change_text(foreign['delta'])} bits per byte, against {own:+.3f} by the "
            f"repository's own; own instead of foreign: {change_text(added)}. So {reading}."
        )
    return "\n\n".join(said) or "This profile measures no controls."
