"""Hardware decisions, with the hardware faked: a T4 must get what a T4 needs."""

from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace

import pytest
import torch

from helpers import runtime


@pytest.fixture
def fake_gpu(monkeypatch):
    def install(capability: tuple[int, int], gib: float, name: str) -> None:
        from transformers.integrations import sdpa_attention

        properties = SimpleNamespace(name=name, total_memory=int(gib * 2**30))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: capability)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *a: properties)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)  # as a T4 claims
        monkeypatch.setattr(sdpa_attention, "use_gqa_in_sdpa", lambda *a, **k: True)

    return install


def test_t4_gets_float16_and_no_gqa_inside_sdpa(fake_gpu) -> None:
    from transformers.integrations import sdpa_attention

    fake_gpu((7, 5), 14.74, "Tesla T4")
    found = runtime.detect_runtime(deterministic=False)
    assert found.weight_dtype == found.autocast_dtype == torch.float16
    assert sdpa_attention.use_gqa_in_sdpa(None, None) is False
    assert {d.name for d in found.decisions} >= {"device", "precision", "attention"}
    assert all(d.reason for d in found.decisions)


def test_ampere_gets_bfloat16_and_keeps_gqa(fake_gpu) -> None:
    from transformers.integrations import sdpa_attention

    fake_gpu((8, 0), 39.5, "A100")
    found = runtime.detect_runtime(deterministic=False)
    assert found.weight_dtype == torch.bfloat16
    assert sdpa_attention.use_gqa_in_sdpa(None, None) is True


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, None)])
def test_cpu_autocasts_only_where_the_instructions_exist(monkeypatch, has_bf16, expected) -> None:
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
