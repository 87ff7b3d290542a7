"""Hardware decisions on fake hardware: a T4 must get what a T4 needs."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from types import SimpleNamespace

import peft  # noqa: F401 (before a GPU is faked: accelerate looks for one while it is imported)
import pytest
import torch

from helpers.machine import hardware as runtime


@pytest.fixture
def fake_gpu(monkeypatch):
    """Fake a CUDA device; `install` returns the list of devices that were chosen."""
    used: list[int] = []

    def install(capability: tuple[int, int], gib: float, name: str) -> list[int]:
        from transformers.integrations import sdpa_attention

        properties = SimpleNamespace(name=name, total_memory=int(gib * 2**30))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "set_device", lambda place: used.append(place))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: capability)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *a: properties)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)  # as a T4 claims
        monkeypatch.setattr(sdpa_attention, "use_gqa_in_sdpa", lambda *a, **k: True)
        return used

    return install


def test_t4_gets_float16_and_no_gqa_inside_sdpa(fake_gpu) -> None:
    from transformers.integrations import sdpa_attention

    fake_gpu((7, 5), 14.74, "Tesla T4")
    found = runtime.detect_runtime(deterministic=False)
    assert found.weight_dtype == found.autocast_dtype == torch.float16
    assert sdpa_attention.use_gqa_in_sdpa(None, None) is False
    assert {d.name for d in found.decisions} >= {"device", "precision", "attention"}
    assert all(d.reason for d in found.decisions)


def test_every_t4_workaround_has_a_line_in_the_runtime_check(fake_gpu, monkeypatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda n: "0.10.0" if n == "torchao" else real(n))
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    fake_gpu((7, 5), 14.74, "Tesla T4")
    lines = {d.name: d for d in runtime.detect_runtime(deterministic=False, nf4=True).decisions}
    assert lines["device"].reason == "Tesla T4, 14.74 GiB, sm75"
    assert lines["precision"].value == "float16"
    assert "float32" in lines["adapters"].value
    assert "NaN" in lines["adapters"].reason
    assert "repeated" in lines["attention"].value
    assert lines["frozen weights"].value == "NF4"
    assert lines["torchao"].value == "0.10.0 ignored"
    assert set(lines) >= {"loss", "out of memory", "progress", "hub token"}


def test_each_local_rank_uses_its_own_gpu(fake_gpu, monkeypatch) -> None:
    used = fake_gpu((7, 5), 14.74, "Tesla T4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    runtime.detect_runtime(deterministic=False)
    assert used == [1]


def test_key_value_heads_are_repeated_before_attention_on_a_t4(fake_gpu, monkeypatch) -> None:
    import tiny_models

    real, seen = torch.nn.functional.scaled_dot_product_attention, []

    def record(query, key, value, **options):
        seen.append((options.get("enable_gqa", False), query.shape[1] == key.shape[1]))
        return real(query, key, value, **options)

    fake_gpu((7, 5), 14.74, "Tesla T4")
    runtime.detect_runtime(deterministic=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    tiny_models.model("qwen2", 50)(torch.arange(8)[None])
    assert seen
    assert set(seen) == {(False, True)}


def test_four_bit_products_are_float16_on_a_t4(fake_gpu) -> None:
    from helpers.models.causal_lm import _nf4

    fake_gpu((7, 5), 14.74, "Tesla T4")
    assert _nf4(runtime.detect_runtime(deterministic=False, nf4=True)).bnb_4bit_compute_dtype == torch.float16


def test_a_checkpoint_in_bfloat16_is_loaded_as_float16_with_float32_adapters(fake_gpu, tmp_path) -> None:
    """`from_pretrained` would keep the checkpoint's bfloat16, which a T4 only emulates."""
    import dataclasses
    import json

    import tiny_models

    from helpers.models.causal_lm import add_lora, load_causal_lm
    from helpers.settings import LoraSettings

    folder = tiny_models.save(tmp_path / "m", "qwen2")
    tiny_models.model("qwen2", 300).to(torch.bfloat16).save_pretrained(folder)
    assert "bfloat16" in json.dumps(json.loads((folder / "config.json").read_text()))
    fake_gpu((7, 5), 14.74, "Tesla T4")
    t4 = runtime.detect_runtime(deterministic=False)
    model, _ = load_causal_lm(str(folder), dataclasses.replace(t4, device=torch.device("cpu")))
    assert model.dtype == torch.float16
    adapted = add_lora(model, LoraSettings(rank=2, alpha=2))
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}


