"""Compute with a prebuilt llama.cpp, through the C functions of its own header `llama.h`.

No package is asked how it wraps llama.cpp, only where its library lies; so any of `LIBRARIES` will do. The C
functions used here have kept their form for years. Structures of parameters have not: they are fetched from
the library, passed back as they came, and only their leading fields are set.

This module runs in a process of its own (`helpers.take_home.llama_engine`), because llama.cpp ends the
process where it finds something wrong. Started as a program it does one job, which a JSON file describes.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

POINTER, INT, TEXT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
CONTEXT_STEP = 64  # tokens
ERROR_LEVEL = 3  # of ggml_log_level: warnings and errors
ROLES = ("bos", "eos", "eot", "pad", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")


class _Parameters(ctypes.Structure):
    """A structure of parameters, larger than any; on x86-64 and Arm such structures are passed in memory."""

    _fields_ = (("words", ctypes.c_uint64 * 64),)

    def set(self, place: int, value: int) -> None:
        """Set the 32-bit field number `place`."""
        ctypes.cast(ctypes.byref(self), ctypes.POINTER(ctypes.c_uint32))[place] = value


class _Batch(ctypes.Structure):
    """`llama_batch`: tokens to compute in one pass, their places, and whose logits are wanted."""

    _fields_ = (
        ("n_tokens", INT), ("token", ctypes.POINTER(INT)), ("embd", POINTER), ("pos", ctypes.POINTER(INT)),
        ("n_seq_id", ctypes.POINTER(INT)), ("seq_id", ctypes.POINTER(ctypes.POINTER(INT))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )  # fmt: skip


class LlamaModel:
    """A GGUF file loaded by llama.cpp, with a context of `context` tokens."""

    def __init__(
        self, library: ctypes.CDLL, file: str, *, context: int, threads: int, lora: str = ""
    ) -> None:
        self.library = library
        _declare(library)
        self.said: list[str] = []
        self._log = ctypes.CFUNCTYPE(None, INT, TEXT, POINTER)(self._keep)
        self.library.llama_log_set(self._log, None)
        self.library.llama_backend_init()
        options = self.library.llama_model_default_params()
        self.model = self.library.llama_model_load_from_file(file.encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load the file: {self._why()}")
        wanted = self.library.llama_context_default_params()
        for place, value in ((0, context), (1, context), (2, context), (3, 1)):
            wanted.set(place, value)  # n_ctx, n_batch, n_ubatch, n_seq_max
        self.context = self.library.llama_init_from_model(self.model, wanted)
        if not self.context or self.library.llama_n_ctx(self.context) < context:
            raise RuntimeError(f"llama.cpp gives no context of {context} tokens: {self._why()}")
        self.library.llama_set_n_threads(self.context, threads, threads)
        self.vocabulary = self.library.llama_model_get_vocab(self.model)
        self.n_vocab = self.library.llama_vocab_n_tokens(self.vocabulary)
        self.batch = self.library.llama_batch_init(context, 0, 1)
        if lora:
            self._add_lora(lora)

    def logits(self, ids: Sequence[int], first: int = 0, *, begin: int = 0) -> np.ndarray:
        """Return the logits (len(ids) - first, vocabulary) of the tokens from number `first` on.

        Args:
            begin: how many tokens of the text were computed before; 0 forgets any earlier text.
        """
        if not begin:
            self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)
        batch = self.batch
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, begin + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = place >= first
        if status := self.library.llama_decode(self.context, batch):
            raise RuntimeError(f"llama.cpp computes no logits (status {status}): {self._why()}")
        found = self.library.llama_get_logits(self.context)
        return np.ctypeslib.as_array(found, (len(ids) - first, self.n_vocab)).copy()

    def greedy(self, ids: Sequence[int], most: int, ends: frozenset[int]) -> list[int]:
        """Return the likeliest tokens after `ids`, at most `most`, without the one that ends them."""
        new: list[int] = []
        step, done = list(ids), 0
        while len(new) < most:
            token = int(self.logits(step, len(step) - 1, begin=done)[0].argmax())
            if token in ends:
                break
            done += len(step)
            new.append(token)
            step = [token]
        return new

    def token_ids(self, text: str) -> list[int]:
        """Return llama.cpp's ids of a text in which special tokens are recognised; none is added."""
        raw = text.encode()
        room = len(raw) + 8
        found = (INT * room)()
        count = self.library.llama_tokenize(self.vocabulary, raw, len(raw), found, room, False, True)
        if count < 0:
            raise RuntimeError(f"llama.cpp gives {-count} tokens for {len(raw)} bytes")
        return list(found[:count])

    def facts(self, ends: Sequence[int]) -> dict[str, Any]:
        """Return what llama.cpp read from the file: template, roles of tokens, whether `ends` end a text."""
        template = self.library.llama_model_chat_template(self.model, None)
        return {
            "n_vocab": self.n_vocab,
            "parameters": self.library.llama_model_n_params(self.model),
            "chat_template": template.decode() if template else None,
            "ends": [bool(self.library.llama_vocab_is_eog(self.vocabulary, end)) for end in ends],
            "roles": {role: getattr(self.library, f"llama_vocab_{role}")(self.vocabulary) for role in ROLES},
            "add_bos": bool(self.library.llama_vocab_get_add_bos(self.vocabulary)),
        }

    def _add_lora(self, file: str) -> None:
        adapter = self.library.llama_adapter_lora_init(self.model, file.encode())
        if not adapter:
            raise RuntimeError(f"llama.cpp does not load the adapter: {self._why()}")
        adapters, scales = (POINTER * 1)(adapter), (ctypes.c_float * 1)(1.0)
        if self.library.llama_set_adapters_lora(self.context, adapters, 1, scales):
            raise RuntimeError(f"llama.cpp does not apply the adapter: {self._why()}")

    def _keep(self, level: int, text: bytes, _: Any) -> None:
        if level >= ERROR_LEVEL:
            self.said.append(text.decode(errors="replace").strip())

    def _why(self) -> str:
        return " ".join(" ".join(self.said[-3:]).split()) or "it says nothing"


