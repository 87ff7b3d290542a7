"""Track A's ladder: train with one setting changed at a time, on a small budget, and compare.

    python -m helpers ladder                     # trains a dozen models; resumes when interrupted

Where the tokenizer has the marks of fill-in-the-middle, the share of files in that form is a rung too, and
every row says what share of places in the validation files is completed exactly in it.

Every variant trains on the same number of tokens, in one pass over the same files, so variants differ only
in what their name says. A value that the profile has already is no rung. Held-out test files are not used:
variants are compared on the validation files, and on general code that is neither rehearsed nor part of the
slice on which forgetting is reported. The result records its commit, corpus and model; reports show it only
for the same corpus and model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.code.functions import extract_functions
from helpers.data.completion_items import completion_items
from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_files
from helpers.data.general_code import general_code_texts
from helpers.data.splits import files_of, split_corpus
from helpers.errors import InsufficientDataError
from helpers.eval.completion_arms import exact_share
from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import Runtime, hardware_facts
from helpers.models.causal_lm import ModelError, load_adapted, load_causal_lm
from helpers.models.fitness import causal_problems, context_problems
from helpers.models.infilling import infill_marks
from helpers.models.shapes import model_identity
from helpers.records import CompletionItem, SourceFile
from helpers.run.folder import code_revision
from helpers.run.workspace import Workspace, digest, read_json, write_json
from helpers.settings import Profile, TrackASettings
from helpers.train.continued_pretraining import train_language_model

RESULT = "exports/track_a_ladder.json"
GENERAL_FILES = 8
PLACES = 90


@dataclass(frozen=True)
class SettingsVariant:
    """One row of the ladder: Track A's settings with one change."""

    name: str
    change: Callable[[TrackASettings], TrackASettings]
    full: bool = False  # train all weights instead of an adapter
    seed_offset: int = 0
    infill: bool = False  # only for tokenizers with the marks of fill-in-the-middle

    def differs(self, settings: TrackASettings) -> bool:
        """Return whether it trains otherwise than `settings` say."""
        return self.full or self.seed_offset != 0 or self.change(settings) != settings


def _set(**values: Any) -> Callable[[TrackASettings], TrackASettings]:
    return lambda a: replace(a, **values)


def _lora(**values: Any) -> Callable[[TrackASettings], TrackASettings]:
    return lambda a: replace(a, lora=replace(a.lora, **values))


def _rate(factor: float) -> Callable[[TrackASettings], TrackASettings]:
    return lambda a: replace(a, learning_rate=a.learning_rate * factor)


