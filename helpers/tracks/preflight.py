"""Try every model and setting of a run before anything is computed.

An hour of Tracks A and B must not precede the news that Track C's embedder cannot be used. Each model is
loaded as the run will load it, and tried on a few tokens (`helpers.models.fitness`). All problems are
listed, not the first alone. What only the data can show (too few functions, an endpoint that does not
answer) is not found here.

One thing differs from the run: on a CPU, models whose weights the run holds in 4 bits are tried with whole
weights, and quantising is tried on one layer: bitsandbytes quantises there so slowly that loading would
take most of the time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.data.contamination import Benchmarks
from helpers.data.corpus_spec import check_place
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
    layer_problems,
)
from helpers.models.hub import needs_download
from helpers.settings import Profile, SettingsError, TrackCSettings, public_spec
from helpers.train.contrastive import freeze_lower_layers
from helpers.train.instruct import end_token_id

# What one use of a causal model needs beside `causal_problems`.
Trial = Callable[[PreTrainedModel, PreTrainedTokenizerBase], list[str]]


class PreflightError(SettingsError):
    """Models or settings of a run do not fit; the message has a line for each problem."""

    explains_itself = True


def check_models(profile: Profile, runtime: Runtime) -> float:
    """Try all models and settings of `profile` on this machine; return the seconds that it took.

    Raises:
        PreflightError: if anything does not fit; it lists every problem with what to do.
    """
    with stopwatch() as took:
        found, _ = _problems(profile, runtime)
    if found:
        raise PreflightError(_message(found))
    return took["seconds"]


def raise_all(profile: Profile, runtime: Runtime, wrong: Sequence[str]) -> None:
    """Raise one error with `wrong`, the choices that could not be applied to `profile`, and what else is.

    Models of the hub that are not on this machine are not tried: a misspelt setting must not wait for a
    download.

    Raises:
        PreflightError: if there is any problem.
    """
    found, untried = _problems(profile, runtime, download=False)
    if wrong or found:
        later = f"\nNot yet on this machine, and not tried: {', '.join(untried)}" if untried else ""
        raise PreflightError(_message([*wrong, *found]) + later)


def _problems(profile: Profile, runtime: Runtime, *, download: bool = True) -> tuple[list[str], list[str]]:
    """Return a line for each problem, and the models that were not tried since they need a download."""
    with _one_thread():
        uses = _uses(profile)
        specs = dict.fromkeys((*uses, profile.track_c.model))
        untried = [spec for spec in specs if not download and needs_download(spec)]
        found = [
            *_settings_problems(profile, runtime),
            *_causal_model_problems({s: t for s, t in uses.items() if s not in untried}, runtime),
        ]
        if profile.track_c.model not in untried:
            found += _embedder_problems(profile.track_c, runtime)
        _free()
    return found, untried


def _message(found: Sequence[str]) -> str:
    lines = public_spec("\n".join(f"- {problem}" for problem in found))
    many = f"{len(found)} problems" if len(found) > 1 else "1 problem"
    return f"nothing was computed, because of {many}:\n{lines}"


def _settings_problems(profile: Profile, runtime: Runtime) -> list[str]:
    """Try what concerns no model, or only settings among each other."""
    a, b = profile.track_a, profile.track_b
    found = _window_problems("track_a", a.window)
    if (twin := a.as_twin()) is not None:
        found += _window_problems("track_a.twin", twin.window)
    found += [f"corpus.spec: {problem}" for problem in _raised(lambda: check_place(profile.corpus.spec))]
    if runtime.nf4:
        found += _quantising_problems(runtime)
    for what, work in (
        ("track_b.benchmarks", lambda: Benchmarks(b.benchmarks)),
        ("track_b.language", lambda: language_generator(b.language, runtime)),
    ):
        found += [f"Track B, {what}: {problem}" for problem in _raised(work)]
    return found


def _window_problems(place: str, window: int) -> list[str]:
    """Return what is wrong with the window of the settings at `place`."""
    if window >= 2:
        return []
    return [f"Track A: {place}.window is {window}, but a window holds at least 2 tokens: raise it"]


def _quantising_problems(runtime: Runtime) -> list[str]:
    """Hold one small layer in 4 bits, as `load_causal_lm` holds all, and compute with it."""
    try:
        from bitsandbytes.nn.modules import Linear4bit

        layer = Linear4bit(64, 64, bias=False, quant_type="nf4").to(runtime.device)
        values = layer(torch.ones(1, 64, device=runtime.device))
    except Exception as error:  # a missing package, or one that knows nothing of this device
        return [f"nf4: bitsandbytes cannot hold weights in 4 bits here ({_line(error)}): run without nf4"]
    wrong = "nf4: bitsandbytes gives values that are no numbers here: run without nf4"
    return [] if bool(torch.isfinite(values).all()) else [wrong]


def _uses(profile: Profile) -> dict[str, dict[str, Trial]]:
    """Return causal model -> use that the run has for it -> what that use needs."""
    a, b = profile.track_a, profile.track_b
    length = b.max_prompt_tokens + b.max_new_tokens
    uses: dict[str, dict[str, Trial]] = {}  # model -> use -> trial
    uses.setdefault(a.model, {})["Track A"] = lambda model, tokenizer: [
        *context_problems(model, a.window, "track_a.window is"),
        *layer_problems(model, a.lora.layers, "track_a.lora.layers"),
    ]
    if (twin := a.as_twin()) is not None:
        uses.setdefault(twin.model, {})["Track A's twin"] = lambda model, tokenizer: [
            *context_problems(model, twin.window, "track_a.twin.window is"),
            *layer_problems(model, twin.lora.layers, "track_a.twin.lora.layers"),
        ]
    uses.setdefault(b.model, {})["Track B"] = lambda model, tokenizer: [
        *chat_problems(tokenizer, end_token_id(tokenizer)),
        *context_problems(model, length, "track_b.max_prompt_tokens and max_new_tokens are"),
        *layer_problems(model, b.lora.layers, "track_b.lora.layers"),
    ]
    kind, _, writer = b.language.partition(":")
    if kind == "chat":
        uses.setdefault(writer or CHAT_MODEL, {})["track_b.language"] = lambda model, tokenizer: [
            *chat_problems(tokenizer, end_token_id(tokenizer)),
            *context_problems(model, 2 * MAX_ANSWER_TOKENS, "prompt and answer have about"),
        ]
    return uses


def _causal_model_problems(uses: Mapping[str, Mapping[str, Trial]], runtime: Runtime) -> list[str]:
    """Load each causal model once, and try it for every use the run has for it."""
    if runtime.nf4 and runtime.device.type == "cpu":
        whole = runtime.autocast_dtype or torch.float32
        runtime = dataclasses.replace(runtime, nf4=False, weight_dtype=whole)
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
