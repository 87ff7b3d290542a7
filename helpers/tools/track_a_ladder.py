"""Track A's ladder: one setting changed at a time, on a small share of the budget, compared on validation.

    python -m helpers ladder                     # about ten minutes on two cores; goes on where it stopped

Every rung is fed the same number of tokens, one pass over the same files, so that rungs differ in nothing
but what they name. Held-out test files take no part: rungs are compared by the validation files, and by
general code of packages that are neither rehearsed nor part of the slice on which forgetting is reported.
What comes out carries the commit, the corpus and the model that it was measured on; reports show it
beside no other corpus or model.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_files
from helpers.data.general_code import general_code_texts
from helpers.data.splits import files_of, split_corpus
from helpers.errors import InsufficientDataError
from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import Runtime, hardware_facts
from helpers.models.causal_lm import load_adapted, load_causal_lm
from helpers.models.shapes import model_identity
from helpers.run.folder import code_revision
from helpers.run.workspace import Workspace, digest, read_json, write_json
from helpers.settings import Profile, TrackASettings
from helpers.train.continued_pretraining import train_language_model

RESULT = "exports/track_a_ladder.json"
GENERAL_FILES = 8


@dataclasses.dataclass(frozen=True)
class Rung:
    """One row of the ladder."""

    name: str
    change: Callable[[TrackASettings], TrackASettings]
    full: bool = False  # all weights instead of an adapter
    seed_offset: int = 0


def _set(**values: Any) -> Callable[[TrackASettings], TrackASettings]:
    return lambda a: dataclasses.replace(a, **values)


def _lora(**values: Any) -> Callable[[TrackASettings], TrackASettings]:
    return lambda a: dataclasses.replace(a, lora=dataclasses.replace(a.lora, **values))


def _rate(factor: float) -> Callable[[TrackASettings], TrackASettings]:
    return lambda a: dataclasses.replace(a, learning_rate=a.learning_rate * factor)


def _twice(a: TrackASettings) -> TrackASettings:
    return dataclasses.replace(a, train_tokens=a.train_tokens // 2, epochs=2)


RUNGS = (
    Rung("the profile's settings, one pass", _set()),
    Rung("the same from another seed", _set(), seed_offset=1),
    Rung("learning rate x 1/3", _rate(1 / 3)),
    Rung("learning rate x 3", _rate(3.0)),
    Rung("rank 16", _lora(rank=16)),
    Rung("without the embedding's rows", _set(train_embeddings=False)),
    Rung("without rank stabilisation", _lora(use_rslora=False)),
    Rung("half the files, two passes", _twice),
    Rung("no rehearsal", _set(rehearsal_share=0.0)),
    Rung("all weights, no adapter", _set(), full=True),
    Rung("all weights, learning rate x 3", _rate(3.0), full=True),
)  # fmt: skip


def climb(
    profile: Profile, runtime: Runtime, out: Path, *, tokens: int, rungs: tuple[Rung, ...] = RUNGS
) -> dict[str, Any]:
    """Train every rung, write `out/exports/track_a_ladder.json` and return what stands there.

    Args:
        profile: whose settings the rungs start from.
        out: finished rungs are kept below `out/runs/`, and found again there.
        tokens: of the training files, per rung; rehearsal comes on top.

    Raises:
        InsufficientDataError: if the corpus has no training or validation files.
    """
    a = dataclasses.replace(profile.track_a, train_tokens=tokens, epochs=1, keep_gain=1.0)  # as trained
    corpus = load_corpus(profile.corpus.spec, profile.corpus)
    splits = split_corpus(corpus, extract_functions(corpus), profile.corpus, profile.seed)
    files = {name: files_of(corpus, splits, name) for name in ("train", "validation")}
    if not all(files.values()):
        raise InsufficientDataError(f"the corpus {corpus.spec} has too few files for a ladder")
    model, tokenizer = load_causal_lm(a.model, runtime, seed=profile.seed)
    validation = [
        file.text for file in draw_files(files["validation"], tokenizer, a.validation_tokens, profile.seed)
    ]
    general = _general_validation(a, profile.seed, corpus.import_name)

    def measure(candidate: Any) -> dict[str, float]:
        sizes = {"window": a.window, "stride": a.window, "runtime": runtime, "what": "validate"}
        return {
            "validation": evaluate_perplexity(candidate, tokenizer, validation, **sizes).bits_per_byte,
            "general": evaluate_perplexity(candidate, tokenizer, general, **sizes).bits_per_byte,
        }

    def run_rung(rung: Rung, settings: TrackASettings, out_dir: Path) -> None:
        texts = [
            file.text for file in draw_files(files["train"], tokenizer, settings.train_tokens, profile.seed)
        ]
        history = train_language_model(
            settings, texts, validation, runtime, seed=profile.seed + rung.seed_offset, out_dir=out_dir,
            full=rung.full,
        )  # fmt: skip
        kept = out_dir / "adapter"
        tuned = load_causal_lm(str(kept), runtime) if rung.full else load_adapted(a.model, kept, runtime)
        row = {
            "name": rung.name,
            **measure(tuned[0]),
            "learning_rate": settings.learning_rate,
            "rank": 0 if rung.full else settings.lora.rank,
            "tokens": history.useful_tokens,
            "trainable_parameters": history.trainable_parameters,
            "seconds": history.seconds,
        }
        write_json(out_dir / "row.json", row)
        shutil.rmtree(kept)

    provenance = {
        "profile": profile.name,
        "model": a.model,
        "model_sha256": model_identity(a.model),
        "corpus": corpus.spec,
        "corpus_sha256": corpus.sha256,
        "seed": profile.seed,
        "settings_sha256": digest(a),
    }
    workspace = Workspace(out / "runs" / f"ladder-{digest(provenance)[:8]}", "ladder", reuse=True)
    before = workspace.stage("before", provenance, lambda at: write_json(at / "row.json", measure(model)))
    rows = []
    for number, rung in enumerate(rungs):
        settings = rung.change(a)
        folder = workspace.stage(
            f"rung_{number}",
            [provenance, settings, rung.name, rung.full, rung.seed_offset],
            lambda at, rung=rung, settings=settings: run_rung(rung, settings, at),
        )
        rows.append(read_json(folder / "row.json"))
    result = {
        **provenance,
        "commit": code_revision(),
        "hardware": hardware_facts(runtime),
        "tokens": tokens,
        "validation_files": len(validation),
        "general_files": len(general),
        "before": read_json(before / "row.json"),
        "rows": rows,
    }
    write_json(out / RESULT, result)
    return result


def _general_validation(a: TrackASettings, seed: int, exclude: str) -> list[str]:
    """General code to choose by: drawn as the reported slice is, and none of its files."""
    drawn = general_code_texts(a.general_files + GENERAL_FILES, seed, exclude=exclude)
    reported = set(general_code_texts(a.general_files, seed, exclude=exclude))
    return [text for text in drawn if text not in reported]
