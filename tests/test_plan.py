"""Check the plan's formulas against what torch, peft and bitsandbytes really hold."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_models
import torch
from transformers import BertConfig, BertModel, Qwen2Config, Qwen2ForCausalLM

from helpers.machine.memory import Fit
from helpers.models import bfloat16_products, footprint, ragged_cache
from helpers.models.causal_lm import add_lora
from helpers.models.cheaper_forms import plain_attention
from helpers.models.footprint import (
    CPU_SPEED,
    Machine,
    activation_bytes,
    cache_bytes,
    is_packed_form,
    lora_parameters,
    packed_activation_bytes,
    planned_fit,
    reads_in_bfloat16,
    weight_bytes,
)
from helpers.models.generation import generate
from helpers.models.packed_decoder import Documents, PackedDecoder, is_covered
from helpers.models.ragged_cache import Fed, ragged
from helpers.models.shapes import KNOWN, Shape, ShapeError, model_shape, shape_of
from helpers.models.structure import hidden_states, plain_model
from helpers.models.target_scores import LOGITS_AT_ONCE
from helpers.models.tokens import token_ids
from helpers.plan import KEPT_SHARE, KERNELS_GIB, PROCESS_GIB, encoder_bytes, plan_run
from helpers.profiles import RunRequest, resolve_profile
from helpers.settings import TINY_CODE_LM, LoraSettings

LORA = LoraSettings(rank=8, alpha=8)
SMALL = Shape(64, 3, 4, 2, 16, 160, 100)
TOLERANCE = 0.15  # stated in the module: the count of kept tensors, not a bound
LARGER = {"causal_lm": "Qwen/Qwen2.5-Coder-1.5B", "chat_lm": "Qwen/Qwen2.5-Coder-1.5B-Instruct"}


def peak_gib(stages: list, track: str) -> float:
    return max(stage.peak_gib for stage in stages if stage.stage.startswith(f"{track}/"))


def qwen(shape: Shape, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Qwen2ForCausalLM:
    config = Qwen2Config(
        hidden_size=shape.hidden, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, intermediate_size=shape.intermediate, vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied, attn_implementation="sdpa",
    )  # fmt: skip
    with torch.device(device):
        return Qwen2ForCausalLM(config).to(dtype)


def kept_bytes(model: torch.nn.Module, forward) -> int:
    """Return the bytes of all storages that autograd keeps for the backward pass, without parameters."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize(
    ("spec", "published"),
    [("Qwen/Qwen2.5-Coder-0.5B", 494_032_768), ("Qwen/Qwen2.5-Coder-1.5B", 1_543_714_304)],
)
def test_known_models_have_as_many_parameters_as_published_and_as_transformers_builds(
    spec, published
) -> None:
    shape = model_shape(spec)
    assert shape.parameters == published
    assert sum(p.numel() for p in qwen(shape, device="meta").parameters()) == published


def test_an_encoder_has_as_many_parameters_as_transformers_builds() -> None:
    shape = KNOWN["intfloat/e5-small-v2"]
    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=1536,
        vocab_size=30_522,
    )
    with torch.device("meta"):
        assert sum(p.numel() for p in BertModel(config).parameters()) == shape.parameters


@pytest.mark.parametrize(("layers", "dtype"), [(0, torch.bfloat16), (0, torch.float32), (1, torch.float32)])
@pytest.mark.parametrize("shape", [SMALL, Shape(96, 2, 6, 2, 16, 512, 100)])
def test_the_packed_form_keeps_what_is_planned(shape, layers, dtype) -> None:
    lora = LoraSettings(rank=2, alpha=2, layers=layers)
    decoder = PackedDecoder(add_lora(qwen(shape), lora).train(), dtype)
    ids = torch.randint(0, shape.vocabulary, (200,), generator=torch.Generator().manual_seed(0))
    documents = Documents(ids, torch.arange(200) % 100, ((0, 100), (100, 200)))
    kept = kept_bytes(decoder.model, lambda: decoder.hidden_states(documents))
    machine = Machine(8.0, 4, dtype == torch.bfloat16, False, CPU_SPEED)
    planned = packed_activation_bytes(shape, machine, lora, 200)
    assert planned == pytest.approx(kept, rel=TOLERANCE)