def test_colabs_secret_store_is_not_asked_but_hf_token_is_used(monkeypatch) -> None:
    import sys

    from huggingface_hub import get_token
    from huggingface_hub.utils import _auth

    monkeypatch.setattr(_auth, "_get_token_from_google_colab", lambda: pytest.fail("the store was asked"))
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    runtime.detect_runtime(deterministic=False)
    get_token()
    monkeypatch.setenv("HF_TOKEN", "hf_own")
    assert get_token() == "hf_own"


def test_ampere_gets_bfloat16_and_keeps_gqa(fake_gpu) -> None:
    from transformers.integrations import sdpa_attention

    fake_gpu((8, 0), 39.5, "A100")
    found = runtime.detect_runtime(deterministic=False)
    assert found.weight_dtype == torch.bfloat16
    assert sdpa_attention.use_gqa_in_sdpa(None, None) is True


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, None)])
def test_cpu_autocasts_only_with_bfloat16_instructions(monkeypatch, has_bf16, expected) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: has_bf16)
    found = runtime.detect_runtime(deterministic=False)
    assert found.weight_dtype == torch.float32
    assert found.autocast_dtype is expected
    with found.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (expected or torch.float32)


def test_old_torchao_is_hidden_from_peft(monkeypatch) -> None:
    """A preinstalled torchao 0.10 makes PEFT raise ImportError on plain LoRA."""
    import peft.import_utils
    import peft.tuners.lora.torchao as lora_torchao

    def raises() -> bool:
        raise ImportError("Found an incompatible version of torchao")

    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.10.0" if name == "torchao" else real(name)
    )
    monkeypatch.setattr(peft.import_utils, "is_torchao_available", raises)
    monkeypatch.setattr(lora_torchao, "is_torchao_available", raises)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = runtime.detect_runtime(deterministic=False)
    assert lora_torchao.is_torchao_available() is False
    assert any(d.name == "torchao" and "0.10.0" in d.value for d in found.decisions)


def test_facts_carry_no_host_name_and_no_path() -> None:
    import platform

    facts = runtime.hardware_facts(runtime.detect_runtime(deterministic=False))
    text = " ".join(map(str, facts.values()))
    assert "/" not in text.replace(" / ", "")
    assert platform.node() not in text or not platform.node()
    assert facts["cores"] >= 1


def test_versions_name_python_and_torch() -> None:
    versions = runtime.package_versions()
    assert versions["torch"] == importlib.metadata.version("torch")
    assert set(versions) >= {"python", "transformers", "peft"}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_reused_without_the_kernel() -> None:
    script = """
import resource, sys, torch
torch.set_num_threads(1)
from helpers.machine import hardware as runtime
if sys.argv[1] == "kept":
    assert runtime._keep_freed_memory()
layer = torch.nn.Linear(64, 8192)
def step():
    logits = layer(torch.ones(2048, 64))  # 64 MiB
    torch.nn.functional.cross_entropy(logits, torch.zeros(2048, dtype=torch.long)).backward()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def page_faults(how: str) -> int:
        run = [sys.executable, "-c", script, how]
        return int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)

    assert page_faults("kept") * 2 < page_faults("default")


def test_loading_and_saving_draw_no_bars_but_downloads_may() -> None:
    said = _stderr_of(
        "from pathlib import Path; import tempfile\n"
        "from helpers.machine.hardware import detect_runtime\n"
        "from helpers.models.causal_lm import load_causal_lm\n"
        "from helpers.settings import TINY_CODE_LM\n"
        "model = load_causal_lm(TINY_CODE_LM, detect_runtime())[0]\n"
        "with tempfile.TemporaryDirectory() as folder: model.save_pretrained(folder)\n"
        "from huggingface_hub.utils import are_progress_bars_disabled\n"
        "assert not are_progress_bars_disabled()"
    )
    assert said == ""


def test_no_library_asks_for_widgets() -> None:
    assert _stderr_of("import helpers, warnings; warnings.warn('IProgress not found. Please update')") == ""
    assert "else" in _stderr_of("import helpers, warnings; warnings.warn('something else')")


def _stderr_of(code: str) -> str:
    """Return what a fresh interpreter writes to stderr; it must succeed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr
