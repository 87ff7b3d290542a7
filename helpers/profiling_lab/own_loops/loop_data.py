"""What the loops are trained on and scored on: a small part of each track's data, made as a run makes it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_splits
from helpers.data.queries.retrieval_data import RetrievalData, build_retrieval_data
from helpers.data.splits import split_corpus
from helpers.data.tasks.instruct_data import build_instruct_data
from helpers.models.causal_lm import load_tokenizer
from helpers.profiles import EMBEDDED
from helpers.records import InstructPair
from helpers.settings import LoraSettings, Profile, TrackASettings, TrackBSettings, TrackCSettings

# As profile t4 gives real models; the embedded model's own adapters have a higher rank.
LORA = LoraSettings(rank=16, alpha=32)


@dataclass(frozen=True)
class LoopData:
    """Settings and data of all tracks; each `held_out` is seen by no training, not even for validation."""

    track_a: TrackASettings
    training_texts: tuple[str, ...]
    validation_texts: tuple[str, ...]
    held_out_texts: tuple[str, ...]
    track_b: TrackBSettings
    training_pairs: tuple[InstructPair, ...]
    validation_pairs: tuple[InstructPair, ...]
    held_out_pairs: tuple[InstructPair, ...]
    track_c: TrackCSettings
    queries: RetrievalData  # held out are its test queries


def loop_profile() -> Profile:
    """Return `EMBEDDED` with less data, fewer epochs in two tracks, and the adapters of real models.

    What a run does beside the loop is off: rehearsal and scaling in Track A, mined negatives in Track C. So
    both loops read the same examples.
    """
    return dataclasses.replace(
        EMBEDDED,
        track_a=dataclasses.replace(
            EMBEDDED.track_a, train_tokens=10_000, validation_tokens=1_500, test_tokens=4_000, epochs=1,
            lora=LORA, train_embeddings=False, rehearsal_share=0.0, keep_gain=1.0,
        ),
        track_b=dataclasses.replace(
            EMBEDDED.track_b, train_pairs=32, validation_pairs=24, executable_tasks=6, language_tasks=4,
            epochs=3, lora=LORA,
        ),
        track_c=dataclasses.replace(
            EMBEDDED.track_c, train_pairs=48, validation_pairs=8, test_queries=60, epochs=1, hard_negatives=0,
            batch_pairs=8,  # the library's default: the batch decides how many negatives a query has
        ),
    )  # fmt: skip


def make_loop_data(profile: Profile) -> LoopData:
    """Make the data of `profile`'s corpus.

    Raises:
        CorpusError: if there is no such corpus.
        InsufficientDataError: if it is too small.
    """
    corpus = load_corpus(profile.corpus.spec, profile.corpus)
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, profile.corpus, profile.seed)
    files = draw_splits(corpus, splits, profile.track_a, profile.seed)
    texts = {name: tuple(file.text for file in some) for name, some in files.items()}
    pairs = build_instruct_data(
        functions, splits, corpus, profile.track_b, profile.seed, load_tokenizer(profile.track_b.model),
        profile.sandbox_workers,
    )  # fmt: skip
    return LoopData(
        profile.track_a, texts["training"], texts["validation"], texts["test"],
        profile.track_b, tuple(pairs.train), tuple(pairs.validation[::2]), tuple(pairs.validation[1::2]),
        profile.track_c, build_retrieval_data(functions, splits, profile.track_c, profile.seed),
    )  # fmt: skip
