import dataclasses
import json
import math
import shutil

import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler

from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import can_compile
from helpers.models.causal_lm import add_lora, load_adapted, load_causal_lm
from helpers.models.structure import hidden_states, output_head
from helpers.models.token_loss import summed_token_loss
from helpers.settings import LoraSettings, TrackASettings
from helpers.train import continued_pretraining as language_model
from helpers.train.continued_pretraining import train_language_model
from helpers.train.fallbacks import NonFiniteLossError, TrainingError
from helpers.train.packing import collate_packed, pack_texts
from helpers.train.shrinking import SCALES
from helpers.train.trainer import Hyperparameters, TokenTrainer, TrainingData, batch_shape, run_training

RUNTIME = tiny_models.CPU_FP32
TRAIN = [f"def function_{i}(value):\n    return value + {i}\n\n\n" * 6 for i in range(8)]
VALIDATION = ["def function_9(value):\n    return value + 9\n\n\n" * 4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.save(tmp_path_factory.mktemp("model"), "qwen2")


def settings(folder, **changes):
    values = TrackASettings(
        model=str(folder), window=32, stride=16, train_tokens=0, validation_tokens=0, test_tokens=0, epochs=2,
        learning_rate=1e-2, batch_sequences=8, warmup_fraction=0.1, lora=LoraSettings(rank=4, alpha=8),
        rehearsal_share=0.0, keep_gain=1.0,
    )  # fmt: skip
    return dataclasses.replace(values, **changes)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    return out, train_language_model(settings(folder), TRAIN, VALIDATION, RUNTIME, seed=5, out_dir=out)


def test_training_helps_and_what_was_measured_is_what_was_saved(folder, trained):
    out, history = trained
    base, tok = load_causal_lm(str(folder), RUNTIME)
    before = evaluate_perplexity(base, tok, VALIDATION, window=32, stride=32).bits_per_byte
    adapted, _ = load_adapted(str(folder), out / "adapter", RUNTIME)
    after = evaluate_perplexity(adapted, tok, VALIDATION, window=32, stride=32).bits_per_byte
    assert history.validation[0] == pytest.approx(before, rel=1e-6)
    assert after == pytest.approx(history.best_validation, rel=1e-6)
    assert after < before * 0.95


def test_history_is_whole_and_nothing_else_is_left(trained):
    out, history = trained
    assert sorted(p.name for p in out.iterdir()) == ["adapter", "history.json"]
    stored = json.loads((out / "history.json").read_text())
    assert stored["train_loss"] == list(history.train_loss)
    assert len(history.steps) == history.steps[-1] == len(history.train_loss)
    assert history.validation_steps[0] == 0
    assert history.validation_steps[-1] == history.steps[-1]
    assert 0.5 < history.useful_share <= 1
    assert history.tokens_per_second > 0
    assert history.learning_rate[-1] < max(history.learning_rate)


def test_same_seed_same_adapter(folder, trained, tmp_path):
    again = train_language_model(settings(folder), TRAIN, VALIDATION, RUNTIME, seed=5, out_dir=tmp_path)
    assert again.train_loss == trained[1].train_loss
    first, second = (load_file(p / "adapter/adapter_model.safetensors") for p in (trained[0], tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("worth", "compiled"), [(10**9, False), (1, True)])
def test_only_trainings_of_enough_tokens_are_compiled(folder, tmp_path, monkeypatch, worth, compiled):
    monkeypatch.setattr(torch, "compile", lambda forward, dynamic: forward)
    monkeypatch.setattr(language_model, "can_compile", lambda device: True)
    monkeypatch.setattr(language_model, "TOKENS_WORTH_COMPILING", worth)
    history = train_language_model(settings(folder), TRAIN, VALIDATION, RUNTIME, seed=5, out_dir=tmp_path)
    assert history.compiled is compiled
    assert (tmp_path / "adapter").is_dir()


class Killed(BaseException):
    pass


def run(folder, out, *, die_at=None, validate=None, **changes):
    """Call `run_training`, and die at validation number `die_at`."""
    base, tok = load_causal_lm(str(folder), RUNTIME)
    model = add_lora(base, LoraSettings(rank=4, alpha=8), seed=1)
    rows = pack_texts(TRAIN, tok, 32)
    calls = []

    def bits_per_byte(candidate):
        calls.append(1)
        if die_at is not None and len(calls) == die_at:
            raise Killed
        return evaluate_perplexity(candidate, tok, VALIDATION, window=32, stride=32).bits_per_byte

    usual = {
        "epochs": 2, "learning_rate": 1e-2, "batch_sequences": 8, "micro_batch": 4, "warmup_fraction": 0.1,
        "seed": 3, "validations_per_epoch": 2,
    }  # fmt: skip
    data = TrainingData(rows, collate_packed, validate or bits_per_byte)
    return run_training(model, tok, data, Hyperparameters(**usual | changes), RUNTIME, out)


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    return run(folder, tmp_path_factory.mktemp("whole"))


def test_a_killed_run_resumes(folder, uninterrupted, tmp_path):
    with pytest.raises(Killed):
        run(folder, tmp_path, die_at=4)
    assert (tmp_path / "checkpoints").is_dir()
    resumed = run(folder, tmp_path)
    assert resumed.resumed_from_step > 0
    assert resumed.train_loss == uninterrupted.train_loss
    assert resumed.validation == uninterrupted.validation
    assert resumed.best_step == uninterrupted.best_step
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    "damage", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"]
)
def test_a_damaged_checkpoint_is_passed_over(folder, uninterrupted, tmp_path, damage):
    with pytest.raises(Killed):
        run(folder, tmp_path, die_at=4)
    newest = max((tmp_path / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    file = newest / damage
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    resumed = run(folder, tmp_path)
    assert resumed.resumed_from_step < int(newest.name.split("-")[1])
    assert resumed.train_loss == uninterrupted.train_loss


def test_checkpoints_of_other_settings_are_not_taken(folder, tmp_path):
    with pytest.raises(Killed):
        run(folder, tmp_path, die_at=4)
    other = run(folder, tmp_path, learning_rate=5e-3)
    assert other.resumed_from_step == 0


def test_accumulation_weighs_tokens_not_micro_batches(folder, uninterrupted, tmp_path):
    """One pass over eight rows and eight passes over one are the same step, though targets per row differ."""
    single = run(folder, tmp_path / "one", micro_batch=1)
    whole = run(folder, tmp_path / "eight", micro_batch=8)
    assert single.train_loss == pytest.approx(whole.train_loss, rel=1e-4)
    assert single.validation == pytest.approx(whole.validation, rel=1e-4)


def test_training_loss_is_nats_per_target(folder, tmp_path):
    history = run(folder, tmp_path, epochs=1, batch_sequences=1000, micro_batch=3)
    base, tok = load_causal_lm(str(folder), RUNTIME)
    batch = collate_packed(pack_texts(TRAIN, tok, 32))
    with torch.no_grad():
        total, count = summed_token_loss(
            output_head(base), hidden_states(base, batch["input_ids"], position_ids=batch["position_ids"]), batch["labels"]
        )  # fmt: skip
    assert len(history.train_loss) == 1
    assert history.train_loss[0] == pytest.approx(total.item() / count, rel=1e-3)


def test_loss_in_pieces_equals_transformers_own():
    model = tiny_models.model("llama", 50)
    ids = torch.randint(0, 50, (3, 20), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :4] = -100
    labels[2, 10:] = -100
    own = model(input_ids=ids, labels=labels).loss
    own.backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    for pieces in (2**20, 50 * 7, 50):
        model.zero_grad()
        total, count = summed_token_loss(
            output_head(model), hidden_states(model, ids), labels, max_logits=pieces
        )
        (total / count).backward()
        assert count == int((labels[:, 1:] != -100).sum())
        assert (total / count).item() == pytest.approx(own.item(), rel=1e-5)
        for parameter, gradient in zip(model.parameters(), wanted, strict=True):
            assert torch.allclose(parameter.grad, gradient, atol=1e-5)


@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="needs a C++ compiler")
@pytest.mark.parametrize("max_logits", [2**20, 5 * 50])  # in one piece, in pieces of five positions
def test_the_compiled_loss_and_its_gradients_are_the_plain_ones(max_logits):
    generator = torch.Generator().manual_seed(2)
    head = torch.nn.Linear(8, 50, bias=False)
    labels = torch.randint(0, 50, (3, 6), generator=generator)
    labels[0, 2:4] = labels[2, 5] = -100
    found = []
    for compiled in (False, True):
        hidden = torch.randn(3, 6, 8, generator=generator.manual_seed(4), requires_grad=True)
        weights = torch.rand(3, 6, generator=generator)
        total, count = summed_token_loss(
            head, hidden, labels, weights=weights, max_logits=max_logits, compiled=compiled
        )
        found.append((total, count, *torch.autograd.grad(total, [hidden, head.weight])))
    (plain, targets, *gradients), (fused, fused_targets, *fused_gradients) = found
    assert fused_targets == targets == 12
    assert fused.item() == pytest.approx(plain.item(), rel=1e-6)
    for one, other in zip(gradients, fused_gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_weights_multiply_each_tokens_own_loss():
    head = torch.nn.Linear(2, 3, bias=False)
    hidden, labels = torch.randn(1, 4, 2), torch.tensor([[0, 2, 1, 0]])
    each = -torch.log_softmax(head(hidden), -1)[0, torch.arange(3), labels[0, 1:]]
    total, count = summed_token_loss(head, hidden, labels, weights=torch.tensor([[9.0, 0.0, 0.5, 4.0]]))
    assert count == 3
    assert total.item() == pytest.approx((0.5 * each[1] + 4 * each[2]).item())


def test_no_targets_give_no_loss():
    model = tiny_models.model("llama", 50)
    ids = torch.ones((1, 5), dtype=torch.long)
    total, count = summed_token_loss(
        output_head(model), hidden_states(model, ids), torch.full_like(ids, -100)
    )
    assert (total.item(), count) == (0.0, 0)


def test_nan_ends_training_with_advice(folder, tmp_path):
    with pytest.raises(NonFiniteLossError, match="lower the learning rate"):
        run(folder, tmp_path, learning_rate=1e30, warmup_fraction=0.0)


def test_nan_validation_ends_training(folder, tmp_path):
    with pytest.raises(NonFiniteLossError, match="validation is nan"):
        run(folder, tmp_path, validate=lambda model: math.nan)


def test_the_best_validated_weights_are_kept(folder, tmp_path):
    values = iter([3.0, 2.0, 1.0, 2.0, 2.5, 2.5, 2.5, 2.5])
    saved = {}

    def validate(model):
        value = next(values)
        saved[value] = {n: p.detach().clone() for n, p in model.named_parameters() if "lora_B" in n}
        return value

    history = run(folder, tmp_path, validate=validate)
    assert history.best_validation == 1.0
    assert history.best_step == history.validation_steps[2]
    kept = load_file(tmp_path / "adapter/adapter_model.safetensors")
    for name, tensor in kept.items():
        if "lora_B" in name:
            assert torch.equal(tensor, saved[1.0][name.replace(".weight", ".default.weight")])


def test_the_scaled_adapter_is_what_is_saved_and_said(folder, trained, tmp_path):
    history = train_language_model(
        settings(folder, keep_gain=0.5), TRAIN, VALIDATION, RUNTIME, seed=5, out_dir=tmp_path
    )
    assert history.adapter_scale in SCALES
    assert json.loads((tmp_path / "history.json").read_text())["adapter_scale"] == history.adapter_scale
    whole, scaled = (load_file(p / "adapter/adapter_model.safetensors") for p in (trained[0], tmp_path))
    for name, tensor in whole.items():
        assert torch.equal(scaled[name], tensor * history.adapter_scale if "lora_B" in name else tensor)
    adapted, tok = load_adapted(str(folder), tmp_path / "adapter", RUNTIME)
    after = evaluate_perplexity(adapted, tok, VALIDATION, window=32, stride=32).bits_per_byte
    assert history.validation[0] - after >= 0.5 * (history.validation[0] - history.best_validation)


def test_rows_of_the_corpus_s_own_tokens_are_trained_and_no_others(folder, tmp_path):
    train_language_model(
        settings(folder, train_embeddings=True), TRAIN, VALIDATION, RUNTIME, seed=5, out_dir=tmp_path
    )
    adapted, tok = load_adapted(str(folder), tmp_path / "adapter", RUNTIME)
    base, _ = load_causal_lm(str(folder), RUNTIME)
    moved = (adapted.get_input_embeddings().weight != base.get_input_embeddings().weight).any(1)
    own = {token for text in TRAIN for token in tok(text).input_ids}
    assert set(moved.nonzero().flatten().tolist()) == own
    assert torch.equal(output_head(adapted).weight, adapted.get_input_embeddings().weight)  # tied as before
    score = {"window": 32, "stride": 32}
    before = evaluate_perplexity(base, tok, VALIDATION, **score).bits_per_byte
    assert evaluate_perplexity(adapted, tok, VALIDATION, **score).bits_per_byte < before


def test_a_training_that_leaves_examples_out_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(TokenTrainer, "_get_train_sampler", lambda *_: SequentialSampler(range(2)))
    with pytest.raises(TrainingError, match=r"examples were fed where \d+ of \d+ in \d epochs were to be"):
        train_language_model(settings(folder), TRAIN, VALIDATION, RUNTIME, seed=1, out_dir=tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_an_empty_training_set_is_refused(folder, tmp_path):
    with pytest.raises(TrainingError, match="nothing to train on"):
        train_language_model(settings(folder), [""], VALIDATION, RUNTIME, seed=0, out_dir=tmp_path)


def test_rehearsal_adds_general_code(folder, trained, tmp_path):
    history = train_language_model(
        settings(folder, rehearsal_share=1.0, epochs=1), TRAIN, VALIDATION, RUNTIME, seed=5, out_dir=tmp_path
    )
    assert history.useful_tokens > trained[1].useful_tokens / trained[1].epochs * 1.5


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_other_families_train_by_the_same_call(tmp_path, family):
    folder = tiny_models.save(tmp_path / "model", family)
    history = train_language_model(
        settings(folder, epochs=1), TRAIN, VALIDATION, RUNTIME, seed=0, out_dir=tmp_path / "out"
    )
    assert history.best_validation < history.validation[0]
    shutil.rmtree(folder)


def test_bfloat16_autocast_trains_float32_adapters(folder, tmp_path):
    mixed = dataclasses.replace(RUNTIME, autocast_dtype=torch.bfloat16)
    history = train_language_model(
        settings(folder, epochs=1), TRAIN, VALIDATION, mixed, seed=0, out_dir=tmp_path
    )
    assert history.precision == "bfloat16"
    assert history.best_validation < history.validation[0]
    assert all(
        t.dtype == torch.float32 for t in load_file(tmp_path / "adapter/adapter_model.safetensors").values()
    )


@pytest.mark.parametrize("batch", range(1, 40))
@pytest.mark.parametrize("limit", [1, 3, 8, 13, 64])
def test_micro_batches_make_up_the_batch(batch, limit) -> None:
    at_once, accumulation = batch_shape(batch, limit)
    assert at_once <= limit
    assert batch <= at_once * accumulation < batch + accumulation
