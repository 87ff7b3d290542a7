"""The card of the embedded base model, generated from its training history and its report."""

from __future__ import annotations

from pathlib import Path

import jinja2
from safetensors import safe_open

from helpers.run.workspace import read_json

SHARE_LABELS = {
    "copy_teacher_forced": "next token of a copy, given the true tokens before it",
    "copy_exact": "copied exactly, without help",
    "repair_exact": "repaired exactly, after one planted one-token fault",
    "repair_unchanged": "returned with the fault",
}


def base_card(folder: Path) -> str:
    """Write the README of the model in `folder` from its config, weights, report.json and training.json."""
    report, history = read_json(folder / "report.json"), read_json(folder / "training.json")
    weights = folder / "model.safetensors"
    with safe_open(weights, "pt") as tensors:
        shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118 (not a dict)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    corpus = history[-1]["corpus"]
    return environment.get_template("base_card.md.j2").render(
        report=report,
        history=history,
        corpus=corpus,
        config=read_json(folder / "config.json"),
        parameters=sum(_product(shape) for shape in shapes),
        size=weights.stat().st_size,
        shares=[(label, report[name]) for name, label in SHARE_LABELS.items()],
        held_out=", ".join(source["name"] for source in corpus["held_out_sources"]),
    )


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
