"""A larger CUDA GPU made to look and behave like a Colab T4, for this process.

What a T4 has and this imitates: 14.74 GiB of memory (the allocator refuses more), compute capability 7.5
(float16 instead of bfloat16, no grouped-query attention inside SDPA), no flash attention. What it cannot
imitate is the speed: times measured this way are those of the GPU at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

MEMORY_BYTES = int(14.74 * 2**30)
CAPABILITY = (7, 5)
# What a notebook kernel runs when it starts, where IPYTHONDIR names a folder with it.
STARTUP = "import sys\nsys.path.insert(0, {scripts!r})\nimport as_t4\nas_t4.pretend()\n"


class _Capped:
    """A device's properties with a T4's memory and capability."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.total_memory, (self.major, self.minor) = MEMORY_BYTES, CAPABILITY
        self.name = f"{real.name}, as a T4"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def pretend() -> None:
    """Cap memory, switch flash kernels off, and answer a T4's facts from here on.

    Raises:
        RuntimeError: without a CUDA device, or with one that has less memory than a T4.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("there is no CUDA device to take for a T4")
    properties = torch.cuda.get_device_properties
    total = properties(0).total_memory
    if total < MEMORY_BYTES:
        raise RuntimeError(f"{properties(0).name} has less memory than a T4")
    torch.cuda.set_per_process_memory_fraction(MEMORY_BYTES / total)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.cuda.get_device_capability = lambda device=None: CAPABILITY
    torch.cuda.get_device_properties = lambda device=None: _Capped(properties(device or 0))
    torch.cuda.get_device_name = lambda device=None: _Capped(properties(device or 0)).name


def startup_folder(folder: Path) -> Path:
    """Write a value for IPYTHONDIR whose kernels call `pretend` before anything else."""
    startup = folder / "profile_default" / "startup" / "00-as-t4.py"
    startup.parent.mkdir(parents=True, exist_ok=True)
    startup.write_text(STARTUP.format(scripts=str(Path(__file__).resolve().parent)), encoding="utf-8")
    return folder
