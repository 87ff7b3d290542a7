"""Turn a GGUF file once into a folder that transformers loads: dense weights, config, tokenizer.

The weights are stored in float32, exactly as the file's quantisation defines them; `load_causal_lm` rounds
them to the run's precision like those of any other folder. The folder is kept in the suite's cache under the
file's SHA-256, is written under another name and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from helpers.error_text import storage_problem
from helpers.machine.memory import is_out_of_memory
from helpers.models.gguf.header import (
    GgufError,
    GgufHeader,
    GgufTensor,
    read_header,
    write_without_vocabulary,
)
from helpers.models.gguf.store import RECORD, GgufRecord, cache_folder_of, is_whole
from helpers.models.gguf.token_rules import Specials, build_tokenizer
from helpers.models.hub import first_line

GIB = 2**30
ROOM_BYTES = 2**26  # for the tokenizer and for others
SIZE_STATED = ("llama", "qwen2", "qwen3")  # for these transformers reads a stated vocabulary size
FLOAT_ERROR = {"F32": 0.0, "F16": 3e-4, "BF16": 3e-3}  # relative, of rounding to that format


def converted(path: Path, sha256: str) -> Path:
    """Return the folder converted from the GGUF file `path`; convert it if the cache does not hold it.

    Args:
        path: the file; it is read only if the cache has no folder for it.
        sha256: of the file.

    Raises:
        GgufError: if the file is no causal language model that transformers loads whole, or if disk or cache
            folder have no room for it.
    """
    final = cache_folder_of(sha256)
    with _locked(final):
        if is_whole(final):
            return final
        header = read_header(path)
        _check_room(header, final.parent)
        partial = final.with_name(f"partial-{final.name}")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        try:
            partial.mkdir(mode=0o700)
            record = _convert(header, sha256, partial)
            shutil.rmtree(final, ignore_errors=True)  # a damaged one
            os.replace(partial, final)
        except Exception as error:
            if problem := storage_problem(error):
                raise GgufError(f"cannot convert {path.name} into {final.parent}: {problem}") from error
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    said = "; ".join(record.repaired) or "nothing to repair"
    # Not to standard output, where a command may print its answer.
    print(f"converted {record.file} ({record.name}, {record.quantisation}): {said}", file=sys.stderr)
    return final


def _convert(header: GgufHeader, sha256: str, folder: Path) -> GgufRecord:
    """Write all files of the converted folder, its record last."""
    try:
        tokenizer, roles = build_tokenizer(header)
    except GgufError:
        raise
    except Exception as error:  # tokenizers raises bare ones
        wrong = f"the vocabulary of {header.path.name} cannot be used: {first_line(error)}"
        raise GgufError(f"{wrong}; take another conversion of the model") from error
    model = _dense_model(header, folder)
    repaired = [*roles.repaired, *_tie(header, model)]
    settings = _configuration(model, roles)
    weights = {name: tensor.float().contiguous() for name, tensor in model.state_dict().items()}
    if settings["tie_word_embeddings"]:
        head = model.get_output_embeddings()
        name = next(name for name, module in model.named_modules() if module is head)
        weights.pop(f"{name}.weight", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", settings)
    GenerationConfig(
        eos_token_id=list(roles.ends) or None, pad_token_id=roles.pad, bos_token_id=roles.begin
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = GgufRecord(
        header.path.name, header.name, header.architecture, header.quantisation, sha256,
        str(header.fields.get("general.license", "")), tuple(repaired),
        {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    )  # fmt: skip
    _write_json(folder / RECORD, asdict(record))
    return record


def _dense_model(header: GgufHeader, folder: Path) -> PreTrainedModel:
    """Load all weights of the file into a plain float32 model; GgufError if any is left over or missing."""
    name, slim = header.path.name, folder / "weights.gguf"
    options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
    with contextlib.suppress(ImportError):  # newer versions could leave the weights quantised
        from transformers import GgufConfig

        options["quantization_config"] = GgufConfig(dequantize=True)
    try:
        source = header.path
        if header.architecture in SIZE_STATED:
            source = slim
            write_without_vocabulary(header, slim)
        with _quiet_transformers():
            place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
            model, info = AutoModelForCausalLM.from_pretrained(**place, **options)
    except Exception as error:  # the library raises a dozen types here, and all mean the same
        if is_out_of_memory(error) or storage_problem(error):
            raise
        raise GgufError(
            f"transformers cannot load {name} (architecture {header.architecture!r}): {first_line(error)}. "
            "Take a GGUF file of another family, or the model's safetensors folder or hub name"
        ) from error
    finally:
        slim.unlink(missing_ok=True)
    lacking = sorted({*info["missing_keys"], *info["unexpected_keys"], *map(str, info["mismatched_keys"])})
    if "output.weight" not in {tensor.name for tensor in header.tensors}:  # the head is the embedding
        lacking = [key for key in lacking if "lm_head" not in key]
    held = sum(parameter.numel() for parameter in model.parameters())
    stored = sum(tensor.values for tensor in header.tensors)
    if lacking or held != stored:
        what = f"{', '.join(lacking[:3])} do not fit" if lacking else f"{stored:,} weights for {held:,}"
        raise GgufError(
            f"{name} does not fill transformers' model of the architecture {header.architecture!r} ({what}); "
            "take the model's safetensors folder or hub name"
        )
    return model


def _tie(header: GgufHeader, model: PreTrainedModel) -> list[str]:
    """Tie head and embedding if the file holds one matrix twice, keep the better copy, and say so."""
    stored = {tensor.name: tensor for tensor in header.tensors}
    head, embedding = stored.get("output.weight"), stored.get("token_embd.weight")
    if head is None or embedding is None or head.shape != embedding.shape:
        return []
    as_head, as_embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    with torch.no_grad():
        apart = float((as_head - as_embedding).norm() / as_embedding.norm())
    if apart > _rounding(head) + _rounding(embedding):
        return []
    better, rest = (head, embedding) if head.bits > embedding.bits else (embedding, head)
    kept = as_head if better is head else as_embedding
    model.get_input_embeddings().weight = kept
    model.get_output_embeddings().weight = kept
    model.config.tie_word_embeddings = True
    return [f"head and embedding are one matrix: {better.kind.name} kept, {rest.kind.name} left out"]


def _rounding(tensor: GgufTensor) -> float:
    """Return an upper bound of the relative error that a format's rounding makes."""
    known = FLOAT_ERROR.get(tensor.kind.name)
    return 2.0 ** -(tensor.bits - 1.5) if known is None else known


