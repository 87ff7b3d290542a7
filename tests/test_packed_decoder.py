"""The hand-written step of packed documents has the loss and gradients of transformers' and PEFT's."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_models
import torch

from helpers.models.causal_lm import ModelError, add_lora
from helpers.models.packed_decoder import PackedDecoder, documents_of, is_covered
from helpers.models.structure import hidden_states, output_head, plain_model
from helpers.models.token_loss import IGNORED, frozen_head_loss, summed_token_loss
from helpers.settings import LoraSettings, SettingsError
from helpers.train.packing import collate_packed, pack_documents

LOW = LoraSettings(rank=1, alpha=4)  # so low that adapters are applied apart
FAMILIES = ("llama", "qwen2")  # grouped queries; biases


def adapted(family: str, lora: LoraSettings = LOW) -> torch.nn.Module:
    model = add_lora(tiny_models.model(family, 50), lora).train()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # at its start B is zero, and A would have no gradient
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        elif "norm" in name or name.endswith("bias"):  # ones and zeros would hide a mistake
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.3
    return model


def packed_batch(window: int = 24) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    documents = [torch.randint(2, 50, (n,), generator=generator).tolist() for n in (5, 9, 3, 40, 7)]
    return collate_packed(pack_documents(documents, window, pad_id=1))


def usual(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    hidden = hidden_states(model, batch["input_ids"], position_ids=batch["position_ids"])
    return summed_token_loss(output_head(model), hidden, batch["labels"])


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("queries", [256, 4])  # with 4, documents are longer than the pieces of attention
def test_loss_and_gradients_are_those_of_the_usual_layers(family, queries, monkeypatch):
    monkeypatch.setattr("helpers.models.packed_decoder.QUERIES_AT_ONCE", queries)
    monkeypatch.setattr("helpers.models.token_loss.MAX_FROZEN_LOGITS", 50 * 7)  # several pieces
    model, batch = adapted(family), packed_batch()
    assert is_covered(model)
    loss, count = usual(model, batch)
    wanted = gradients(model, loss)
    packed_loss, packed_count, fed = PackedDecoder(model, torch.float32).loss(**batch)
    found = gradients(model, packed_loss)
    assert packed_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert packed_count == count
    assert fed == 5 + 9 + 3 + 40 + 7 + 1  # the cut of the long document shares a token
    assert found.keys() == wanted.keys()
    assert len(found) == 2 * 2 * 7  # two factors of seven layers in two blocks
    assert max(relative(found[name], wanted[name]) for name in wanted) < 1e-4


def test_in_bfloat16_it_is_as_near_to_float32_as_autocast_is():
    model, batch = adapted("llama"), packed_batch()
    exact = gradients(model, usual(model, batch)[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = usual(model, batch)[0]
    rounded = gradients(model, loss)
    packed = gradients(model, PackedDecoder(model, torch.bfloat16).loss(**batch)[0])
    joined = [torch.cat([g[name].flatten() for name in exact]) for g in (exact, rounded, packed)]
    assert 0 < relative(joined[2], joined[0]) < 2 * relative(joined[1], joined[0])


def test_documents_do_not_see_each_other_and_padding_is_dropped():
    model, batch = adapted("qwen2"), packed_batch()
    decoder = PackedDecoder(model, torch.float32)
    together = decoder.loss(**batch)[0].item()
    apart = 0.0
    for row in range(len(batch["input_ids"])):
        positions = batch["position_ids"][row].tolist()
        firsts = [at for at, position in enumerate(positions) if position == 0]
        for first, last in zip(firsts, [*firsts[1:], len(positions)], strict=True):
            one = {name: values[row : row + 1, first:last] for name, values in batch.items()}
            apart += decoder.loss(**one)[0].item()
    assert together == pytest.approx(apart, rel=1e-5)
    documents, labels = documents_of(batch["input_ids"], batch["labels"], batch["position_ids"])
    assert (documents.ids != 1).all()
    assert (labels != IGNORED).sum() == (batch["labels"] != IGNORED).sum()


def test_adapters_in_the_upper_layers_alone_learn_the_same_and_the_lower_ones_run_once(monkeypatch):
    model, batch = adapted("llama", dataclasses.replace(LOW, layers=1)), packed_batch()
    wanted = gradients(model, usual(model, batch)[0])
    assert len(wanted) == 2 * 7
    assert all(".layers.1." in name for name in wanted)
    decoder = PackedDecoder(model, torch.float32)
    ran = []
    through = PackedDecoder._through

    def counted(self, layers, hidden, documents):
        ran.append((len(layers), len(hidden)))
        return through(self, layers, hidden, documents)

    monkeypatch.setattr(PackedDecoder, "_through", counted)
    half = {name: values[:2] for name, values in batch.items()}
    fed = decoder.loss(**half)[2]
    found = [gradients(model, decoder.loss(**batch)[0]) for _ in range(2)]
    whole = decoder.loss(**batch)[2]
    # The frozen layer runs for the first rows, then for the others, then for none.
    assert ran[:5] == [(1, fed), (1, fed), (1, whole - fed), (1, whole), (1, whole)]
    for gradient in found:
        assert max(relative(gradient[name], wanted[name]) for name in wanted) < 1e-4
    assert sum(kept.nbytes for kept in decoder.kept.values()) == whole * 16 * 4


def test_documents_that_no_room_is_left_for_are_computed_again(monkeypatch):
    monkeypatch.setattr("helpers.models.packed_decoder.KEPT_BYTES", 30 * 16 * 4)
    model, batch = adapted("llama", dataclasses.replace(LOW, layers=1)), packed_batch()
    decoder = PackedDecoder(model, torch.float32)
    losses = [decoder.loss(**batch)[0].item() for _ in range(3)]
    assert losses == pytest.approx([usual(model, batch)[0].item()] * 3, rel=1e-5)
    assert 0 < sum(map(len, decoder.kept.values())) <= 30


def test_more_adapted_layers_than_there_are_is_an_error():
    with pytest.raises(ModelError, match="has 2 layers"):
        adapted("llama", dataclasses.replace(LOW, layers=3))
    model = adapted("gpt2", dataclasses.replace(LOW, layers=1))
    assert len(gradients(model, usual(model, packed_batch())[0])) == 2 * 4  # GPT-2's names are others
    with pytest.raises(SettingsError, match=r"lora\.layers is -1"):
        LoraSettings(layers=-1)


def test_a_batch_without_targets_gives_zero_gradients():
    model, batch = adapted("llama"), packed_batch()
    batch["labels"][:] = IGNORED
    loss, count, fed = PackedDecoder(model, torch.float32).loss(**batch)
    assert (loss.item(), count, fed) == (0.0, 0, 0)
    assert all(not gradient.any() for gradient in gradients(model, loss).values())


def test_the_loss_of_a_frozen_head_is_the_usual_one_in_pieces_too(monkeypatch):
    monkeypatch.setattr("helpers.models.token_loss.MAX_FROZEN_LOGITS", 11 * 3)
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 11)
    labels = torch.randint(0, 11, (2, 9))
    labels[0, 3:6] = IGNORED
    results = []
    for compute in (
        lambda hidden: summed_token_loss(head, hidden, labels),
        lambda hidden: frozen_head_loss(hidden, labels, head.weight.detach(), head.bias.detach()),
    ):
        hidden = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(5), requires_grad=True)
        loss, count = compute(hidden)
        (3 * loss).backward()
        results.append((loss.item(), count, hidden.grad))
    assert results[0][:2] == pytest.approx(results[1][:2], rel=1e-5)
    assert torch.allclose(results[0][2], results[1][2], atol=1e-5)


def test_other_models_keep_the_usual_forms():
    assert not is_covered(tiny_models.model("llama", 50))  # no adapters
    assert not is_covered(adapted("llama", dataclasses.replace(LOW, rank=8)))  # added to the weights instead
    assert not is_covered(adapted("llama", dataclasses.replace(LOW, dropout=0.1)))
    assert not is_covered(adapted("gpt2"))
    trained = adapted("llama")
    plain_model(trained).base_model.layers[0].input_layernorm.weight.requires_grad_(True)
    assert not is_covered(trained)
    assert not is_covered(add_lora(tiny_models.model("llama", 50), LOW, tokens=[3, 4]))