def test_frozen_layers_below_the_adapters_cost_less_time_and_memory() -> None:
    profile = resolve_profile(RunRequest("cpu", changed_settings=(
        "track_a.train_embeddings=false", "track_a.lora.rank=4", "track_a.lora.layers=2")))  # fmt: skip
    lora = dataclasses.replace(profile.track_a.lora, layers=0)
    whole = dataclasses.replace(profile, track_a=dataclasses.replace(profile.track_a, lora=lora))
    machine = Machine(8.0, 4, True, False, CPU_SPEED)
    upper, all_of_it = (
        next(s for s in plan_run(p, machine) if s.stage == "track_a/train") for p in (profile, whole)
    )
    assert upper.seconds < all_of_it.seconds
    assert upper.parts["activations"] < all_of_it.parts["activations"]
    assert "activations kept over epochs" in upper.parts.keys() - all_of_it.parts.keys()


@pytest.mark.parametrize("rank", [1, 8])
def test_the_plan_knows_which_form_a_training_takes(rank) -> None:
    lora = LoraSettings(rank=rank, alpha=2)
    machine = Machine(8.0, 4, True, False, CPU_SPEED)
    model = tiny_models.model("qwen2", 50)
    assert (
        is_packed_form(shape_of(model.config), machine, lora)
        == is_covered(add_lora(model, lora))
        == (rank == 1)
    )
    assert not is_packed_form(shape_of(model.config), machine, lora, embeddings=True)
    assert not is_packed_form(shape_of(model.config), Machine.t4(), lora)


