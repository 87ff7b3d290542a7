"""Hardware facts turned into decisions, each kept with its reason.

`detect_runtime` looks once, decides device, precision, attention and batch scale, and applies the
work-arounds that a free T4 needs. Every decision is a `Decision(name, value, reason)`; the
notebook prints them, `metrics.json` carries them.
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
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

GIB = 2**30
BF16_CAPABILITY = (8, 0)  # below it bfloat16 is emulated, whatever torch's own query answers
CPU_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # x86, x86, Arm as the kernel spells them
REPORTED_PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "sentence-transformers", "faiss-cpu",
    "bitsandbytes", "datasets", "networkx", "numpy", "libcst", "ruff", "bm25s", "datasketch",
)  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """One thing decided about this machine, and why."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Runtime:
    """What the hardware allows. `autocast_dtype` is None where training runs in plain float32."""

    device: torch.device
    weight_dtype: torch.dtype  # dtype the frozen weights are held in
    autocast_dtype: torch.dtype | None
    attention: str  # value for `attn_implementation`
    memory_gib: float  # of the accelerator, or of the host where there is none
    decisions: tuple[Decision, ...]
    nf4: bool = False  # frozen weights of causal LMs in 4-bit NormalFloat (Dettmers et al. 2023)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Autocast region for forward and backward passes; a no-op without mixed precision."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (Linux; elsewhere False)."""
    try:
        with open("/proc/cpuinfo") as stream:
            flags = next((line for line in stream if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    words = set(flags.split())
    return any(flag in words for flag in CPU_BF16_FLAGS)


def can_compile(device: torch.device) -> bool:
    """Whether `torch.compile` finds what it needs: a C++ compiler for a CPU, Triton for a GPU."""
    if device.type == "cpu":
        return shutil.which(os.environ.get("CXX", "g++")) is not None
    return importlib.util.find_spec("triton") is not None


def available_memory_gib() -> float:
    """Host memory this process may use: the smaller of the machine's and the cgroup's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max") as stream:
            limit = stream.read().strip()
        if limit.isdigit():
            total = min(total, int(limit))
    except OSError:
        pass
    return total / GIB


def detect_runtime(*, deterministic: bool = True, nf4: bool = False) -> Runtime:
    """Inspect the machine once and decide.

    Args:
        deterministic: ask torch for deterministic kernels where it has them (it warns, and goes
            on, where an operation has none).
        nf4: hold the frozen weights of causal LMs in 4 bits; slower, and worth it above 1.5B only.
    """
    decisions: list[Decision] = []

    def decide(name: str, value: object, reason: str) -> None:
        decisions.append(Decision(name, str(value), reason))

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forks follow; avoids a deadlock
    if torch.cuda.is_available():
        runtime = _decide_cuda(decide)
    else:
        runtime = _decide_cpu(decide)
    if deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, finds only bugs
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        decide("determinism", "on", "same seed and machine give the same figures")
    if nf4:
        decide("frozen weights", "NF4", "asked for: a quarter of the memory, slower")
    decide(
        "loss", "in pieces, answer positions alone",
        "logits of four windows over 150,000 words are 2.3 GiB a copy",
    )  # fmt: skip
    decide(
        "out of memory", "halve the batch, recompute activations, NF4",
        "in this order; accumulation keeps the step's examples; history.json tells what was done",
    )  # fmt: skip
    decide("progress", "plain text", "widget metadata of hosted notebooks breaks their export")
    _disable_old_torchao(decide)
    _leave_secret_store_alone(decide)
    device, weight_dtype, autocast_dtype, attention, memory = runtime
    return Runtime(device, weight_dtype, autocast_dtype, attention, memory, tuple(decisions), nf4)


def _decide_cuda(decide) -> tuple[torch.device, torch.dtype, torch.dtype, str, float]:
    place = int(os.environ.get("LOCAL_RANK", "0"))  # of this process among those of `accelerate launch`
    torch.cuda.set_device(place)
    capability = torch.cuda.get_device_capability()
    properties = torch.cuda.get_device_properties(place)
    memory = properties.total_memory / GIB
    decide("device", "cuda", f"{properties.name}, {memory:.2f} GiB, sm{capability[0]}{capability[1]}")
    if capability >= BF16_CAPABILITY:
        dtype = torch.bfloat16
        decide("precision", "bfloat16", "compute capability is at least 8.0")
    else:
        dtype = torch.float16
        decide("precision", "float16", "below compute capability 8.0 bfloat16 is only emulated")
        decide(
            "adapters", "float32, loss scaled",
            "float16 gradients cannot be unscaled; a loss that is NaN starts the training again in float32",
        )  # fmt: skip
    if capability < BF16_CAPABILITY:
        _refuse_gqa_in_sdpa()
        decide(
            "attention", "sdpa, key-value heads repeated",
            "below sm80 there is no flash-attention 2, and SDPA with grouped queries takes its slow kernel",
        )  # fmt: skip
    else:
        decide("attention", "sdpa", "fused kernels of torch")
    return torch.device("cuda"), dtype, dtype, "sdpa", memory


def _decide_cpu(decide) -> tuple[torch.device, torch.dtype, torch.dtype | None, str, float]:
    memory = available_memory_gib()
    threads = torch.get_num_threads()
    decide("device", "cpu", f"no CUDA device; {threads} threads, {memory:.1f} GiB")
    if cpu_has_bf16():
        autocast: torch.dtype | None = torch.bfloat16
        decide("precision", "float32 weights, bfloat16 autocast", "the CPU multiplies bfloat16")
    else:
        autocast = None
        decide("precision", "float32", "the CPU has no bfloat16 instructions")
    decide("attention", "sdpa", "fused kernels of torch")
    if _keep_freed_memory():
        decide(
            "freed memory", "kept", "asking the kernel for it again at every step costs a sixth of the time"
        )
    return torch.device("cpu"), torch.float32, autocast, "sdpa", memory


def _keep_freed_memory() -> bool:
    """Have glibc keep large freed blocks: by default each goes back to the kernel, which zeroes it anew.

    Returns:
        Whether that could be set; elsewhere than on glibc nothing is changed.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(M_MMAP_MAX, 0)) and bool(library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False


def _refuse_gqa_in_sdpa() -> None:
    """Make transformers repeat key-value heads itself (transformers #48633)."""
    from transformers.integrations import sdpa_attention

    sdpa_attention.use_gqa_in_sdpa = lambda *args, **kwargs: False


def _disable_old_torchao(decide) -> None:
    """Hide a preinstalled torchao that is too old for PEFT, which would raise on plain LoRA.

    PEFT asks `is_torchao_available`, which raises ImportError for versions below 0.16
    (unslothai/notebooks #258). No quantisation by torchao is used here, so it is answered "no".
    """
    try:
        version = importlib.metadata.version("torchao")
    except importlib.metadata.PackageNotFoundError:
        return
    import peft.import_utils
    import peft.tuners.lora.torchao as lora_torchao

    for module in (peft.import_utils, lora_torchao):
        module.is_torchao_available = lambda: False
    decide("torchao", f"{version} ignored", "PEFT refuses old versions; nothing here needs it")


def _leave_secret_store_alone(decide) -> None:
    """Have no token looked for in Colab's secret store: outside its own page that blocks for 10 s.

    No model here needs a token; `HF_TOKEN` and a login are still honoured.
    """
    if "google.colab" not in sys.modules:
        return
    from huggingface_hub.utils import _auth

    if hasattr(_auth, "_get_token_from_google_colab"):
        _auth._get_token_from_google_colab = lambda: None
        decide("hub token", "HF_TOKEN or a login alone", "Colab's secret store can block for 10 seconds")


def set_seed(seed: int) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def package_versions() -> dict[str, str]:
    """Versions of the packages whose behaviour the figures depend on, plus Python's."""
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def hardware_facts(runtime: Runtime) -> dict[str, str | int | float]:
    """Device, cores and memory for `metrics.json`; no host name, no path."""
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


def peak_memory_gib() -> float:
    """Peak memory in GiB since the last reset: of the accelerator, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    own = _own_memory_gib("VmHWM")
    if own is not None:
        return own
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (GIB if sys.platform == "darwin" else 2**20)


def held_memory_gib() -> float:
    """Memory held now, in GiB: of the accelerator, else of this process (0 where that is not told)."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / GIB
    return _own_memory_gib("VmRSS") or 0.0


def reset_peak_memory() -> None:
    """Let `peak_memory_gib` start from what is held now, where the system can do that."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))


def _own_memory_gib(field: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(f"{field}:")), None)
    return None if found is None else int(found) / 2**20


def free_memory() -> None:
    """Give back what a finished track held; call after deleting its models."""
    import gc

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Measure wall-clock seconds: `with stopwatch() as took: ...; took["seconds"]`."""
    took: dict[str, float] = {}
    start = time.perf_counter()
    try:
        yield took
    finally:
        took["seconds"] = time.perf_counter() - start
