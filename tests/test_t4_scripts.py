"""The runs of profile t4 without a T4: stand-ins of the right size, a GPU held to a T4's limits, the table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import peft  # noqa: F401 (before a GPU is faked: accelerate looks for one while it is imported)
import pytest
import torch
from transformers import Qwen2ForCausalLM

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import as_t4  # noqa: E402 (a script)
import stand_ins  # noqa: E402
import t4_on_cpu  # noqa: E402
import t4_on_gpu  # noqa: E402

from helpers.machine.hardware import detect_runtime  # noqa: E402
from helpers.profiles import RunRequest, resolve_profile  # noqa: E402


@pytest.mark.parametrize(
    ("name", "published"),
    [("Qwen2.5-Coder-0.5B-Instruct", 494_032_768), ("Qwen2.5-Coder-1.5B", 1_543_714_304)],
)
def test_full_stand_ins_are_as_large_as_the_originals(name, published) -> None:
    ids = {"<|endoftext|>": 0, "<|im_end|>": 1}
    with torch.device("meta"):
        model = Qwen2ForCausalLM(stand_ins.causal_config(name, stand_ins.FULL, ids))
    assert sum(p.numel() for p in model.parameters()) == published


def test_the_small_run_changes_settings_that_exist() -> None:
    profile = resolve_profile(RunRequest("t4", changed_settings=t4_on_cpu.FEW))
    assert profile.name == "t4"
    assert not profile.is_full_run


@pytest.fixture
def large_gpu(monkeypatch):
    """A CUDA device of 80 GiB that is not there; what is set on it is written down."""
    seen: dict[str, object] = {}
    properties = SimpleNamespace(name="Large GPU", total_memory=80 * 2**30, multi_processor_count=100)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda place: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Large GPU")
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share: seen.update(share=share))
    for kernel in ("flash", "cudnn"):
        monkeypatch.setattr(
            torch.backends.cuda, f"enable_{kernel}_sdp", lambda on, kernel=kernel: seen.update({kernel: on})
        )
    monkeypatch.setattr("transformers.integrations.sdpa_attention.use_gqa_in_sdpa", lambda *a, **k: True)
    return seen


def test_a_larger_gpu_is_held_to_a_t4_and_decided_for_like_one(large_gpu) -> None:
    as_t4.pretend()
    assert large_gpu["share"] * 80 == pytest.approx(14.74, abs=1e-6)
    assert (large_gpu["flash"], large_gpu["cudnn"]) == (False, False)
    found = detect_runtime(deterministic=False)
    assert found.weight_dtype == torch.float16
    assert found.memory_gib == pytest.approx(14.74, abs=1e-6)
    assert torch.cuda.get_device_properties(0).multi_processor_count == 100
    assert "as a T4" in torch.cuda.get_device_name()


def test_without_a_gpu_one_sentence_says_so(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="no CUDA device"):
        t4_on_gpu.main(tmp_path, larger=False)
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_calls_it_before_anything_else(tmp_path) -> None:
    environment = os.environ | {"IPYTHONDIR": str(as_t4.startup_folder(tmp_path))}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [
        sys.executable,
        "-m",
        "IPython",
        "--no-banner",
        "-c",
        "import sys; print('as_t4' in sys.modules)",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True"
    assert "there is no CUDA device" in done.stdout + done.stderr


def test_what_was_measured_stands_beside_the_plan() -> None:
    def track(model, *stages, **more):
        return {
            "model": model,
            "cost": {
                "seconds_by_stage": dict.fromkeys(stages, 10.0),
                "memory_by_stage": {name: {"planned_gib": 2.0, "peak_gib": 2.5} for name in stages},
                **more,
            },
        }

    metrics = {
        "run": {
            "hardware": {"name": "GPU, as a T4", "memory_gib": 14.74, "precision": "float16"},
            "versions": {"torch": "2"}, "seconds": 90.0,
        },
        "track_a": track("a/0.5B", "before", "train", tokens_per_second=1234.5, lowered=["micro-batch 4 -> 2"]),
        "track_b": track("a/0.5B", "train", tokens_per_second=99.0, lowered=[]),
        "track_c": track("a/e5", "train"),
    }  # fmt: skip
    metrics["track_c"]["cost"]["seconds_by_stage"]["index_after"] = 3.0
    found = t4_on_gpu.measured(metrics)
    assert [row["stage"] for row in found["stages"]] == [
        "track_a/before", "track_a/train", "track_b/train", "track_c/train", "track_c/index_after",
    ]  # fmt: skip
    lines = t4_on_gpu.as_markdown(found).splitlines()
    assert lines[0].endswith(
        "1.5 minutes in all. Made smaller for want of memory: track_a: micro-batch 4 -> 2."
    )
    assert "0.5B, e5; GPU, as a T4, 14.74 GiB, float16" in lines[0]
    assert lines[4] == "| track_a/before | 2.00 | 2.50 | 10 |  |"
    assert lines[5] == "| track_a/train | 2.00 | 2.50 | 10 | 1,234 |"
    assert lines[-1] == "| track_c/index_after |  |  | 3 |  |"