@pytest.mark.parametrize(("weights", "autocast"), [("bfloat16", True), ("float32", True), ("float32", False)])
@pytest.mark.parametrize("shape", [SMALL, Shape(96, 2, 6, 2, 16, 512, 100)])
@pytest.mark.parametrize(("rows", "length"), [(2, 64), (3, 128)])
def test_activations_are_what_autograd_keeps(weights, autocast, shape, rows, length) -> None:
    dtype = getattr(torch, weights)
    model = add_lora(qwen(shape, dtype), LORA).train()
    ids = torch.randint(0, shape.vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(length).repeat(rows, 1) % (length // 2)  # two documents a row

    def forward():
        with (
            plain_attention(plain_model(model)),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast),
        ):
            hidden_states(model, ids, position_ids=positions)

    machine = Machine(8.0, dtype.itemsize, autocast, False, CPU_SPEED)
    planned = activation_bytes(shape, rows * length, length, machine, LORA.rank)
    assert planned == pytest.approx(kept_bytes(model, forward), rel=TOLERANCE)


def test_with_checkpointing_one_hidden_state_a_block_is_kept() -> None:
    model = add_lora(qwen(SMALL), LORA).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.zeros((4, 128), dtype=torch.long)
    machine = Machine(8.0, 4, False, False, CPU_SPEED)
    one_block = activation_bytes(dataclasses.replace(SMALL, layers=1), 512, 128, machine, LORA.rank)
    planned = activation_bytes(SMALL, 512, 128, machine, LORA.rank, checkpointing=True)
    kept = kept_bytes(model, lambda: hidden_states(model, ids))
    assert planned - one_block == pytest.approx(kept, rel=0.35)  # less the last norm, counted in both
    assert planned < activation_bytes(SMALL, 512, 128, machine, LORA.rank)


def test_adapters_are_what_peft_holds() -> None:
    model = add_lora(qwen(SMALL), LORA)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert lora_parameters(SMALL, LORA.rank) == trainable


@pytest.mark.parametrize("length", [20, 120, 128])
def test_keys_and_values_are_what_generation_holds(length) -> None:
    model = qwen(SMALL).eval()
    with torch.inference_mode(), ragged(model, 3, room=length) as cache:
        for tokens in (12, length):
            cache.read([Fed(slot, 0, [1] * tokens, 1) for slot in range(3)])
            held = sum(one.nbytes for states in cache._states.values() for one in states)
            assert held == cache_bytes(SMALL, 3, length, Machine(8.0, 4, False, False, CPU_SPEED))
        cache.read([Fed(0, 130, [1] * 70, 1)])  # more than was said
        assert cache._states[0][0].shape[2] >= 200


def test_generation_says_how_long_its_texts_may_get(monkeypatch) -> None:
    tok, rooms, usual = tiny_models.tokenizer(), [], ragged_cache.RaggedCache._kept

    def kept(self, *arguments):
        found = usual(self, *arguments)
        rooms.append(found[0].shape[2])
        return found

    monkeypatch.setattr(ragged_cache.RaggedCache, "_kept", kept)
    model = tiny_models.model("llama", len(tok)).eval()
    for prompts, new in ((["def f(a):", "x = " * 20], 30), (["a"], 3)):
        longest = max(len(token_ids(tok, one)) for one in prompts) + new
        rooms.clear()
        generate(model, tok, prompts, tiny_models.CPU_FP32, max_new_tokens=new)
        assert set(rooms) == {-(-longest // 64) * 64}


def test_the_plan_knows_whether_text_is_read_in_bfloat16(monkeypatch) -> None:
    machine, model = Machine(8.0, 4, True, False, CPU_SPEED), tiny_models.model("llama", 50)
    shape = shape_of(model.config)
    monkeypatch.setattr(bfloat16_products, "rows_are_independent", lambda *shape: True)
    monkeypatch.setattr(bfloat16_products, "_can_attend", lambda *model: True)
    mixed = dataclasses.replace(tiny_models.CPU_FP32, autocast_dtype=torch.bfloat16)
    for least in (shape.linear_parameters, shape.linear_parameters + 1):
        monkeypatch.setattr(bfloat16_products, "LEAST_WEIGHTS", least)
        monkeypatch.setattr(footprint, "LEAST_WEIGHTS", least)
        assert reads_in_bfloat16(shape, machine) == bfloat16_products.products_pay(model, mixed)
        assert reads_in_bfloat16(shape, machine) == (least == shape.linear_parameters)
        assert not reads_in_bfloat16(shape, dataclasses.replace(machine, autocast=False))


def test_four_bit_weights_are_what_bitsandbytes_holds(tmp_path) -> None:
    from helpers.models.causal_lm import load_causal_lm

    runtime = dataclasses.replace(tiny_models.CPU_FP32, nf4=True)
    model, _ = load_causal_lm(TINY_CODE_LM, runtime)
    tensors = list(model.parameters())
    held = sum(t.nbytes for t in tensors)
    for parameter in tensors:
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            held += state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
    planned = weight_bytes(model_shape(TINY_CODE_LM), Machine.of(runtime))
    assert planned == pytest.approx(held, rel=0.02)


def test_an_encoder_keeps_about_what_is_planned_while_all_of_it_is_trained() -> None:
    config = BertConfig(
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=384,
        vocab_size=50,
        attention_probs_dropout_prob=0.0,
    )
    model = BertModel(config, add_pooling_layer=False).train()
    ids = torch.zeros((4, 64), dtype=torch.long)

    def forward():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(input_ids=ids, attention_mask=torch.ones_like(ids))

    fixed = 2 * sum(p.numel() for n, p in model.named_parameters() if "weight" in n and p.dim() == 2)
    planned = 4 * 64 * (2 * encoder_bytes(shape_of(config), 2) + 8 * 96)
    assert planned == pytest.approx(kept_bytes(model, forward) - fixed, rel=TOLERANCE)


def test_the_small_model_stays_below_8_and_the_larger_in_four_bits_below_12_gib() -> None:
    small = plan_run(resolve_profile(RunRequest("t4")), Machine.t4(), micro_batch=4)
    assert {s.note for s in small if s.stage == "track_a/train"} == {"4 x 1024 at once"}
    assert peak_gib(small, "track_a") < 8
    larger = plan_run(resolve_profile(RunRequest("t4", **LARGER)), Machine.t4(nf4=True), micro_batch=4)
    assert peak_gib(larger, "track_a") < 12
    for stages in (small, larger, plan_run(resolve_profile(RunRequest("t4")), Machine.t4())):
        assert all(stage.fits(14.74) for stage in stages)
        assert all(stage.seconds >= 0 for stage in stages)


def test_chunked_loss_and_checkpointing_are_what_keeps_it_there() -> None:
    shape = KNOWN["qwen/qwen2.5-coder-1.5b"]
    machine = Machine.t4(nf4=True)
    kept = activation_bytes(shape, 4096, 1024, machine, 16) / 2**30
    recomputed = activation_bytes(shape, 4096, 1024, machine, 16, checkpointing=True) / 2**30
    assert kept > 12 > recomputed
    assert 16 * 4096 * shape.vocabulary / 2**30 > 9  # the loss in one piece


def test_a_step_too_large_for_the_accelerator_is_made_smaller_before_it_is_tried() -> None:
    config = {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
              "intermediate_size": 8960, "vocab_size": 151_936, "model_type": "qwen2"}  # fmt: skip
    t4 = dataclasses.replace(
        tiny_models.CPU_FP32, device=torch.device("cuda"), weight_dtype=torch.float16,
        autocast_dtype=torch.float16, memory_gib=14.74,
    )  # fmt: skip
    fit = planned_fit(Fit(), config, t4, LoraSettings(), 4, 1024)
    assert fit.micro_batch == 2
    assert fit.lowered == ("planned: 2 x 1024 at once",)
    long = planned_fit(Fit(), config, t4, LoraSettings(), 4, 8192)
    assert (long.micro_batch, long.checkpointing) == (1, True)
    assert planned_fit(Fit(), config, tiny_models.CPU_FP32, LoraSettings(), 4, 1024) == Fit()
    assert planned_fit(Fit(), {"model_type": "odd"}, t4, LoraSettings(), 4, 1024) == Fit()


@pytest.mark.parametrize("profile", ["t4", "cpu", "laptop", "smoke"])
def test_every_profile_has_a_plan(profile) -> None:
    stages = plan_run(resolve_profile(RunRequest(profile)), Machine.of(tiny_models.CPU_FP32))
    assert {s.stage.split("/")[0] for s in stages} == {"track_a", "track_b", "track_c"}


def test_rehearsed_answers_are_written_and_learnt() -> None:
    profile = resolve_profile(RunRequest("t4"))
    without = dataclasses.replace(profile, track_b=dataclasses.replace(profile.track_b, rehearsed_answers=0))
    some, none = ({s.stage: s for s in plan_run(one, Machine.t4())} for one in (profile, without))
    assert some.keys() - none.keys() == {"track_b/rehearsal"}
    b = profile.track_b
    share = (b.train_pairs + b.rehearsed_answers) / b.train_pairs
    validation = b.validation_pairs / b.train_pairs * (b.epochs + 1) / b.epochs / 2  # forward passes alone
    grown = some["track_b/train"].seconds / none["track_b/train"].seconds
    assert grown == pytest.approx((share + validation) / (1 + validation))
    assert some["track_b/answers_before"] == none["track_b/answers_before"]


def test_on_a_cpu_the_whole_process_counts() -> None:
    profile = resolve_profile(RunRequest("cpu"))
    here, t4 = (plan_run(profile, machine) for machine in (Machine.of(tiny_models.CPU_FP32), Machine.t4()))
    assert all(stage.parts["libraries, corpus"] == PROCESS_GIB for stage in here)
    assert not any("libraries, corpus" in stage.parts for stage in t4)
    mixed = plan_run(profile, Machine(8.0, 4, True, False, CPU_SPEED))
    assert all(stage.parts["compiled kernels"] == KERNELS_GIB for stage in mixed)
    assert not any("compiled kernels" in stage.parts for stage in (*here, *t4))  # no products in bfloat16
    score = next(stage for stage in plan_run(resolve_profile(RunRequest("laptop")), Machine.t4()))
    assert score.parts["logits"] == pytest.approx(LOGITS_AT_ONCE * (2 + 8) / 2**30)  # not a whole window's


def test_stages_after_the_first_count_what_others_left_on_a_cpu() -> None:
    machine, kept = Machine(8.0, 4, True, False, CPU_SPEED), "left by earlier stages, kept by the allocator"
    for rehearsed, first in ((40, "track_b/rehearsal"), (0, "track_a/before")):
        changed = (f"track_b.rehearsed_answers={rehearsed}",)
        stages = plan_run(resolve_profile(RunRequest("cpu", changed_settings=changed)), machine)
        assert [stage.stage for stage in stages if kept not in stage.parts] == [first]
        for stage in stages:
            assert stage.parts.get(kept, 0.0) in (
                0.0, pytest.approx(KEPT_SHARE / (1 + KEPT_SHARE) * stage.peak_gib)
            )  # fmt: skip
    assert not any(
        kept in stage.parts for stage in plan_run(resolve_profile(RunRequest("cpu")), Machine.t4())
    )


def test_an_unknown_model_is_said(tmp_path) -> None:
    with pytest.raises(ShapeError, match=r"shape of 'nobody/model' is not known"):
        model_shape("nobody/model")
    for content in ("{}", "[]", "{", "", "[" * 100_000):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ShapeError):
            model_shape(str(tmp_path))


@pytest.mark.parametrize("track", ["track_a", "track_b"])
def test_more_adapted_layers_than_the_model_has_are_refused(track) -> None:
    layers = model_shape(TINY_CODE_LM).layers
    for given in (layers, layers + 1):
        request = RunRequest("smoke", changed_settings=(f"{track}.lora.layers={given}",))
        if given == layers:
            assert plan_run(resolve_profile(request), Machine.t4())
        else:
            with pytest.raises(ShapeError, match=f"lora.layers is {given}, but .* has {layers} layers"):
                plan_run(resolve_profile(request), Machine.t4())
