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

from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime, detect_runtime
from helpers.models.causal_lm import load_adapted, load_causal_lm
from helpers.models.embedder import load_embedder
from helpers.models.generation import UNKNOWN_CONTEXT, context_tokens, end_ids
from helpers.models.infilling import InfillMarks, infill_marks
from helpers.records import Document
from helpers.run.folder import recorded_profile
from helpers.serving.infill_prompts import infills
from helpers.settings import Profile, SettingsError
from helpers.tools.retrieved_prompt import RetrievalError, retrievable_code

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
    runtime: Runtime
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
    _settings(run_folder)
    finished = {track for track, place in PLACES.values() if place and (run_folder / place).is_dir()}
    found = [name for name, (track, _) in PLACES.items() if track in finished]
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
        spec, place = _settings(run_folder).track_c.model, PLACES[name][1]
        embedders[name] = ServedEmbedder(
            name, spec, load_embedder(str(run_folder / place) if place else spec, runtime)
        )
    return ServedModels(lms, embedders, runtime)


def _load_lm(run_folder: Path, name: str, runtime: Runtime) -> ServedLm:
    track, place = PLACES[name]
    profile = _settings(run_folder)
    is_chat = track == "track_b"
    spec = profile.track_b.model if is_chat else profile.track_a.model
    model, tokenizer = (
        load_adapted(spec, run_folder / place, runtime) if place else load_causal_lm(spec, runtime)
    )
    model.eval()
    context = min(context_tokens(model.config) or UNKNOWN_CONTEXT, LARGEST_CONTEXT)
    window = context if is_chat else min(profile.track_a.window, context)
    marks, why = infill_marks(tokenizer), "its vocabulary has no fill-in-the-middle marks"
    if marks and not infills(model, tokenizer, marks, _functions(run_folder), window // 2, runtime):
        marks, why = None, "its fill-in-the-middle marks do not help it"
    return ServedLm(
        name, spec, model, tokenizer, window, end_ids(model, tokenizer), is_chat, runtime, marks,
        "" if marks else why,
    )  # fmt: skip


def _functions(run_folder: Path) -> list[Document]:
    """Return the functions of the run's code base; none if Track C has not collected them."""
    try:
        return list(retrievable_code(run_folder).units.values())
    except RetrievalError:
        return []


def _settings(run_folder: Path) -> Profile:
    """Return the settings that the run was made with."""
    try:
        return recorded_profile(run_folder)
    except SettingsError as error:
        raise ServedModelError(str(error)) from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ServedModelError(
            f"{run_folder} is no run folder: run.json is missing or damaged; name a folder below runs/"
        ) from error


def run_runtime(run_folder: Path) -> Runtime:
    """Return this machine's runtime for the models of a run."""
    return detect_runtime(nf4=_settings(run_folder).nf4)