def _declare(library: ctypes.CDLL) -> None:
    """State the types of the functions, as `llama.h` does."""
    ids, texts = ctypes.POINTER(INT), [POINTER]
    forms: dict[str, tuple[Any, list[Any]]] = {
        "llama_log_set": (None, [POINTER, POINTER]),
        "llama_model_default_params": (_Parameters, []),
        "llama_context_default_params": (_Parameters, []),
        "llama_model_load_from_file": (POINTER, [TEXT, _Parameters]),
        "llama_init_from_model": (POINTER, [POINTER, _Parameters]),
        "llama_n_ctx": (ctypes.c_uint32, [POINTER]),
        "llama_set_n_threads": (None, [POINTER, INT, INT]),
        "llama_model_get_vocab": (POINTER, [POINTER]),
        "llama_model_n_params": (ctypes.c_uint64, [POINTER]),
        "llama_model_chat_template": (TEXT, [POINTER, TEXT]),
        "llama_vocab_n_tokens": (INT, [POINTER]),
        "llama_vocab_is_eog": (ctypes.c_bool, [POINTER, INT]),
        "llama_vocab_get_add_bos": (ctypes.c_bool, [POINTER]),
        "llama_batch_init": (_Batch, [INT, INT, INT]),
        "llama_decode": (INT, [POINTER, _Batch]),
        "llama_get_memory": (POINTER, [POINTER]),
        "llama_memory_clear": (None, [POINTER, ctypes.c_bool]),
        "llama_get_logits": (ctypes.POINTER(ctypes.c_float), [POINTER]),
        "llama_tokenize": (INT, [POINTER, TEXT, INT, ids, INT, ctypes.c_bool, ctypes.c_bool]),
        "llama_adapter_lora_init": (POINTER, [POINTER, TEXT]),
        "llama_set_adapters_lora": (INT, [POINTER, POINTER, ctypes.c_size_t, POINTER]),
        **{f"llama_vocab_{role}": (INT, texts) for role in ROLES},
    }
    for name, (result, arguments) in forms.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def open_library(file: str) -> ctypes.CDLL:
    """Open the shared library, with the libraries beside it that it needs."""
    for beside in sorted(Path(file).parent.glob("libggml*.so*")):
        ctypes.CDLL(str(beside), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(file)


def do_job(job: dict[str, Any]) -> dict[str, Any]:
    """Load the file and compute what `helpers.take_home.llama_engine.llama_engine` asks for."""
    prompts, windows, most = job["prompts"], job["windows"], job["most"]
    texts = [
        *(len(one["ids"]) for one in [*prompts, *windows]),
        *(len(ids) + most for ids in job["generate"]),
    ]
    context = 1 + max([CONTEXT_STEP, *texts])
    library = open_library(job["library"])
    model = LlamaModel(library, job["model"], context=context, threads=job["threads"], lora=job["lora"])
    if prompts:
        rows = sum(one["kept"] for one in prompts)
        out = np.lib.format.open_memmap(job["logits"], "w+", np.float32, (rows, model.n_vocab))
        begin = 0
        for one in prompts:
            kept = one["kept"]
            out[begin : begin + kept] = model.logits(one["ids"], len(one["ids"]) - kept)
            begin += kept
        out.flush()
    ends = frozenset(job["ends"])
    return {
        **model.facts(job["ends"]),
        "token_ids": [model.token_ids(text) for text in job["texts"]],
        "nll_nats": [_nll(model, window) for window in windows],
        "written": [model.greedy(ids, most, ends) for ids in job["generate"]],
    }


def _nll(model: LlamaModel, window: dict[str, Any]) -> float:
    """Return -ln p of the last `scored` tokens of a window, summed."""
    ids, scored = window["ids"], window["scored"]
    logits = model.logits(ids[:-1], len(ids) - 1 - scored).astype(np.float64)
    return sum(
        _log_sum(row) - row[target] for row, target in zip(logits, ids[len(ids) - scored :], strict=True)
    )


def _log_sum(row: np.ndarray) -> float:
    top = row.max()
    return float(top + np.log(np.exp(row - top).sum()))


def _main(arguments: Iterator[str]) -> None:
    job, answer = Path(next(arguments)), Path(next(arguments))
    try:
        found = do_job(json.loads(job.read_text(encoding="utf-8")))
    except (OSError, RuntimeError, AttributeError) as error:  # AttributeError: a function that is not there
        found = {"error": str(error)}
    answer.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    _main(iter(sys.argv[1:]))
