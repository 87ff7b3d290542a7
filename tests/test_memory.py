"""Out of memory: steps shrink, each reduction is recorded, and results stay the same where possible."""

from __future__ import annotations

import json

import pytest
import tiny_models
import torch

import helpers.train.trainer as trainer_module
from helpers.machine.memory import Fit, in_batches, is_out_of_memory, next_fit
from helpers.models.structure import plain_model
from helpers.settings import LoraSettings, TrackASettings
from helpers.train import validation as validation_module
from helpers.train.checkpoints import SaveSchedule
from helpers.train.continued_pretraining import train_language_model
from helpers.train.fallbacks import NonFiniteLossError, StepTooLargeError, with_fallbacks

RUNTIME = tiny_models.CPU_FP32
TRAIN = [f"def function_{i}(value):\n    return value + {i}\n\n\n" * 3 for i in range(4)]


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("injected: tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (out_of_memory(), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("CUDA error: out of memory."), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory."), False),
    ],
)  # fmt: skip
def test_what_counts_as_out_of_memory(error, is_one) -> None:
    assert is_out_of_memory(error) is is_one


def test_the_batch_is_halved_before_checkpointing_and_four_bits() -> None:
    rungs, fit, used = [], Fit(), 8
    while (fit := next_fit(fit, used)) is not None:
        rungs.append((fit.micro_batch, fit.checkpointing, fit.nf4))
        used = fit.micro_batch
    assert rungs == [
        (4, False, False),
        (2, False, False),
        (1, False, False),
        (1, True, False),
        (1, True, True),
    ]
    assert next_fit(Fit(micro_batch=1), 1, can_checkpoint=False).nf4


def test_a_batch_that_does_not_fit_is_halved_without_losing_or_repeating_items() -> None:
    sizes = []

    def compute(batch):
        if len(batch) > 3:
            raise out_of_memory()
        sizes.append(len(batch))
        return [2 * item for item in batch]

    done = list(in_batches(range(17), 12, compute, what="double"))
    assert [value for _, values in done for value in values] == [2 * i for i in range(17)]
    assert sizes == [3] * 5 + [2]


