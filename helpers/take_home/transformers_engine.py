"""Compute with an exported folder as a person would: plain `from_pretrained`, nothing of this package."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from helpers.take_home.engine_job import Engine, EngineAnswer, EngineError, EngineJob, Prompt

LOADERS = ("AutoTokenizer", "PreTrainedTokenizerFast")


def transformers_engine(folder: Path, loader: str) -> Engine:
    """Return an engine that loads an exported folder; calling it raises EngineError if that fails.

    Args:
        loader: from `tokenizer_loader`.
    """
    return functools.partial(_compute, folder, loader)


def tokenizer_loader(folder: Path, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> str:
    """Return the name of the class that loads the folder's tokenizer with these ids, best `AutoTokenizer`.

    AutoTokenizer rebuilds the tokenizer of some families by rules of its own: beside a Qwen2 configuration it
    normalises text, whatever tokenizer.json says. If no class gives the ids, the proof will say so.
    """
    found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    same = all(_ids(found, text) == tuple(some) for text, some in zip(texts, ids, strict=True))
    return LOADERS[0] if same else LOADERS[1]


def prompt_logits(model: torch.nn.Module, prompts: tuple[Prompt, ...], file: Path) -> np.ndarray:
    """Return float32 logits (positions, vocabulary) of all prompts' kept positions, mapped from `file`."""
    rows = sum(prompt.kept for prompt in prompts)
    out: np.ndarray | None = None
    begin = 0
    with torch.inference_mode():
        for prompt in prompts:
            found = model(torch.tensor([prompt.ids])).logits[0, -prompt.kept :].float().numpy()
            if out is None:
                out = np.lib.format.open_memmap(file, "w+", np.float32, (rows, found.shape[-1]))
            out[begin : begin + prompt.kept] = found
            begin += prompt.kept
    return np.zeros((0, 0), np.float32) if out is None else out


def _compute(folder: Path, loader: str, job: EngineJob, scratch: Path) -> EngineAnswer:
    try:
        tokenizer = getattr(transformers, loader).from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        ).eval()
    except Exception as error:  # the library raises a dozen types here, and all mean the same
        raise EngineError(f"transformers does not load the exported folder: {error}") from error
    own = model.generation_config.eos_token_id
    stops = set(own if isinstance(own, list) else [own])
    return EngineAnswer(
        engine=f"transformers {transformers.__version__}",
        logits=prompt_logits(model, tuple(job.prompts), scratch / "folder.npy"),
        nll_nats=tuple(_nll(model, window.ids, window.scored) for window in job.windows),
        written=tuple(_greedy(model, ids, job.most, set(job.ends)) for ids in job.generate),
        token_ids=tuple(_ids(tokenizer, text) for text in job.texts),
        chat_template=tokenizer.chat_template,
        ends=tuple(end in stops or end == tokenizer.pad_token_id for end in job.ends),
        facts={"parameters": model.num_parameters(), "tokenizer": loader},
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def _nll(model: PreTrainedModel, ids: tuple[int, ...], scored: int) -> float:
    with torch.inference_mode():
        logits = model(torch.tensor([ids[:-1]])).logits[0, -scored:].double()
    wanted = torch.tensor(ids[len(ids) - scored :])
    return torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()


def _greedy(model: PreTrainedModel, ids: tuple[int, ...], most: int, ends: set[int]) -> tuple[int, ...]:
    fed = torch.tensor([ids])
    with torch.inference_mode():
        found = model.generate(
            fed, attention_mask=torch.ones_like(fed), max_new_tokens=most, do_sample=False,
            eos_token_id=sorted(ends) or None,
        )  # fmt: skip
    new = found[0, len(ids) :].tolist()
    return tuple(new[:-1] if new and new[-1] in ends else new)
