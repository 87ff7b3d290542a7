"""Hardware facts turned into decisions, each with its reason.

`detect_runtime` inspects the machine once, decides on device, precision and attention, and applies the
work-arounds that a free T4 needs. Every decision is a `Decision(name, value, reason)`; the notebook
prints them.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from helpers.machine.usage import GIB, available_memory_gib

BF16_CAPABILITY = (8, 0)  # below it bfloat16 is emulated, even if torch's own query says otherwise
CPU_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # x86, x86, Arm, as the kernel spells them
Decide = Callable[[str, object, str], None]  # records one decision: name, value, reason
REPORTED_PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "sentence-transformers", "faiss-cpu",
    "bitsandbytes", "datasets", "networkx", "numpy", "ruff", "bm25s", "datasketch",
)  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """One decision about this machine, and the reason for it."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Runtime:
    """What the hardware allows. `autocast_dtype` is None if training runs in plain float32."""

    device: torch.device
    weight_dtype: torch.dtype  # dtype of the frozen weights
    autocast_dtype: torch.dtype | None
    attention: str  # value for `attn_implementation`
    memory_gib: float  # of the accelerator, or of the host if there is none
    decisions: tuple[Decision, ...]
    nf4: bool = False  # frozen weights of causal LMs in 4-bit NormalFloat (Dettmers et al. 2023)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the autocast region for forward and backward passes; a no-op without mixed precision."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices in hardware (Linux only; False elsewhere)."""
    try:
        with open("/proc/cpuinfo") as stream:
            flags = next((line for line in stream if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return not set(CPU_BF16_FLAGS).isdisjoint(flags.split())


def can_compile(device: torch.device) -> bool:
    """Return whether `torch.compile` finds what it needs: a C++ compiler for a CPU, Triton for a GPU."""
    if device.type == "cpu":
        return shutil.which(os.environ.get("CXX", "g++")) is not None
    return importlib.util.find_spec("triton") is not None


def detect_runtime(*, deterministic: bool = True, nf4: bool = False) -> Runtime:
    """Inspect the machine once and decide how to run on it.

    Args:
        deterministic: ask torch for deterministic kernels; where an operation has none, it only warns.
        nf4: hold the frozen weights of causal LMs in 4 bits; slower, and only worth it above 1.5B.
    """
    decisions: list[Decision] = []

    def decide(name: str, value: object, reason: str) -> None:
        decisions.append(Decision(name, str(value), reason))

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # avoids a deadlock in later forks
    found = _decide_cuda(decide) if torch.cuda.is_available() else _decide_cpu(decide)
    if deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, finds only bugs
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        decide("determinism", "on", "the same seed on the same machine gives the same figures")
    if nf4:
        decide("frozen weights", "NF4", "requested: a quarter of the memory, but slower")
    decide(
        "loss", "in pieces, at answer positions only",
        "the logits of four windows over 150,000 tokens of vocabulary take 2.3 GiB per copy",
    )  # fmt: skip
    decide(
        "out of memory", "halve the batch, recompute activations, NF4",
        "in this order; accumulation keeps the examples per step; history.json records what was done",
    )  # fmt: skip
    _hide_library_bars()
    decide(
        "progress", "plain text; only downloads have a library's bar",
        "the widget metadata of hosted notebooks breaks their export",
    )  # fmt: skip
    _disable_old_torchao(decide)
    _leave_secret_store_alone(decide)
    return replace(found, decisions=tuple(decisions), nf4=nf4)


def _decide_cuda(decide: Decide) -> Runtime:
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))  # set by `accelerate launch`
    torch.cuda.set_device(local_rank)
    capability = torch.cuda.get_device_capability()
    properties = torch.cuda.get_device_properties(local_rank)
    memory = properties.total_memory / GIB
    decide("device", "cuda", f"{properties.name}, {memory:.2f} GiB, sm{capability[0]}{capability[1]}")
    if capability >= BF16_CAPABILITY:
        dtype = torch.bfloat16
        decide("precision", "bfloat16", "the compute capability is at least 8.0")
        decide("attention", "sdpa", "torch has fused kernels for it")
    else:
        from transformers.integrations import sdpa_attention

        sdpa_attention.use_gqa_in_sdpa = lambda *args, **kwargs: False  # transformers #48633
        dtype = torch.float16
        decide("precision", "float16", "below compute capability 8.0, bfloat16 is only emulated")
        decide(
            "adapters", "float32, loss scaled",
            "float16 gradients cannot be unscaled; if the loss becomes NaN, training restarts in float32",
        )  # fmt: skip
        decide(
            "attention", "sdpa, key-value heads repeated",
            "below sm80 there is no FlashAttention-2, and SDPA with grouped queries uses its slow kernel",
        )  # fmt: skip
    return Runtime(torch.device("cuda"), dtype, dtype, "sdpa", memory, ())


