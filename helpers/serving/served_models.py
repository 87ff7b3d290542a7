"""The models of a finished run under the names by which they are served.

    code-base, code-adapted      Track A's language model, untouched and with its adapter
    chat-base, chat-adapted      Track B's
    embed-base, embed-adapted    Track C's embedder, untouched and tuned

What a run does not hold is not served. All are loaded as the run loads them for its own measurements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import load_adapted, load_causal_lm
from helpers.models.embedder import load_embedder
from helpers.models.generation import UNKNOWN_CONTEXT, context_tokens, end_ids
from helpers.run.workspace import read_json
from helpers.serving.infilling import InfillMarks, infill_marks, infills
from helpers.serving.retrieved_context import run_functions

LARGEST_CONTEXT = 4096  # tokens of a conversation and its answer, whatever a model could see
PLACES = {  # name -> the track's settings in run.json, and the folder of what was trained
    "code-base": ("track_a", ""),
    "code-adapted": ("track_a", "track_a/train/adapter"),
    "chat-base": ("track_b", ""),
    "chat-adapted": ("track_b", "track_b/train/adapter"),
    "embed-base": ("track_c", ""),
    "embed-adapted": ("track_c", "track_c/train/embedder"),
}


class ServedModelError(SuiteError, ValueError):
    """A run without models to serve, or a name that is none of them."""


@dataclass(frozen=True, eq=False)
class ServedLm:
    """A language model that is served."""

    name: str
    spec: str  # of the base model
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    window: int  # tokens of prompt and answer together
    ends: frozenset[int]
    is_chat: bool
    marks: InfillMarks | None  # None if the model cannot fill in a middle
    why_no_infill: str = ""


@dataclass(frozen=True, eq=False)
class ServedEmbedder:
    """A sentence embedder that is served."""

    name: str
    spec: str
    model: SentenceTransformer


@dataclass(frozen=True)
class ServedModels:
    """All models of a run that are served, by name."""

    lms: Mapping[str, ServedLm]
    embedders: Mapping[str, ServedEmbedder]
    runtime: Runtime

    @property
    def names(self) -> list[str]:
        """Return the names of all models."""
        return [*self.lms, *self.embedders]


def servable(run_folder: Path, only: Collection[str] = ()) -> list[str]:
    """Return the names of the models that a run holds, or `only` those, in the order of `PLACES`.

    Raises:
        ServedModelError: if the run holds none, or not one of `only`.
    """
    if not run_folder.is_dir():
        raise ServedModelError(
            f"there is no run in {run_folder}: make one with `make run`, or name its folder"
        )
    settings = _settings(run_folder)
    finished = {track for track, place in PLACES.values() if place and (run_folder / place).is_dir()}
    found = [name for name, (track, _) in PLACES.items() if track in finished and track in settings]
    if not found:
        raise ServedModelError(
            f"{run_folder} holds no trained model: either it is not a run folder below runs/, or no track "
            "finished; make a run with `make run`"
        )
    if missing := [name for name in only if name not in found]:
        raise ServedModelError(
            f"{run_folder} has no model {missing[0]!r} to serve; it has {', '.join(found)}"
        )
    return [name for name in found if not only or name in only]


def load_served(run_folder: Path, names: Collection[str], runtime: Runtime) -> ServedModels:
    """Load the models of these names.

    Raises:
        ServedModelError: if the run does not hold one of them.
        ModelError, EmbedderError: if one cannot be loaded.
    """
    chosen = servable(run_folder, names)
    lms = {name: _load_lm(run_folder, name, runtime) for name in chosen if not name.startswith("embed")}
    embedders = {}
    for name in (name for name in chosen if name.startswith("embed")):
        spec, place = _settings(run_folder)["track_c"]["model"], PLACES[name][1]
        embedders[name] = ServedEmbedder(
            name, spec, load_embedder(str(run_folder / place) if place else spec, runtime)
        )
    return ServedModels(lms, embedders, runtime)


def _load_lm(run_folder: Path, name: str, runtime: Runtime) -> ServedLm:
    track, place = PLACES[name]
    settings = _settings(run_folder)[track]
    spec = settings["model"]
    loaded = load_adapted(spec, run_folder / place, runtime) if place else load_causal_lm(spec, runtime)
    model, tokenizer = loaded
    model.eval()
    context = min(context_tokens(model.config) or UNKNOWN_CONTEXT, LARGEST_CONTEXT)
    window = min(int(settings.get("window", context)), context)
    marks, why = infill_marks(tokenizer), "its vocabulary has no fill-in-the-middle marks"
    if marks and not infills(model, tokenizer, marks, run_functions(run_folder), window // 2):
        marks, why = None, "its fill-in-the-middle marks do not help it"
    return ServedLm(
        name, spec, model, tokenizer, window, end_ids(model, tokenizer), track == "track_b", marks,
        "" if marks else why,
    )  # fmt: skip


def _settings(run_folder: Path) -> dict[str, Any]:
    """Return the settings of the run's tracks, as `run.json` holds them."""
    try:
        return dict(read_json(run_folder / "run.json")["profile"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ServedModelError(
            f"{run_folder} is no run folder: run.json is missing or damaged; name a folder below runs/"
        ) from error
