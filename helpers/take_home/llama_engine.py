"""Find a prebuilt llama.cpp on this machine, and let it compute in a process of its own."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import helpers
from helpers.take_home.engine_job import Engine, EngineAnswer, EngineError, EngineJob

OWN_LIBRARY = "LLAMA_CPP_LIB"  # environment variable: a file
# Installed package -> where its llama.cpp lies.
LIBRARIES = {
    "xllamacpp": "xllamacpp*.so",
    "llama_cpp": "lib/libllama.so*",
    "llama_cpp_py_sync": "libllama.so*",
}
MISSING = (
    "no llama.cpp to compute with: `pip install xllamacpp` (or llama-cpp-python), or set LLAMA_CPP_LIB to a "
    "libllama.so"
)


def find_llama() -> tuple[str, Path] | None:
    """Return name and library of the llama.cpp to use: the environment's own, else an installed package's."""
    if own := os.environ.get(OWN_LIBRARY):
        return "llama.cpp", Path(own)
    for package, place in LIBRARIES.items():
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            continue
        for root in (spec.submodule_search_locations or []) if spec else []:
            if found := sorted(Path(root).glob(place)):
                return package, found[0]
    return None


def llama_engine(model: Path, lora: Path | None = None) -> Engine:
    """Return an engine that computes with a GGUF file, and with a LoRA file on top of it if there is one.

    Calling the engine raises EngineError if there is no llama.cpp, or it refuses the file or stops.
    """
    return functools.partial(_compute, model, lora)


def _compute(model: Path, lora: Path | None, job: EngineJob, folder: Path) -> EngineAnswer:
    found = find_llama()
    if found is None:
        raise EngineError(MISSING)
    name, library = found
    logits = folder / f"{model.stem}.npy"
    asked = dataclasses.asdict(job) | {
        "library": str(library.resolve()), "model": str(model.resolve()), "logits": str(logits.resolve()),
        "lora": str(lora.resolve()) if lora else "", "threads": torch.get_num_threads(),
    }  # fmt: skip
    result = _in_own_process(name, asked, folder)
    if "error" in result:
        raise EngineError(f"{name} refuses {(lora or model).name}: {result['error']}")
    return EngineAnswer(
        engine=_described(name),
        logits=np.load(logits, mmap_mode="r") if job.prompts else np.zeros((0, 0), np.float32),
        nll_nats=tuple(result["nll_nats"]),
        written=tuple(map(tuple, result["written"])),
        token_ids=tuple(map(tuple, result["token_ids"])),
        chat_template=result["chat_template"],
        ends=tuple(result["ends"]),
        facts={key: result[key] for key in ("parameters", "roles", "add_bos")},
    )


def _in_own_process(name: str, asked: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what `helpers.take_home.llama_library` answers to a job."""
    job, answer = folder / "job.json", folder / "answer.json"
    job.write_text(json.dumps(asked), encoding="utf-8")
    answer.unlink(missing_ok=True)
    root = str(Path(helpers.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "helpers.take_home.llama_library", str(job), str(answer)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    if not answer.is_file():
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["without a word"])[-1]
        raise EngineError(f"{name} stopped on {Path(asked['model']).name} (status {done.returncode}): {last}")
    return json.loads(answer.read_text(encoding="utf-8"))


def _described(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name.replace('_', '-'))}"
    except importlib.metadata.PackageNotFoundError:
        return name