VARIANTS = (
    SettingsVariant("the profile's settings, one pass", _set()),
    SettingsVariant("the same from another seed", _set(), seed_offset=1),
    SettingsVariant("learning rate x 1/3", _rate(1 / 3)),
    SettingsVariant("learning rate x 3", _rate(3.0)),
    SettingsVariant("rank 16", _lora(rank=16)),
    SettingsVariant("rank 64", _lora(rank=64)),
    SettingsVariant("without the embedding's rows", _set(train_embeddings=False)),
    SettingsVariant("without rank stabilisation", _lora(use_rslora=False)),
    SettingsVariant(
        "half the files, two passes", lambda a: replace(a, train_tokens=a.train_tokens // 2, epochs=2)
    ),
    SettingsVariant("no rehearsal", _set(rehearsal_share=0.0)),
    SettingsVariant("no file as fill-in-the-middle", _set(fim_share=0.0), infill=True),
    SettingsVariant("every file as fill-in-the-middle", _set(fim_share=1.0), infill=True),
    SettingsVariant("all weights, no adapter", _set(), full=True),
    SettingsVariant("all weights, learning rate x 3", _rate(3.0), full=True),
)


@dataclass(frozen=True)
class _Measurement:
    """What all variants are trained and measured on."""

    settings: TrackASettings
    seed: int
    runtime: Runtime
    tokenizer: PreTrainedTokenizerBase
    train: Sequence[SourceFile]
    validation: Sequence[str]
    general: Sequence[str]
    places: Sequence[tuple[CompletionItem, str]] = ()  # completed in every row, each with its file's text

    def measures(self, model: PreTrainedModel) -> dict[str, float]:
        """Return all that a row says of a model."""
        found = self.bits_per_byte(model)
        if self.places:
            found["completed"] = exact_share(
                model, self.tokenizer, self.places, self.runtime, window=self.settings.window
            )
        return found

    def bits_per_byte(self, model: PreTrainedModel) -> dict[str, float]:
        """Score `model` on validation files and on general code."""
        window = self.settings.window
        sizes = {"window": window, "stride": window, "runtime": self.runtime, "what": "validate"}
        return {
            "validation": evaluate_perplexity(model, self.tokenizer, self.validation, **sizes).bits_per_byte,
            "general": evaluate_perplexity(model, self.tokenizer, self.general, **sizes).bits_per_byte,
        }

    def train_variant(self, variant: SettingsVariant, settings: TrackASettings, folder: Path) -> None:
        """Train one variant and write its row to `folder`; the trained weights are not kept."""
        drawn = draw_files(self.train, self.tokenizer, settings.train_tokens, self.seed)
        history = train_language_model(
            settings, [file.text for file in drawn], self.validation, self.runtime,
            seed=self.seed + variant.seed_offset, out_dir=folder, full=variant.full,
        )  # fmt: skip
        trained = folder / "adapter"
        if variant.full:
            model, _ = load_causal_lm(str(trained), self.runtime)
        else:
            model, _ = load_adapted(settings.model, trained, self.runtime)
        row = {
            "name": variant.name,
            **self.measures(model),
            "learning_rate": settings.learning_rate,
            "rank": 0 if variant.full else settings.lora.rank,
            "tokens": history.useful_tokens,
            "trainable_parameters": history.trainable_parameters,
            "seconds": history.seconds,
        }
        write_json(folder / "row.json", row)
        shutil.rmtree(trained)


def run_track_a_ladder(
    profile: Profile,
    runtime: Runtime,
    out: Path,
    *,
    tokens: int,
    variants: Sequence[SettingsVariant] = VARIANTS,
) -> dict[str, Any]:
    """Train every variant, write `out/exports/track_a_ladder.json`, and return its content.

    Args:
        out: folder for `exports/` and `runs/`; variants that are finished there are not trained again.
        tokens: training tokens per variant, not counting rehearsal.

    Raises:
        ModelError: if the model cannot be loaded or does not fit.
        InsufficientDataError: if the corpus has no training or validation files.
    """
    a = replace(profile.track_a, train_tokens=tokens, epochs=1, keep_gain=1.0)  # not scaled down
    model, tokenizer = load_causal_lm(a.model, runtime, seed=profile.seed)
    wrong = [*causal_problems(model, tokenizer), *context_problems(model, a.window, "track_a.window is")]
    if wrong:
        raise ModelError("\n".join(f"model {a.model!r}: {problem}" for problem in wrong))
    corpus = load_corpus(profile.corpus.spec, profile.corpus)
    splits = split_corpus(corpus, extract_functions(corpus), profile.corpus, profile.seed)
    files = {name: files_of(corpus, splits, name) for name in ("train", "validation")}
    if not all(files.values()):
        raise InsufficientDataError(f"the corpus {corpus.spec} has too few files for a ladder")
    drawn = draw_files(files["validation"], tokenizer, a.validation_tokens, profile.seed)
    validation = [file.text for file in drawn]
    general = _general_validation(a, profile.seed, corpus.import_name)
    places = _places(tokenizer, drawn, files["train"], profile.seed)
    measurement = _Measurement(
        a, profile.seed, runtime, tokenizer, files["train"], validation, general, places
    )
    possible = [variant for variant in variants if places or not variant.infill]
    variants = possible[:1] + [variant for variant in possible[1:] if variant.differs(a)]
    provenance = {
        "profile": profile.name,
        "model": a.model,
        "model_sha256": model_identity(a.model),
        "corpus": corpus.spec,
        "corpus_sha256": corpus.sha256,
        "seed": profile.seed,
        "settings_sha256": digest(a),
    }
    before, rows = _measure_all(measurement, model, variants, provenance, out)
    result = {
        **provenance,
        "commit": code_revision(),
        "hardware": hardware_facts(runtime),
        "tokens": tokens,
        "validation_files": len(validation),
        "general_files": len(general),
        **({"places": len(places)} if places else {}),
        "before": before,
        "rows": rows,
    }
    write_json(out / RESULT, result)
    return result


def _measure_all(
    measurement: _Measurement, model: PreTrainedModel, variants: Sequence[SettingsVariant],
    provenance: dict[str, Any], out: Path,
) -> tuple[dict[str, float], list[dict[str, Any]]]:  # fmt: skip
    """Measure the untouched model and every variant, each as a stage; return both measurements."""
    workspace = Workspace(out / "runs" / f"ladder-{digest(provenance)[:8]}", reuse=True)
    folders = [
        workspace.stage(
            "before", provenance, lambda at: write_json(at / "row.json", measurement.measures(model))
        )
    ]
    for number, variant in enumerate(variants):
        settings = variant.change(measurement.settings)
        inputs = [provenance, settings, variant.name, variant.full, variant.seed_offset]
        train = partial(measurement.train_variant, variant, settings)
        folders.append(workspace.stage(f"rung_{number}", inputs, train))
    before, *rows = (read_json(folder / "row.json") for folder in folders)
    return before, rows


def _places(
    tokenizer: PreTrainedTokenizerBase, validation: Sequence[SourceFile], training: Sequence[SourceFile],
    seed: int,
) -> list[tuple[CompletionItem, str]]:  # fmt: skip
    """Draw places in the validation files, each with its file's text; none without fill-in-the-middle."""
    if infill_marks(tokenizer) is None:
        return []
    texts = {file.path: file.text for file in validation}
    items = completion_items(validation, training, count=PLACES, seed=seed)
    return [(item, texts[item.path]) for item in items]


def _general_validation(a: TrackASettings, seed: int, exclude: str) -> list[str]:
    """Draw general code to compare by: as the reported slice is drawn, but none of its files."""
    drawn = general_code_texts(a.general_files + GENERAL_FILES, seed, exclude=exclude)
    reported = set(general_code_texts(a.general_files, seed, exclude=exclude))
    return [text for text in drawn if text not in reported]
