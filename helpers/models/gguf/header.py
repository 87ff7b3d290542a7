"""Read what a GGUF file says about itself, and refuse a file that is no whole causal language model.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Reading takes no tensor into memory
and copies a vocabulary of 150,000 tokens in well under a second.
"""

from __future__ import annotations

import math
import mmap
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from helpers.errors import SuiteError
from helpers.escaping import visible

VERSIONS = (2, 3)  # 1 counted in 32 bits and is not written any more
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_NESTING = 8  # lists in lists; llama.cpp reads none, and Python cannot go down for ever
ENCODERS = ("bert", "t5encoder", "embedding")  # parts of an architecture's name
ROPE_TENSORS = ("rope_freqs.", "rope_factors_")  # change the rotary embedding


class GgufError(SuiteError, RuntimeError):
    """A GGUF file cannot be used as a causal language model; the message says why and what to do."""


@dataclass(frozen=True)
class GgufTensor:
    """One tensor as stored; `shape` is in torch's order."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int  # in the file
    size_bytes: int

    @property
    def values(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)

    @property
    def bits(self) -> float:
        """Bits per weight."""
        return 8 * self.size_bytes / self.values


@dataclass(frozen=True)
class GgufHeader:
    """The key-value pairs and the list of tensors of one file."""

    path: Path
    fields: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]
    spans: Mapping[str, tuple[int, int]]  # where each key's pair lies in the file; "" is the tensors' list

    @property
    def architecture(self) -> str:
        """The name that llama.cpp gives the family, such as "llama" or "qwen2"."""
        return str(self.fields.get("general.architecture", ""))

    @property
    def name(self) -> str:
        """The model's name, or the file's where the model has none."""
        return visible(" ".join(str(self.fields.get("general.name") or self.path.stem).split()))

    @property
    def quantisation(self) -> str:
        """What llama.cpp calls the mixture of formats, such as "Q4_K_M"."""
        try:
            mixture = LlamaFileType(self.fields.get("general.file_type")).name
        except ValueError:
            return "/".join(sorted({tensor.kind.name for tensor in self.tensors}))
        return mixture.removeprefix("MOSTLY_").removeprefix("ALL_")

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value of the architecture, such as `embedding_length`."""
        return self.fields.get(f"{self.architecture}.{key}", default)


def read_header(path: Path) -> GgufHeader:
    """Return the header of a GGUF file that holds one whole causal language model.

    Raises:
        GgufError: if the file cannot be read, is not GGUF, is cut, or holds something else: a part of a
            split model, an adapter, an embedding model, a vocabulary.
    """
    try:
        header = _parse(path)
        _refuse_what_is_no_model(header)
    except OSError as error:
        raise GgufError(f"cannot read {path}: {error.strerror or error}") from error
    except (struct.error, MemoryError, OverflowError) as error:
        raise GgufError(f"{path.name} is cut within its header; fetch it again") from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        wrong = " ".join(str(error).split())
        raise GgufError(f"the header of {path.name} cannot be read ({wrong}); fetch it again") from error
    end = max(tensor.start + tensor.size_bytes for tensor in header.tensors)
    size = path.stat().st_size
    if size < end:
        raise GgufError(
            f"{path.name} is cut: it has {size:,} bytes of {end:,}; fetch it again and compare its size"
        )
    return header


def shape_in(header: GgufHeader) -> dict[str, Any]:
    """Return the model's dimensions under the names of a transformers configuration."""
    names = {tensor.name: tensor for tensor in header.tensors}
    heads = header.get("attention.head_count")
    return {
        "model_type": header.architecture,
        "hidden_size": header.get("embedding_length"),
        "num_hidden_layers": header.get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": header.get("attention.head_count_kv", heads),
        "head_dim": header.get("attention.key_length"),
        "intermediate_size": header.get("feed_forward_length"),
        "max_position_embeddings": header.get("context_length"),
        "vocab_size": names["token_embd.weight"].shape[0] if "token_embd.weight" in names else 0,
        "tie_word_embeddings": "output.weight" not in names,  # a second copy counts
    }


def write_without_vocabulary(header: GgufHeader, target: Path) -> None:
    """Copy a file without its vocabulary, which transformers and gguf read slowly and nobody needs again.

    The vocabulary's size is stated instead.
    """
    stated = f"{header.architecture}.vocab_size"
    left_out = {key for key in header.spans if key.startswith("tokenizer.")} | {stated, ""}
    size = next(tensor.shape[0] for tensor in header.tensors if tensor.name == "token_embd.weight")
    pair = struct.pack("<Q", len(stated)) + stated.encode() + struct.pack("<II", 4, size)
    with header.path.open("rb") as source, target.open("wb") as out:

        def piece(span: tuple[int, int]) -> bytes:
            source.seek(span[0])
            return source.read(span[1] - span[0])

        kept = [piece(span) for key, span in header.spans.items() if key not in left_out]
        counts = struct.pack("<IQQ", VERSIONS[-1], len(header.tensors), len(kept) + 1)
        begin = b"".join([b"GGUF", counts, *kept, pair, piece(header.spans[""])])
        out.write(begin.ljust(_aligned(len(begin), header.fields), b"\0"))
        source.seek(_aligned(header.spans[""][1], header.fields))
        shutil.copyfileobj(source, out, 2**24)


