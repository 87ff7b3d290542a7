"""The named profiles, and what a person asks of a run.

Profiles differ only in values: `LAPTOP` lists how it differs from `T4`, `CPU` how it differs from `LAPTOP`,
and `SMOKE` how it differs from `EMBEDDED`, the values that suit the embedded model. A `RunRequest` holds
what the command line or the notebook's form was given, and is passed whole from there to the session;
`resolve_profile` turns it into the settings of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.overrides import with_setting
from helpers.paths import below_home, expanded
from helpers.settings import (
    MINILM_PACKAGE,
    SMOLLM2_PACKAGE,
    TINY_CODE_LM,
    CompletionSettings,
    CorpusSettings,
    LoraSettings,
    Profile,
    SettingsError,
    TrackASettings,
    TrackBSettings,
    TrackCSettings,
    TwinSettings,
    public_spec,
)

SHOWN_CHARS = 200  # of a changed setting that cannot be made

T4 = Profile(
    name="t4",
    seed=17,
    corpus=CorpusSettings(),
    track_a=TrackASettings(
        model="Qwen/Qwen2.5-Coder-0.5B",
        window=1024,
        stride=512,
        train_tokens=700_000,
        validation_tokens=60_000,
        test_tokens=150_000,
        epochs=2,
        learning_rate=1e-4,
        batch_sequences=8,
        warmup_fraction=0.05,
        lora=LoraSettings(rank=16, alpha=32),
        twin=TwinSettings(model=TINY_CODE_LM),
    ),
    track_b=TrackBSettings(
        model="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        train_pairs=540,
        validation_pairs=60,
        executable_tasks=100,
        language_tasks=60,
        samples_per_task=10,
        temperature=0.6,
        max_prompt_tokens=1024,
        max_new_tokens=384,
        epochs=2,
        learning_rate=1e-4,  # tried together with rehearsal: docs/real-models.md
        batch_sequences=16,
        warmup_fraction=0.05,
        lora=LoraSettings(rank=16, alpha=32),
        generation_batch=64,
        general_problems=164,
        rehearsed_answers=108,  # one for five pairs
    ),
    track_c=TrackCSettings(
        model="intfloat/e5-small-v2",
        train_pairs=360,
        validation_pairs=100,  # with fewer, which pass is kept is a matter of luck
        test_queries=250,
        max_tokens=256,
        epochs=4,
        learning_rate=5e-5,
        batch_pairs=64,
        scale=50.0,
        hard_negatives=1,
        trained_layers=0,
        warmup_fraction=0.1,
        encode_batch=128,
    ),
    completion=CompletionSettings(places=400),
)

# No profile that a person names: `SMOKE`, the timed loops and tests start from it.
EMBEDDED = replace(
    T4,
    name="embedded",
    # Two epochs, as promised. On the default corpus one epoch over all its files (820,000 tokens) costs
    # 0.7 times as much and ends at .957 bits per byte on validation instead of .989.
    track_a=replace(
        T4.track_a,
        model=TINY_CODE_LM,
        window=512,
        stride=256,
        train_tokens=560_000,
        validation_tokens=20_000,
        test_tokens=80_000,
        learning_rate=9e-4,
        warmup_fraction=0.1,  # Adam's first steps at the full rate throw the model off
        lora=LoraSettings(rank=128, alpha=64),
        train_embeddings=True,
    ),
    track_b=replace(
        T4.track_b,
        model=TINY_CODE_LM,
        executable_tasks=90,
        language_tasks=32,
        samples_per_task=5,
        max_prompt_tokens=256,
        max_new_tokens=192,
        epochs=3,
        learning_rate=1e-3,
        batch_sequences=8,
        lora=LoraSettings(rank=32, alpha=64),
        repair_form="line",
        fenced_code=False,
        general_problems=0,  # the embedded model is no chat model,
        rehearsed_answers=0,  # and has no answers to keep
    ),
    # Three epochs would cost a fifth less: on validation .711 against .714 over two splits, within noise.
    track_c=replace(
        T4.track_c,
        model=MINILM_PACKAGE,
        max_tokens=64,  # name, module, first line, words: on validation better than 96
        learning_rate=2e-4,
        batch_pairs=32,
        trained_layers=3,  # of six: a step takes two thirds of the time, so that more epochs fit
        encode_batch=32,
    ),
    completion=CompletionSettings(places=200),
)

# What was measured of SmolLM2's values: docs/real-models.md.
LAPTOP = replace(
    T4,
    name="laptop",
    track_a=replace(
        T4.track_a,
        model=SMOLLM2_PACKAGE,
        stride=768,  # at least 256 tokens of context
        train_tokens=120_000,
        validation_tokens=10_000,
        test_tokens=60_000,
        epochs=1,  # a second pass gave nothing on validation: docs/real-models.md
        learning_rate=1e-3,
        batch_sequences=2,
    ),
    track_b=replace(
        T4.track_b,
        model=SMOLLM2_PACKAGE,
        executable_tasks=90,
        samples_per_task=5,
        max_prompt_tokens=320,
        max_new_tokens=200,
        epochs=2,
        learning_rate=5e-4,
        batch_sequences=4,  # twice the steps for the same tokens
        general_problems=40,
        rehearsed_answers=40,
    ),
    track_c=EMBEDDED.track_c,
    completion=CompletionSettings(chat=True),
)

# Two thirds of the time on the same model: shorter windows, fewer tokens, no training on foreign code.
CPU = replace(
    LAPTOP,
    name="cpu",
    track_a=replace(
        LAPTOP.track_a,
        window=512,
        stride=384,  # at least 128 tokens of context
        train_tokens=80_000,
        test_tokens=40_000,
        learning_rate=6e-4,
        controls=False,
    ),
    track_b=replace(LAPTOP.track_b, general_problems=20),
    completion=CompletionSettings(places=200),
)

SMOKE = replace(
    EMBEDDED,
    name="smoke",
    corpus=replace(EMBEDDED.corpus, max_files=24),
    track_a=replace(
        EMBEDDED.track_a,
        window=128,
        stride=64,
        train_tokens=12_000,
        validation_tokens=2_500,
        test_tokens=4_000,
        epochs=1,
        batch_sequences=4,
        controls=False,
        bootstrap_samples=1_000,
    ),
    track_b=replace(
        EMBEDDED.track_b,
        train_pairs=24,
        validation_pairs=6,
        executable_tasks=6,
        language_tasks=4,
        samples_per_task=3,
        epochs=1,
        batch_sequences=4,
        rehearsed_answers=4,  # shows that the step works
        bootstrap_samples=1_000,
    ),
    track_c=replace(
        EMBEDDED.track_c,
        train_pairs=24,
        validation_pairs=6,
        test_queries=12,
        max_tokens=48,
        epochs=1,
        batch_pairs=8,
        seeds=1,
        controls=False,
        bootstrap_samples=1_000,
    ),
    completion=CompletionSettings(places=9),
    failure_cases=10,
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (T4, CPU, LAPTOP, SMOKE)}


@dataclass(frozen=True)
class RunRequest:
    """What a person asks of a run; the command line and the notebook's form fill in the same fields.

    An empty string, and None for the seed, keep the profile's own value.
    """

    profile: str = "auto"  # a name of `PROFILES`; "auto" selects t4 if there is a CUDA device, else cpu
    corpus: str = ""  # installed:NAME, path:DIR, git:URL[@rev] or zip:FILE
    causal_lm: str = ""  # Track A's model: hub name, folder, gguf:FILE, package:NAME, REPO:FILE.gguf
    chat_lm: str = ""  # Track B's
    embedder: str = ""  # Track C's; also package:NAME
    seed: int | None = None
    nf4: bool = False  # frozen weights of the causal LMs in 4 bits
    language: str = ""  # who writes the prose of Track B's pairs
    benchmarks: tuple[str, ...] = ()  # problem files whose code no pair may share
    changed_settings: tuple[str, ...] = ()  # single settings by name, each like "track_a.epochs=1"
    out: str | Path = "."  # receives the reports; the run folder is `out/runs/<run_id>`
    run_id: str = ""  # name of the run folder; made from profile and time when empty
    resume: bool = False  # resume the newest unfinished run with exactly these settings, if any
    second_copy: str | Path = ""  # folder for a second copy of finished stages, such as a mounted Drive

    def __post_init__(self) -> None:
        """Take lists too, as the notebook's form gives them; a text is one entry, empty ones are dropped.

        Where folders and files begin with `~`, the home folder takes its place.
        """
        for name in ("benchmarks", "changed_settings"):
            given = getattr(self, name)
            entries = (given,) if isinstance(given, str) else tuple(given or ())
            object.__setattr__(self, name, tuple(entry.strip() for entry in entries if entry.strip()))
        object.__setattr__(self, "benchmarks", tuple(str(expanded(one)) for one in self.benchmarks))
        for name in ("out", "second_copy"):
            object.__setattr__(self, name, (given := getattr(self, name)) and below_home(given))


def resolve_profile(request: RunRequest) -> Profile:
    """Return the profile that `request` names, with its choices applied.

    A profile with a changed setting is no full run: its reports carry the profile's name.

    Raises:
        SettingsError: if the profile, a choice or a changed setting cannot be honoured; all are named, a line
            each.
    """
    profile, wrong = apply_request(request)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return profile


def apply_request(request: RunRequest) -> tuple[Profile, list[str]]:
    """Apply what can be honoured of `request`, and return a line for each part that cannot.

    An unknown profile leaves `CPU` in its place, so that the other parts can still be tried. Parts are tried
    again once the others are applied: two fractions may fit together, and neither with the other's old value.
    """
    profile, unknown = PROFILES.get(request.profile, CPU), []
    if request.profile not in PROFILES:
        known = ", ".join(sorted(PROFILES))
        unknown = [f"unknown profile {request.profile!r}; choose one of: {known}"]
    parts = _parts(request)
    before = len(parts) + 1
    while True:
        profile, wrong = _apply(profile, parts)
        if not 0 < len(wrong) < before:
            break
        before = len(wrong)
    if request.changed_settings:
        profile = replace(profile, changed=tuple(map(public_spec, request.changed_settings)))
    return profile, unknown + wrong


def _parts(request: RunRequest) -> list[tuple[str, Callable[[Profile], Profile]]]:
    """Return, for each part of the request, what an error's line begins with, and its application."""
    options = {
        "corpus.spec": request.corpus,
        "track_a.model": request.causal_lm,
        "track_b.model": request.chat_lm,
        "track_c.model": request.embedder,
        "track_b.language": request.language,
    }
    parts = [("", _setter(path, value)) for path, value in options.items() if value]
    if request.seed is not None:
        parts.append(("", lambda profile: replace(profile, seed=_whole(request.seed))))
    if request.nf4:
        parts.append(("", lambda profile: replace(profile, nf4=True)))
    if request.benchmarks:
        parts.append(("", lambda p: replace(p, track_b=replace(p.track_b, benchmarks=request.benchmarks))))
    for change in request.changed_settings:
        path, sign, value = change.partition("=")
        told = public_spec(change)  # as a whole: a cut could leave a password without the "@" behind it
        shown = told if len(told) <= SHOWN_CHARS else f"{told[:SHOWN_CHARS]}…"
        parts.append((f"cannot set {shown!r}: ", _setter(path.strip(), value.strip() if sign else None)))
    return parts


def _apply(
    profile: Profile, parts: Sequence[tuple[str, Callable[[Profile], Profile]]]
) -> tuple[Profile, list[str]]:
    wrong = []
    for prefix, change in parts:
        try:
            profile = change(profile)
        except ValueError as error:
            wrong.append(public_spec(f"{prefix}{error}"))
    return profile, wrong


def _setter(path: str, value: str | None) -> Callable[[Profile], Profile]:
    def change(profile: Profile) -> Profile:
        if value is None:
            raise SettingsError("it has no value; write NAME=VALUE")
        return with_setting(profile, path, value)

    return change


def _whole(seed: object) -> int:
    try:
        return int(str(seed))
    except ValueError:
        raise SettingsError(f"the seed is a whole number, not {seed!r}") from None