def test_an_item_that_does_not_fit_and_other_errors_raise() -> None:
    def too_large(batch):
        raise out_of_memory()

    with pytest.raises(torch.OutOfMemoryError):
        list(in_batches([1, 2], 2, too_large, what="x"))
    with pytest.raises(ZeroDivisionError):
        list(in_batches([1, 2], 2, lambda batch: 1 / 0, what="x"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.save(tmp_path_factory.mktemp("model"), "qwen2")


def train(folder, out, runtime=RUNTIME):
    settings = TrackASettings(
        model=str(folder), window=32, stride=16, train_tokens=0, validation_tokens=0, test_tokens=0, epochs=1,
        learning_rate=1e-2, batch_sequences=4, warmup_fraction=0.1, lora=LoraSettings(rank=4, alpha=8),
        rehearsal_share=0.0,
    )  # fmt: skip
    return train_language_model(settings, TRAIN, TRAIN[:1], runtime, seed=5, out_dir=out)


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    return train(folder, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def limit(monkeypatch):
    """Make a training step run out of memory unless `fits(examples at once, checkpointing, four bits)`."""
    real = trainer_module.hidden_states

    def install(fits):
        def limited(model, ids, **options):
            plain = plain_model(model)
            four_bit = any(type(m).__name__ == "Linear4bit" for m in plain.modules())
            if model.training and not fits(len(ids), plain.is_gradient_checkpointing, four_bit):
                raise out_of_memory()
            return real(model, ids, **options)

        monkeypatch.setattr(trainer_module, "hidden_states", limited)

    return install


def test_half_the_batch_with_twice_the_accumulation_gives_the_same_losses(
    folder, undisturbed, tmp_path, limit
) -> None:
    limit(lambda examples, checkpointing, four_bit: examples <= 1)
    history = train(folder, tmp_path)
    assert (undisturbed.micro_batch, undisturbed.accumulation, undisturbed.lowered) == (4, 1, ())
    assert (history.micro_batch, history.accumulation) == (1, 4)
    assert history.lowered == ("micro-batch 4 -> 2", "micro-batch 2 -> 1")
    assert history.train_loss == pytest.approx(undisturbed.train_loss, rel=1e-4)
    assert history.validation == pytest.approx(undisturbed.validation, rel=1e-4)
    stored = json.loads((tmp_path / "history.json").read_text())
    assert stored["lowered"] == list(history.lowered)
    assert not (tmp_path / "fit.json").exists()


def test_recomputed_activations_give_the_same_losses(folder, undisturbed, tmp_path, limit) -> None:
    limit(lambda examples, checkpointing, four_bit: checkpointing)
    history = train(folder, tmp_path)
    assert history.gradient_checkpointing
    assert history.micro_batch == 1
    assert history.lowered[-1] == "gradient checkpointing on"
    assert history.train_loss == pytest.approx(undisturbed.train_loss, rel=1e-4)


def test_the_frozen_weights_go_to_four_bits_last(folder, tmp_path, limit) -> None:
    limit(lambda examples, checkpointing, four_bit: four_bit)
    history = train(folder, tmp_path)
    assert history.frozen_weights == "NF4"
    assert history.lowered[-1] == "frozen weights -> NF4"
    assert history.best_validation < history.validation[0]


def test_if_nothing_fits_one_sentence_says_what_to_do(folder, tmp_path, limit) -> None:
    limit(lambda *_: False)
    with pytest.raises(StepTooLargeError, match="take a smaller model or a shorter window"):
        train(folder, tmp_path)


def test_an_interrupted_run_resumes_with_the_reductions_it_had_made(tmp_path) -> None:
    seen = []

    def killed(machine, fit):
        seen.append(fit.micro_batch)
        if fit.micro_batch is None:
            raise StepTooLargeError("too large", 8, True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_fallbacks(killed, RUNTIME, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        with_fallbacks(killed, RUNTIME, tmp_path)
    assert seen == [None, 4, 4]


def test_what_steps_and_validation_freed_is_given_back_around_each_validation(tmp_path, monkeypatch) -> None:
    from types import SimpleNamespace

    events = []
    monkeypatch.setattr(validation_module, "return_freed_memory", lambda: events.append("given back"))

    def validate(model):
        events.append("validated")
        return 1.0

    callback = validation_module.ValidationCallback(validate, SaveSchedule(1, 1), tmp_path, "x")
    callback.trainer = SimpleNamespace(useful=0, fed=0)
    assert callback._measure(torch.nn.Linear(1, 1), SimpleNamespace(global_step=0, log_history=[])) == 1.0
    assert events == ["given back", "validated", "given back"]


def test_nan_in_float16_restarts_training_in_float32(tmp_path) -> None:
    import dataclasses

    half = dataclasses.replace(RUNTIME, weight_dtype=torch.float16, autocast_dtype=torch.float16)
    seen = []

    def overflows(machine, fit):
        seen.append((machine.weight_dtype, machine.autocast_dtype))
        if machine.autocast_dtype is torch.float16:
            raise NonFiniteLossError("nan")
        return "history"

    assert with_fallbacks(overflows, half, tmp_path) == "history"
    assert seen == [(torch.float16, torch.float16), (torch.float32, None)]
    with pytest.raises(NonFiniteLossError):
        with_fallbacks(
            lambda machine, fit: (_ for _ in ()).throw(NonFiniteLossError("nan")), RUNTIME, tmp_path
        )


def test_scoring_and_generation_do_not_depend_on_the_batch_size(folder, monkeypatch) -> None:
    from helpers.eval import perplexity
    from helpers.models import generation
    from helpers.models.causal_lm import load_causal_lm
    from helpers.models.ragged_cache import RaggedCache

    model, tokenizer = load_causal_lm(str(folder), RUNTIME)
    score = {"window": 16, "stride": 8, "batch_size": 8}
    sample = {"n": 2, "temperature": 1.0, "max_new_tokens": 6, "batch_size": 8, "seed": 3}
    prompts = ["def a", "return value", "value + 1"]
    whole = perplexity.evaluate_perplexity(model, tokenizer, TRAIN, **score)
    texts = generation.generate(model, tokenizer, prompts, RUNTIME, **sample)
    forward, read = perplexity.hidden_states, RaggedCache.read
    seen = []

    def limited(model, ids, **options):
        if len(ids) > 3:
            raise out_of_memory()
        return forward(model, ids, **options)

    def limited_read(cache, fed):
        if len(fed) > 2:
            raise out_of_memory()
        return read(cache, fed)

    monkeypatch.setattr(perplexity, "hidden_states", limited)
    monkeypatch.setattr(RaggedCache, "read", limited_read)
    again = perplexity.evaluate_perplexity(
        model, tokenizer, TRAIN, **score, observe=lambda text, first, losses, hits: seen.append(len(losses))
    )
    assert again.nll_nats == pytest.approx(whole.nll_nats, rel=1e-6)
    assert sum(seen) == again.n_tokens == whole.n_tokens
    assert generation.generate(model, tokenizer, prompts, RUNTIME, **sample) == texts
