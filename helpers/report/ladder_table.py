"""Track A's ladder as a table, shown only in reports on the same corpus and model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.escaping import inline
from helpers.models.shapes import model_identity
from helpers.report.tables import markdown, number
from helpers.run.workspace import read_json
from helpers.tools.track_a_ladder import RESULT

BESIDE_PACKAGE = Path(__file__).resolve().parents[2]


def ladder_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """Tabulate each variant's settings, and its bits per byte on validation files and on general code."""
    before = result["before"]
    rows = [{"Variant": "before training", "Bits per byte, validation": number(before["validation"]),
             "Bits per byte, general code": number(before["general"]), **_completed(before)}]  # fmt: skip
    rows += [
        {
            "Variant": row["name"],
            "Learning rate": f"{row['learning_rate']:.2g}",
            "LoRA rank": str(row["rank"] or "–"),
            "Trained parameters": f"{row['trainable_parameters'] / 1e6:.2f} M",
            "Bits per byte, validation": number(row["validation"]),
            "Change": _share(row["validation"], before["validation"]),
            "Bits per byte, general code": number(row["general"]),
            "Forgetting": _share(row["general"], before["general"]),
            **_completed(row),
        }
        for row in result["rows"]
    ]
    return pd.DataFrame(rows).fillna("–").set_index("Variant")


def ladder_text(corpus_sha256: str, model: str, *, folder: Path = BESIDE_PACKAGE) -> str:
    """Return the saved ladder and its provenance as Markdown, or a sentence if there is none to show.

    Args:
        corpus_sha256: of the report's corpus.
        model: of the report's Track A.
        folder: contains `exports/`.
    """
    file = folder / RESULT
    if not file.is_file():
        return "No ladder was measured; `python -m helpers ladder` measures one."
    result = read_json(file)
    if result["corpus_sha256"] != corpus_sha256 or result["model_sha256"] != model_identity(model):
        return (
            f"The saved ladder (on {inline(result['corpus'])}) was measured with other files or another "
            "model and is left out; `python -m helpers ladder` measures one for this run."
        )
    origin = (
        f"Each variant trained on {result['tokens']:,} tokens of the training files, with one seed. It "
        f"was measured separately from this run, at commit {inline(result['commit'])}, on the same corpus "
        f"and model, with {result['validation_files']} validation files and "
        f"{result['general_files']} files of general code."
    )
    first, second = (row["validation"] for row in result["rows"][:2])  # two seeds of the same settings
    noise = f"Two seeds of the same settings differ by {number(abs(first - second))} bits per byte."
    return f"{markdown(ladder_table(result))}\n\n{origin} {noise}"


def _completed(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the share of places completed exactly, where the ladder measured it."""
    return {"Completed exactly": number(row["completed"])} if "completed" in row else {}


def _share(value: float, before: float) -> str:
    return f"{value / before - 1:+.1%}".replace("-", "−")
