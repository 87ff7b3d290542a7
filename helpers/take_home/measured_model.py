"""Load a run's adapted language model as it was measured, and sum its adapter into dense float32 weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import load_adapted
from helpers.models.generation import end_ids
from helpers.report.metrics import MetricsError, metrics_file
from helpers.run.workspace import read_json, read_jsonl

Track = Literal["a", "b", "c"]
EMBEDDER = "track_c/train/embedder"
ADAPTERS = {"a": "track_a/train/adapter", "b": "track_b/train/adapter"}


class ExportError(SuiteError, ValueError):
    """A run or model that cannot be exported in the form asked for; the message says why and what to do."""


@dataclass(frozen=True)
class RunFacts:
    """What an export needs to know of its run, read from the run folder."""

    folder: Path
    track: Track
    settings: dict[str, Any]  # of the track
    seed: int
    metrics: dict[str, Any]  # the run's metrics.json; {} if the run has none yet

    @property
    def base(self) -> str:
        """The name of the model that was adapted."""
        return str(self.settings["model"])

    @property
    def held_out(self) -> list[str]:
        """Text that the model was not trained on: Track A's files, Track B's tasks, Track C's queries."""
        if self.track == "b":
            return [f"{row['instruction']}\n{row['reference']}" for row in self.rows("tasks")]
        return [str(row["text"]) for row in self.rows("data/test")]

    @property
    def adapter(self) -> Path:
        """The folder of the adapter."""
        return self.folder / ADAPTERS[self.track]

    @property
    def corpus(self) -> dict[str, Any]:
        """What metrics.json says of the corpus; {} if the run has none yet."""
        return dict(self.metrics.get("run", {}).get("corpus", {}))

    @property
    def section(self) -> dict[str, Any]:
        """The track's section of metrics.json; {} if there is none."""
        return dict(self.metrics.get(f"track_{self.track}", {}))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of one of the run's files below the track's folder; [] if it is not there."""
        file = self.folder / f"track_{self.track}" / f"{name}.jsonl"
        return read_jsonl(file) if file.is_file() else []


@dataclass(frozen=True)
class MeasuredModel:
    """The adapted model as it was measured, its adapter apart from the frozen weights."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    ends: tuple[int, ...]  # ids that end a text, the configuration's own first
    facts: RunFacts


def run_facts(run_folder: Path, track: Track | None) -> RunFacts:
    """Read what an export needs from a run folder.

    Args:
        track: whose adapter; None takes Track A's if the run has it, else Track B's.

    Raises:
        ExportError: if the folder is no run, or lacks the adapter.
    """
    if not run_folder.is_dir():
        raise ExportError(f"there is no run in {run_folder}: make one with `make run`, or name its folder")
    there = [
        name for name, place in ADAPTERS.items() if (run_folder / place / "adapter_config.json").is_file()
    ]
    chosen = track or next(iter(there), "a")
    if chosen not in there:
        has = f"it has the adapter of Track {', '.join(there).upper()}" if there else "it has no adapter"
        raise ExportError(
            f"{run_folder} holds no adapted model of Track {chosen.upper()} ({ADAPTERS[chosen]}): {has}; "
            "finish the run with --resume, or choose another with --track"
        )
    facts, nf4 = _read_facts(run_folder, chosen)
    if nf4:
        raise ExportError(
            "this run held its base model in 4 bits (--nf4), so the sum of base and adapter was never "
            "measured; run again without --nf4, or load base and adapter as the README shows"
        )
    return facts


def embedder_facts(run_folder: Path) -> RunFacts:
    """Read what an export of the tuned embedder needs from a run folder; ExportError if it has none."""
    if not (run_folder / EMBEDDER / "modules.json").is_file():
        raise ExportError(f"{run_folder} holds no tuned embedder ({EMBEDDER}); finish the run with --resume")
    return _read_facts(run_folder, "c")[0]


def _read_facts(run_folder: Path, track: Track) -> tuple[RunFacts, bool]:
    """Return a track's facts, and whether the run held its causal models in 4 bits."""
    try:
        profile = read_json(run_folder / "run.json")["profile"]
        settings, seed = dict(profile[f"track_{track}"]), int(profile["seed"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{run_folder} is no run folder: run.json cannot be read ({error})") from error
    try:
        metrics = read_json(metrics_file(run_folder))
    except MetricsError:
        metrics = {}
    return RunFacts(run_folder, track, settings, seed, metrics), bool(profile.get("nf4"))


def load_measured(facts: RunFacts, runtime: Runtime) -> MeasuredModel:
    """Load the run's base model and adapter, in float32 on the CPU, where sums of weights are exact enough.

    Raises:
        ModelError: if base or adapter cannot be loaded.
    """
    exact = replace(runtime, device=torch.device("cpu"), weight_dtype=torch.float32, autocast_dtype=None)
    model, tokenizer = load_adapted(facts.base, facts.adapter, exact)
    configured = model.generation_config.eos_token_id
    own = configured if isinstance(configured, list) else [configured]
    ends = dict.fromkeys([*(i for i in own if i is not None), *sorted(end_ids(model, tokenizer))])
    return MeasuredModel(model, tokenizer, tuple(ends), facts)


def merged_model(measured: MeasuredModel) -> PreTrainedModel:
    """Return a plain float32 model that computes what `measured` does. The weights of `measured` are used up.

    Trained rows of the embedding are part of it, and so of a tied head. Its generation settings name every
    end token and decode greedily, as the run did.
    """
    whole = measured.model.merge_and_unload(safe_merge=True)
    if whole.config.tie_word_embeddings:
        # PEFT leaves the head with the rows from before the training where it wrapped the embedding alone.
        whole.get_output_embeddings().weight = whole.get_input_embeddings().weight
    whole.config.eos_token_id = measured.ends[0] if measured.ends else None
    whole.config.pad_token_id = pad = measured.tokenizer.pad_token_id
    whole.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=[end for end in measured.ends if end != pad] or None,
        pad_token_id=pad,
        bos_token_id=measured.tokenizer.bos_token_id,
    )
    for name in ("quantization_config", "_pre_quantization_dtype"):  # of a base that came from a GGUF file
        if hasattr(whole.config, name):
            delattr(whole.config, name)
    whole.config.name_or_path = ""  # it may be a path of this machine
    return whole.float().eval()
