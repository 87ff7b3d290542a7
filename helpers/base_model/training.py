"""Train the embedded base model, from its text to a folder with weights and card, in one command.

Three steps, each skipped if its result is there: build the token arrays, train (resumable at every
checkpoint, shared among the processes that a launcher starts), and release the model with a report on
held-out files.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from helpers.base_model.base_recipes import EMBEDDED, BaseRecipe, find_base_recipe
from helpers.base_model.evaluation import copied_tokens, draw_functions
from helpers.base_model.release import RELEASED, save_weights, write_release
from helpers.base_model.token_arrays import build_token_arrays, load_held_out, load_windows
from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import Runtime, can_compile, detect_runtime
from helpers.models.causal_lm import load_tokenizer
from helpers.models.cheaper_forms import scores_are_small
from helpers.run.workspace import read_json
from helpers.train.checkpoints import written_whole
from helpers.train.from_scratch import (
    PretrainingResult,
    PretrainingSettings,
    Schedule,
    next_token_loss,
    rank_and_world_size,
    train_from_scratch,
)

START = "start"  # in the folder of a further phase: the model that it started from
WATCHED_FILES = 30  # held-out files scored during training
WATCHED_FUNCTIONS = 40  # of these files, copied during training; none of those that the report copies


def train_base_model(name: str, *, out: Path, resume: bool, steps: int | None = None) -> Path:
    """Train recipe `name` below `out/runs/base/<name>`, and return the folder of the finished model.

    Args:
        name: BaseRecipeError is raised if no recipe has it.
        resume: continue an interrupted run; otherwise start over. Token arrays are kept either way,
            since they don't depend on the training.
        steps: overrides the recipe's number; the decay keeps its share of them.
    """
    recipe = find_base_recipe(name)
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps=steps)
    root = out / "runs" / "base"
    folder = root / name
    rank, _ = rank_and_world_size()
    if rank == 0:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        build_token_arrays(root, recipe)
        keep_start(recipe, folder)
    if torch.distributed.is_initialized():  # the other processes wait until the first has prepared the data
        torch.distributed.barrier()
    if recipe.start:
        recipe = dataclasses.replace(recipe, start=str(folder / START))
    data = build_token_arrays(root, recipe)
    runtime = detect_runtime(deterministic=False)
    result = _train(recipe, data, folder, runtime)
    if rank == 0:
        write_release(recipe, data, folder, runtime, result)
        shown = read_json(folder / RELEASED / "report.json")
        print(json.dumps({k: v for k, v in shown.items() if k != "samples"}, indent=1))
    return folder / RELEASED


def keep_start(recipe: BaseRecipe, folder: Path) -> None:
    """Copy the model that a further phase starts from into the phase's `folder`, once.

    The finished model may replace the one it started from. Without the copy, a resumed run would start
    from its own output and list its history twice.
    """
    if recipe.start and not (folder / START).is_dir():
        with written_whole(folder / START) as partial:
            shutil.copytree(recipe.start, partial)


def _train(recipe: BaseRecipe, data: Path, folder: Path, runtime: Runtime) -> PretrainingResult:
    tokenizer = load_tokenizer(str(EMBEDDED))
    model = _initial_model(recipe, tokenizer, runtime)
    _choose_attention(model, recipe, runtime)
    windows = load_windows(data, recipe, tokenizer)
    files = load_held_out(data)
    watched = [file.text for file in files[:: max(1, len(files) // WATCHED_FILES)]]
    others = draw_functions(files, recipe.functions + WATCHED_FUNCTIONS, recipe.data_seed)[recipe.functions :]

    def evaluate(candidate: PreTrainedModel) -> dict[str, float]:
        scored = evaluate_perplexity(
            candidate, tokenizer, watched, window=recipe.window, stride=recipe.window, runtime=runtime,
            what="held-out files",
        )  # fmt: skip
        found = {"bits_per_byte": scored.bits_per_byte}
        if copied := copied_tokens(candidate, tokenizer, others, runtime):
            found["copied_tokens"] = sum(copied) / len(copied)
        return found

    settings = PretrainingSettings(
        Schedule("wsd", recipe.steps, recipe.warmup, round(recipe.decay * recipe.steps)),
        recipe.optimizer,
        seed=recipe.seed,
        evaluate_every=max(1, recipe.steps // 15),
        checkpoint_every=25,
        checkpoint_pause_s=20.0,
        compile=recipe.compile and can_compile(runtime.device),
    )
    loss = functools.partial(next_token_loss, compiled=settings.compile, max_logits=recipe.max_logits)
    result = train_from_scratch(
        model, windows, settings, runtime, folder, evaluate=evaluate, loss_function=loss
    )
    if rank_and_world_size()[0] == 0:
        if recipe.start_share:
            mean_with_start(model, _initial_model(recipe, tokenizer, runtime), recipe.start_share)
        save_weights(model, tokenizer, folder)
    return result


def _initial_model(
    recipe: BaseRecipe, tokenizer: PreTrainedTokenizerBase, runtime: Runtime
) -> PreTrainedModel:
    """Return a model with random or earlier weights in float32; autocast chooses lower precision."""
    torch.manual_seed(recipe.seed)
    if recipe.start:
        return Qwen2ForCausalLM.from_pretrained(
            recipe.start, dtype=torch.float32, attn_implementation=runtime.attention
        )
    config = Qwen2Config(
        vocab_size=64 * -(-len(tokenizer) // 64),
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp_width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation=runtime.attention,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter /= (2 * recipe.layers) ** 0.5  # residual outputs start small (GPT-2)
    return model


def _choose_attention(model: PreTrainedModel, recipe: BaseRecipe, runtime: Runtime) -> None:
    """Use plain products of whole score matrices on a CPU if they are faster than the fused kernel."""
    # The model's shape, since an earlier phase may have set another than the recipe's.
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    if runtime.device.type == "cpu" and scores_are_small(layers, heads, recipe.micro_batch, recipe.window):
        model.set_attn_implementation("eager")


@torch.no_grad()
def mean_with_start(model: PreTrainedModel, start: PreTrainedModel, share: float) -> None:
    """Move `model` back towards `start` by `share`, to keep a phase's gains without its losses.

    Weights along one course of training can be averaged (Wortsman et al. 2022, "Robust fine-tuning of
    zero-shot models").
    """
    for trained, first in zip(model.parameters(), start.parameters(), strict=True):
        trained.lerp_(first.to(trained), share)