def _parse(path: Path) -> GgufHeader:
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise GgufError(f"{path.name} is no GGUF file: it does not begin with GGUF; check what it is")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content, 4).header(path)


@dataclass
class _Reader:
    """A position in a mapped file; each method reads one thing and moves on."""

    content: mmap.mmap
    at: int

    def header(self, path: Path) -> GgufHeader:
        version = self.numbers("I")[0]
        if version not in VERSIONS:
            raise GgufError(
                f"{path.name} is GGUF version {version} (or big-endian); versions 2 and 3 can be read: "
                "take a newer conversion of the model"
            )
        tensor_count, pair_count = self.numbers("QQ")
        fields, spans = {}, {}
        for _ in range(pair_count):
            begin, key = self.at, self.text()
            fields[key] = self.value(self.numbers("I")[0])
            spans[key] = (begin, self.at)
        begin, entries = self.at, [self.tensor() for _ in range(tensor_count)]
        spans[""] = (begin, self.at)
        start = _aligned(self.at, fields)
        return GgufHeader(path, fields, tuple(_placed(entry, start) for entry in entries), spans)

    def numbers(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def text(self) -> str:
        length = self.numbers("Q")[0]
        found = self.content[self.at : self.at + length]
        if len(found) < length:
            raise struct.error("a text ends beyond the file")
        self.at += length
        return found.decode("utf-8")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.numbers(SCALARS[kind])[0]
        if depth == MAX_NESTING:
            raise ValueError(f"a list lies in {MAX_NESTING} others")
        inner, count = self.numbers("IQ")
        if inner in SCALARS:
            return list(self.numbers(f"{count}{SCALARS[inner]}"))
        return [self.value(inner, depth + 1) for _ in range(count)]

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text()
        dimensions = self.numbers(f"{self.numbers('I')[0]}Q")
        kind, offset = self.numbers("IQ")
        return name, tuple(reversed(dimensions)), kind, offset


def _aligned(position: int, fields: Mapping[str, Any]) -> int:
    """Return where the tensors begin after a header that ends at `position`."""
    alignment = int(fields.get("general.alignment", 32))
    return -(-position // alignment) * alignment


def _placed(entry: tuple[str, tuple[int, ...], int, int], start: int) -> GgufTensor:
    name, shape, number, offset = entry
    kind = GGMLQuantizationType(number)
    per_block, block_bytes = GGML_QUANT_SIZES[kind]
    return GgufTensor(name, shape, kind, start + offset, math.prod(shape) // per_block * block_bytes)


def _refuse_what_is_no_model(header: GgufHeader) -> None:
    """Raise GgufError for a file that is something else than a whole causal language model."""
    name, kind = header.path.name, header.fields.get("general.type", "model")
    parts = int(header.fields.get("split.count", 0))
    if parts > 1:
        raise GgufError(
            f"{name} is one part of a model split into {parts} files; join them with "
            "`llama-gguf-split --merge FIRST_PART WHOLE.gguf` and name the whole file"
        )
    if kind == "adapter" or any(tensor.name.endswith(".lora_a") for tensor in header.tensors):
        raise GgufError(f"{name} is a LoRA adapter, no model; name the GGUF file of its base model")
    encodes = any(part in header.architecture for part in ENCODERS) or header.get("pooling_type") is not None
    if encodes:
        raise GgufError(
            f"{name} is an embedding model ({header.architecture}); Tracks A and B need a causal language "
            "model, and Track C takes a sentence-transformers folder or hub name"
        )
    if kind != "model" or header.architecture == "clip":
        raise GgufError(f"{name} holds no language model but {kind!r}; name the GGUF file of the model")
    if not header.architecture or not header.tensors:
        raise GgufError(f"{name} holds no model, only a header; name a file with weights")
    scaling = header.get("rope.scaling.type", "none")
    if scaling != "none" or any(t.name.startswith(ROPE_TENSORS) for t in header.tensors):
        raise GgufError(
            f"{name} stretches its rotary embedding in a way that a GGUF file does not state in full; take "
            "the model's safetensors folder or hub name"
        )
