"""The base model's training data on disk: token arrays, held-out files, and facts about the sources."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from helpers.base_model.base_corpus import load_base_corpus
from helpers.base_model.base_recipes import EMBEDDED, BaseRecipe
from helpers.base_model.change_pairs import FILE_SEPARATOR, PAIR_KINDS, change_pairs
from helpers.base_model.evaluation import EvaluationText
from helpers.base_model.training_windows import MixedWindows, offsets_path, tokenize_to
from helpers.models.causal_lm import load_tokenizer
from helpers.records import SourceFile
from helpers.run.workspace import Workspace, read_jsonl, write_json, write_jsonl

PLAIN, PAIRS = "plain.npy", "pairs.npy"
CORPUS_FACTS = "corpus.json"
COUNTED_BYTES = 30_000_000  # of training text that the 5-gram model counts
WORKERS = 2


def build_token_arrays(root: Path, recipe: BaseRecipe) -> Path:
    """Return the folder below `root` with the recipe's data, building it unless it is there."""
    inputs = [recipe.bytes_per_source, recipe.pairs_per_function, recipe.held_out, recipe.near]
    inputs += [recipe.data_seed, PAIR_KINDS]
    return Workspace(root).stage(f"data-{recipe.name}", inputs, lambda at: _build(recipe, at))


def load_windows(data: Path, recipe: BaseRecipe, tokenizer: PreTrainedTokenizerBase) -> MixedWindows:
    """Open the token arrays in `data` as the recipe's training windows."""
    return MixedWindows(
        plain=np.load(data / PLAIN, mmap_mode="r"),
        pairs=np.load(data / PAIRS, mmap_mode="r"),
        pair_offsets=np.load(offsets_path(data / PAIRS)),
        window=recipe.window,
        rows_per_step=recipe.rows_per_step,
        micro_batch=recipe.micro_batch,
        pair_share=recipe.pair_share,
        seed=recipe.seed,
        separator=tokenizer.convert_tokens_to_ids(FILE_SEPARATOR),
        question_weight=recipe.question_weight,
        answer_weight=recipe.answer_weight,
    )


def load_held_out(data: Path) -> list[SourceFile]:
    """Load the files in `data` from packages that are not trained on."""
    return read_jsonl(data / "held_out.jsonl", SourceFile)


def load_evaluation_text(data: Path) -> EvaluationText:
    """Load the text in `data` that the finished model is measured on."""
    return EvaluationText(
        held_out=load_held_out(data),
        near=read_jsonl(data / "near.jsonl", SourceFile),
        counted=[row["text"] for row in read_jsonl(data / "counted.jsonl")],
    )


def _build(recipe: BaseRecipe, folder: Path) -> None:
    corpus = load_base_corpus(
        seed=recipe.data_seed, bytes_per_source=recipe.bytes_per_source, held_out=recipe.held_out,
        near=recipe.near,
    )  # fmt: skip
    tokenizer = load_tokenizer(str(EMBEDDED))
    order = np.random.default_rng(recipe.data_seed).permutation(len(corpus.train))
    texts = [corpus.train[i].text for i in order]
    tokenize_to(folder / PLAIN, texts, tokenizer, total=len(texts))
    pairs = change_pairs(
        corpus.train, recipe.data_seed, per_function=recipe.pairs_per_function, processes=WORKERS
    )
    texts_of_pairs = (text for _, text in pairs)
    tokenize_to(folder / PAIRS, texts_of_pairs, tokenizer, total=len(pairs), separator=FILE_SEPARATOR)
    write_jsonl(folder / "held_out.jsonl", corpus.held_out)
    write_jsonl(folder / "near.jsonl", corpus.near)
    before = accumulate((len(text.encode()) for text in texts), initial=0)
    counted = [text for text, size in zip(texts, before, strict=False) if size < COUNTED_BYTES]
    write_jsonl(folder / "counted.jsonl", ({"text": text} for text in counted))
    facts = {
        "sources": corpus.sources,
        "held_out_sources": corpus.held_out_sources,
        "rejected": corpus.rejected,
        "pairs": Counter(kind for kind, _ in pairs),
        "counted_bytes": sum(len(text.encode()) for text in counted),
        "plain_tokens": len(np.load(folder / PLAIN, mmap_mode="r")),
        "pair_tokens": len(np.load(folder / PAIRS, mmap_mode="r")),
    }
    write_json(folder / CORPUS_FACTS, facts)