def _configuration(model: PreTrainedModel, roles: Specials) -> dict[str, Any]:
    """Return config.json of a plain dense model."""
    settings = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "torch_dtype"):
        settings.pop(key, None)
    end = roles.ends[0] if roles.ends else None
    return settings | {
        "architectures": [type(model).__name__],
        "dtype": "float32",
        "bos_token_id": roles.begin,
        "eos_token_id": end,
        "pad_token_id": roles.pad,
    }


def _check_room(header: GgufHeader, cache: Path) -> None:
    stored = sum(tensor.size_bytes for tensor in header.tensors)  # copied for a while
    needed = 4 * sum(tensor.values for tensor in header.tensors) + stored + ROOM_BYTES
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise GgufError(
            f"converting {header.path.name} takes {needed / GIB:.1f} GiB in {cache}, and {free / GIB:.1f} "
            "are free; make room, or set XDG_CACHE_HOME to a folder on a larger disk"
        )


@contextlib.contextmanager
def _locked(final: Path) -> Iterator[None]:
    """Let one process at a time convert a file; the others wait and find the folder."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        stream = final.with_suffix(".lock").open("a")
    except OSError as error:
        if is_whole(final):  # a read-only cache that has what is needed
            yield
            return
        wrong = f"cannot write the cache {final.parent}: {error.strerror}; set XDG_CACHE_HOME"
        raise GgufError(wrong) from error
    with stream:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence warnings about keys that `_dense_model` checks itself."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
