"""Write the run's tuned embedder for ONNX Runtime: one graph from token ids to the finished vector.

Pooling and normalisation are part of the graph, and prompts and the limit of tokens stand in `embedder.json`,
so that whoever uses it has nothing to add but the tokenizer.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from helpers.machine.hardware import Runtime
from helpers.models.embedder import encode, is_static, load_embedder, plain_texts
from helpers.models.hub import first_line
from helpers.run.workspace import read_json, write_json
from helpers.take_home.engine_job import EngineError
from helpers.take_home.measured_model import EMBEDDER, ExportError, RunFacts

GRAPH, SETTINGS = "model.onnx", "embedder.json"
WRITERS, ENGINE = ("onnx",), "onnxruntime"
OPSET = 17
INSTALL = "`pip install onnx onnxruntime`"
NO_RUNTIME = f"no ONNX Runtime to compute with: {INSTALL}"
LEAST_COSINE = 0.9999  # of a text's two vectors
VECTORS = "embedding"
HOW_TO_EMBED = """```python
import json
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

settings = json.load(open("embedder.json"))
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text
session = onnxruntime.InferenceSession("model.onnx")


def embed(texts, kind):  # kind: "query" or "document"
    rows = tokenizer.encode_batch([settings["prompts"][kind] + text for text in texts])
    arrays = {"input_ids": [row.ids for row in rows], "attention_mask": [row.attention_mask for row in rows],
              "token_type_ids": [row.type_ids for row in rows]}
    inputs = {name: np.array(arrays[name], np.int64) for name in settings["inputs"]}
    return session.run(None, inputs)[0]
```"""


class _Embedding(torch.nn.Module):
    """The whole embedder as a function of its input tensors."""

    def __init__(self, model: SentenceTransformer, inputs: Sequence[str]) -> None:
        super().__init__()
        self.parts, self.inputs = torch.nn.ModuleList(model), list(inputs)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        features: dict[str, Any] = dict(zip(self.inputs, tensors, strict=True))
        for part in self.parts:
            features = part(features)
        return torch.nn.functional.normalize(features["sentence_embedding"], dim=-1)


def has_runtime() -> bool:
    """Return whether ONNX Runtime is installed."""
    return importlib.util.find_spec(ENGINE) is not None


def load_tuned(facts: RunFacts, runtime: Runtime) -> tuple[SentenceTransformer, int]:
    """Load the embedder that a run tuned, and the longest text in tokens that it was measured with.

    Raises:
        ExportError: if it has no transformer.
    """
    model = load_embedder(str(facts.folder / EMBEDDER), runtime).eval()
    if is_static(model):
        raise ExportError(
            "this embedder is a table of token vectors, without a graph to export; use its folder"
        )
    most = int(facts.settings["max_tokens"])
    return model, min(most, int(model.max_seq_length or most))


def write_onnx(model: SentenceTransformer, folder: Path, max_tokens: int) -> None:
    """Write graph, tokenizer and settings into `folder`.

    Args:
        max_tokens: longest text, as encoded by the run.

    Raises:
        EngineError: if the packages that write ONNX are not installed.
        ExportError: if torch cannot express the model as a graph.
    """
    if missing := [name for name in WRITERS if importlib.util.find_spec(name) is None]:
        raise EngineError(f"writing ONNX needs the packages {' and '.join(missing)}: {INSTALL}")
    tokens = model.tokenizer(["def f(x):\n    return x", "sort a list"], padding=True, return_tensors="pt")
    names = list(tokens)
    axes = {name: {0: "texts", 1: "tokens"} for name in names} | {VECTORS: {0: "texts"}}
    try:
        with torch.no_grad(), _quietly():
            # By tracing. What it fixes at this length would show in the proof, whose texts have others.
            torch.onnx.export(
                _Embedding(model, names).eval(),
                tuple(tokens[name] for name in names),
                str(folder / GRAPH),
                input_names=names,
                output_names=[VECTORS],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter raises a dozen types here, and all mean the same
        raise ExportError(f"torch cannot write this embedder as ONNX: {first_line(error)}") from error
    _tokenizer(model, max_tokens).save(str(folder / "tokenizer.json"))
    write_json(
        folder / SETTINGS,
        {
            "inputs": names, "output": VECTORS, "dimensions": model.get_embedding_dimension(),
            "max_tokens": max_tokens, "normalised": True,
            "prompts": {kind: (model.prompts or {}).get(kind, "") for kind in ("query", "document")},
            "pooling": [type(part).__name__ for part in list(model)[1:]],
        },
    )  # fmt: skip


def prove_onnx(
    model: SentenceTransformer,
    folder: Path,
    queries: Sequence[str],
    documents: Sequence[str],
    runtime: Runtime,
    max_tokens: int,
) -> dict[str, Any]:
    """Compare ONNX Runtime's vectors with the measured embedder's on held-out queries and functions.

    Returns:
        Least and mean cosine between the two vectors of a text, the largest difference of two values, and for
        how many queries the same function is nearest.

    Raises:
        EngineError: if ONNX Runtime is not installed, or does not load the graph.
        ExportError: if a cosine is below the bound.
    """
    vectors, other = {}, {}
    for kind, texts in (("query", queries), ("document", documents)):
        vectors[kind] = encode(model, texts, kind=kind, runtime=runtime, max_tokens=max_tokens)
        other[kind] = onnx_vectors(folder, plain_texts(model, texts), kind)
    first, second = (np.concatenate([some["query"], some["document"]]) for some in (vectors, other))
    cosines = (first * second).sum(1)
    nearest = [(some["query"] @ some["document"].T).argmax(1) for some in (vectors, other)]
    found = {
        "engine": f"onnxruntime {importlib.metadata.version('onnxruntime')}",
        "queries": len(queries), "documents": len(documents),
        "least_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean()),
        "largest_difference": float(np.abs(first - second).max()),
        "same_nearest": float((nearest[0] == nearest[1]).mean()),
    }  # fmt: skip
    if not found["least_cosine"] >= LEAST_COSINE:
        raise ExportError(
            f"the ONNX embedder does not give the measured vectors, and is not kept: cosine "
            f"{found['least_cosine']:.5f} (bound {LEAST_COSINE}) over {len(cosines)} texts"
        )
    return found | {"bound": {"least_cosine": LEAST_COSINE}, "proven": True}


def onnx_vectors(folder: Path, texts: Sequence[str], kind: str) -> np.ndarray:
    """Return the vectors (texts, dimensions) that ONNX Runtime computes from an exported folder.

    Raises:
        EngineError: if ONNX Runtime is not installed, or does not load the graph.
    """
    if not has_runtime():
        raise EngineError(NO_RUNTIME)
    import onnxruntime

    settings = read_json(folder / SETTINGS)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # as measured: what a text spells is text
    try:
        session = onnxruntime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises types of its own
        raise EngineError(f"ONNX Runtime does not load the graph: {first_line(error)}") from error
    parts = []
    for text in texts:
        row = tokenizer.encode(settings["prompts"][kind] + text)
        arrays = {"input_ids": row.ids, "attention_mask": row.attention_mask, "token_type_ids": row.type_ids}
        inputs = {name: np.array([arrays[name]], np.int64) for name in settings["inputs"]}
        parts.append(session.run(None, inputs)[0])
    return np.concatenate(parts)


def _tokenizer(model: SentenceTransformer, max_tokens: int) -> Tokenizer:
    """Return a copy of the model's tokenizer that cuts at `max_tokens` and pads to a batch's longest text."""
    own = model.tokenizer
    copy = Tokenizer.from_str(own.backend_tokenizer.to_str())
    copy.enable_truncation(max_tokens)
    copy.enable_padding(pad_id=own.pad_token_id, pad_token=own.pad_token, pad_type_id=own.pad_token_type_id)
    return copy


@contextlib.contextmanager
def _quietly() -> Any:
    """Silence the exporter, which reports each of its steps and warns about its own parts."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
