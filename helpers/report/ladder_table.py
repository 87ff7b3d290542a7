"""Track A's ladder as a table: shown where it belongs to the run's corpus and model, else left out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.models.shapes import model_identity
from helpers.report.tables import markdown, number
from helpers.run.workspace import read_json
from helpers.tools.ladder import RESULT

BESIDE_PACKAGE = Path(__file__).resolve().parents[2]


def ladder_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """One row a rung: settings, bits per byte on validation and on general code, and their changes."""
    before = result["before"]
    rows = [{"Rung": "before training", "bits per byte, validation": number(before["validation"]),
             "general code": number(before["general"])}]  # fmt: skip
    for row in result["rows"]:
        rows.append(
            {
                "Rung": row["name"],
                "Learning rate": f"{row['learning_rate']:.2g}",
                "Rank": str(row["rank"] or "–"),
                "Trained parameters": f"{row['trainable_parameters'] / 1e6:.2f} M",
                "bits per byte, validation": number(row["validation"]),
                "change": _share(row["validation"], before["validation"]),
                "general code": number(row["general"]),
                "forgotten": _share(row["general"], before["general"]),
            }
        )
    return pd.DataFrame(rows).fillna("–").set_index("Rung")


def ladder_text(corpus_sha256: str, model: str, *, folder: Path = BESIDE_PACKAGE) -> str:
    """The saved ladder with where it comes from, as Markdown; a sentence where there is none to show.

    Args:
        folder: in which `exports/` lies.
    """
    file = folder / RESULT
    if not file.is_file():
        return "No ladder was measured; `python -m helpers ladder` makes one."
    result = read_json(file)
    if result["corpus_sha256"] != corpus_sha256 or result["model_sha256"] != model_identity(model):
        return (
            f"The saved ladder belongs to {result['corpus']} and another state of its files or model, and is "
            "left out; `python -m helpers ladder` makes one for this run's."
        )
    origin = (
        f"Short trainings on {result['tokens']:,} tokens of the training files each, measured apart from "
        f"this run at commit {result['commit']} on the same corpus and model, by "
        f"{result['validation_files']} validation files and {result['general_files']} files of general "
        "code; one seed each."
    )
    return f"{markdown(ladder_table(result))}\n\n{origin} {_noise(result)}"


def _noise(result: Mapping[str, Any]) -> str:
    """How far two seeds of the same settings lie apart."""
    same = {row["name"]: row["validation"] for row in result["rows"][:2]}
    first, second = same.values()
    return f"Two seeds of the same settings differ by {number(abs(first - second))} bits per byte."


def _share(value: float, before: float) -> str:
    return f"{value / before - 1:+.1%}".replace("-", "−")
