"""Track A's own sentences: what its controls show. As in `helpers.report.tables`, no figure is typed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.report.tables import change_text, number


def control_sentences(track: Mapping[str, Any]) -> str:
    """Say what the model may have seen, what it forgot, and whether foreign code helps as much (Markdown)."""
    controls, facts = track["controls"], track["data"]
    said = []
    if "exposure_note" in facts:
        said.append(f"**Seen before?** {facts['exposure_note']}.")
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
            f"**Foreign code.** Training on {facts['foreign_corpus']} with the same budget "
            f"({facts['foreign_tokens']:,} tokens, against {facts['own_tokens']:,} of the repository) "
            f"changes the held-out files by {change_text(foreign['delta'])} bits per byte; training on the "
            f"repository changes them by {number(own, signed=True)}. Repository minus foreign: "
            f"{change_text(added)}, so {reading}."
        )
    return "\n\n".join(said) or "This profile measures no controls."