def _decide_cpu(decide: Decide) -> Runtime:
    memory = available_memory_gib()
    decide("device", "cpu", f"no CUDA device; {torch.get_num_threads()} threads, {memory:.1f} GiB")
    autocast = torch.bfloat16 if cpu_has_bf16() else None
    if autocast:
        decide("precision", "float32 weights, bfloat16 autocast", "the CPU multiplies bfloat16 in hardware")
    else:
        decide("precision", "float32", "the CPU has no bfloat16 instructions")
    decide("attention", "sdpa", "torch has fused kernels for it")
    if _keep_freed_memory():
        decide("freed memory", "kept", "requesting it from the kernel at every step costs 1/6 of the time")
    return Runtime(torch.device("cpu"), torch.float32, autocast, "sdpa", memory, ())


def _keep_freed_memory() -> bool:
    """Make glibc keep large freed blocks, which the kernel would zero again; return whether it does."""
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(M_MMAP_MAX, 0)) and bool(library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False


def _hide_library_bars() -> None:
    """Hide transformers' bars for loading and saving: some sixty in a run, and widgets in Colab.

    Its switch also turns off the hub's bars for downloads, which last longest and so stay.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    downloads_hidden = are_progress_bars_disabled()  # as a person asked for, by HF_HUB_DISABLE_PROGRESS_BARS
    transformers_logging.disable_progress_bar()
    if not downloads_hidden:
        enable_progress_bars()


def _disable_old_torchao(decide: Decide) -> None:
    """Hide a preinstalled torchao that is too old for PEFT, which would raise on plain LoRA.

    PEFT calls `is_torchao_available`, which raises ImportError for versions below 0.16
    (unslothai/notebooks #258). Nothing here quantises with torchao, so the answer becomes False.
    """
    try:
        version = importlib.metadata.version("torchao")
    except importlib.metadata.PackageNotFoundError:
        return
    import peft.import_utils
    import peft.tuners.lora.torchao as lora_torchao

    for module in (peft.import_utils, lora_torchao):
        module.is_torchao_available = lambda: False
    decide("torchao", f"{version} ignored", "PEFT rejects old versions, and nothing here needs it")


def _leave_secret_store_alone(decide: Decide) -> None:
    """Keep the hub client out of Colab's secret store, which blocks for 10 s outside Colab's own page."""
    if "google.colab" not in sys.modules:
        return
    from huggingface_hub.utils import _auth

    if hasattr(_auth, "_get_token_from_google_colab"):
        _auth._get_token_from_google_colab = lambda: None
        decide("hub token", "only HF_TOKEN or a login", "Colab's secret store can block for 10 seconds")


def set_seed(seed: int) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the figures depend on."""
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def hardware_facts(runtime: Runtime) -> dict[str, str | int | float]:
    """Return device, cores and memory for `metrics.json`, without host name or paths."""
    name = platform.processor() or platform.machine()
    if runtime.device.type == "cuda":
        name = torch.cuda.get_device_name()
    else:
        with contextlib.suppress(OSError), open("/proc/cpuinfo") as stream:
            name = next((x.split(":", 1)[1].strip() for x in stream if x.startswith("model name")), name)
    return {
        "device": runtime.device.type,
        "name": name,
        "cores": os.cpu_count() or 1,
        "memory_gib": round(runtime.memory_gib, 2),
        "precision": next(d.value for d in runtime.decisions if d.name == "precision"),
    }
