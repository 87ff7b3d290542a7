"""Try every model and setting of a run before anything is computed.

An hour of Tracks A and B must not precede the news that Track C's embedder cannot be used. Each model is
loaded as the run will load it, and tried on a few tokens (`helpers.models.fitness`). All problems are
listed, not the first alone. What only the data can show (too few functions, an endpoint that does not
answer) is not found here.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.data.contamination import Benchmarks
from helpers.data.tasks.prose_models import CHAT_MODEL, MAX_ANSWER_TOKENS, language_generator
from helpers.errors import SuiteError
from helpers.eval.vector_index import build_index
from helpers.machine.hardware import Runtime
from helpers.machine.usage import stopwatch
from helpers.models.causal_lm import load_causal_lm
from helpers.models.embedder import encode, load_embedder
from helpers.models.fitness import (
    CODE,
    causal_problems,
    chat_problems,
    context_problems,
    embedder_problems,
)
from helpers.settings import Profile, TrackCSettings
from helpers.train.contrastive import freeze_lower_layers
from helpers.train.instruct import end_token_id

# What one use of a causal model needs beside `causal_problems`.
Trial = Callable[[PreTrainedModel, PreTrainedTokenizerBase], list[str]]


class PreflightError(SuiteError, ValueError):
    """Models or settings of a run do not fit; the message has a line for each problem."""

    explains_itself = True


def check_models(profile: Profile, runtime: Runtime) -> float:
    """Try all models and settings of `profile` on this machine; return the seconds that it took.

    Raises:
        PreflightError: if anything does not fit; it lists every problem with what to do.
    """
    with stopwatch() as took, _one_thread():
        found = [
            *_settings_problems(profile, runtime),
            *_causal_model_problems(profile, runtime),
            *_embedder_problems(profile.track_c, runtime),
        ]
        _free()
    if found:
        lines = "\n".join(f"- {problem}" for problem in found)
        many = f"{len(found)} problems" if len(found) > 1 else "1 problem"
        raise PreflightError(f"nothing was computed, because of {many}:\n{lines}")
    return took["seconds"]


def _settings_problems(profile: Profile, runtime: Runtime) -> list[str]:
    """Try what concerns no model, or only settings among each other."""
    a, b = profile.track_a, profile.track_b
    found = []
    if a.window < 2:
        found.append(f"Track A: track_a.window is {a.window}, but a window holds at least 2 tokens: raise it")
    if not 1 <= a.stride <= a.window:
        found.append(
            f"Track A: track_a.stride is {a.stride}, but must lie between 1 and the window of {a.window}: "
            f"--set track_a.stride={max(1, a.window // 2)}"
        )
    for what, work in (
        ("track_b.benchmarks", lambda: Benchmarks(b.benchmarks)),
        ("track_b.language", lambda: language_generator(b.language, runtime)),
    ):
        found += [f"Track B, {what}: {problem}" for problem in _raised(work)]
    return found


def _causal_model_problems(profile: Profile, runtime: Runtime) -> list[str]:
    """Load each causal model once, and try it for every use the run has for it."""
    a, b = profile.track_a, profile.track_b
    length = b.max_prompt_tokens + b.max_new_tokens
    uses: dict[str, dict[str, Trial]] = {}  # model -> use -> trial
    uses.setdefault(a.model, {})["Track A"] = lambda model, tokenizer: context_problems(
        model, a.window, "track_a.window is"
    )
    if (twin := a.as_twin()) is not None:
        uses.setdefault(twin.model, {})["Track A's twin"] = lambda model, tokenizer: context_problems(
            model, twin.window, "track_a.twin.window is"
        )
    uses.setdefault(b.model, {})["Track B"] = lambda model, tokenizer: [
        *chat_problems(tokenizer, end_token_id(tokenizer)),
        *context_problems(model, length, "track_b.max_prompt_tokens and max_new_tokens are"),
    ]
    kind, _, writer = b.language.partition(":")
    if kind == "chat":
        uses.setdefault(writer or CHAT_MODEL, {})["track_b.language"] = lambda model, tokenizer: [
            *chat_problems(tokenizer, end_token_id(tokenizer)),
            *context_problems(model, 2 * MAX_ANSWER_TOKENS, "prompt and answer have about"),
        ]
    found = []
    for spec, trials in uses.items():
        users = " and ".join(trials)
        try:
            model, tokenizer = load_causal_lm(spec, runtime)
        except SuiteError as error:
            found.append(f"{users}: {_line(error)}")
            continue
        general = causal_problems(model, tokenizer)
        found += [f"{users}, model {spec!r}: {problem}" for problem in general]
        for user, trial in trials.items() if not general else ():
            found += [f"{user}, model {spec!r}: {problem}" for problem in trial(model, tokenizer)]
        del model
        _free()
    return found


def _embedder_problems(settings: TrackCSettings, runtime: Runtime) -> list[str]:
    """Try Track C's embedder, which of its layers are to learn, and an index over two of its vectors."""
    spec = settings.model
    try:
        model = load_embedder(spec, runtime)
    except SuiteError as error:
        return [f"Track C: {_line(error)}"]
    found = embedder_problems(model, spec, runtime, settings.max_tokens)
    if found:
        return [f"Track C, model {spec!r}: {problem}" for problem in found]
    layers = _raised(lambda: freeze_lower_layers(model, settings.trained_layers))
    texts, limit = [CODE, CODE[::-1]], settings.max_tokens
    vectors = encode(model, texts, kind="query", runtime=runtime, max_tokens=limit)
    index = _raised(lambda: build_index(vectors, ["a", "b"], settings.index))
    return [
        *(f"Track C, model {spec!r}: {problem}" for problem in layers),
        *(f"Track C, track_c.index={settings.index}: {problem}" for problem in index),
    ]


def _raised(work: Callable[[], object]) -> list[str]:
    """Return the message of an error that `work` raises on purpose, or for want of a package."""
    try:
        work()
    except (SuiteError, ImportError) as error:
        return [_line(error)]
    return []


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: for a few tokens more are no faster, and on a busy machine far slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _free() -> None:
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
