"""Turn a trained base model into the folder that ships: weights, tokenizer, report, history and card."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from helpers.base_model.base_card import base_card
from helpers.base_model.base_recipes import EMBEDDED, BaseRecipe
from helpers.base_model.evaluation import BaseModelReport, evaluate_base_model
from helpers.base_model.token_arrays import CORPUS_FACTS, load_evaluation_text
from helpers.machine.hardware import Runtime, hardware_facts
from helpers.models.causal_lm import load_causal_lm
from helpers.run.workspace import read_json, write_json, write_text
from helpers.train.from_scratch import PretrainingResult
from helpers.train.step_log import read_log

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
WEIGHTS = "weights"  # in a run's folder: the trained model alone
RELEASED = "model"  # in a run's folder: everything that ships
HISTORY = "training.json"  # beside the weights: every phase of training that led to them
# Token that does not occur in training -> token whose embedding it gets.
LIKE = {"<|im_end|>": "<|endoftext|>", "<|im_start|>": "<|file_sep|>"}


def save_weights(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save the trained model as `folder/weights`, replacing an earlier one as a whole."""
    partial = folder / f"{WEIGHTS}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    _in_bfloat16(model, tokenizer).save_pretrained(partial)
    shutil.rmtree(folder / WEIGHTS, ignore_errors=True)
    partial.rename(folder / WEIGHTS)


def write_release(
    recipe: BaseRecipe, data: Path, folder: Path, runtime: Runtime, result: PretrainingResult
) -> None:
    """Evaluate `folder/weights`, and write everything that ships to `folder/model`, replaced as a whole."""
    partial = folder / f"{RELEASED}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / WEIGHTS, partial)
    for name in TOKENIZER_FILES:
        shutil.copy(EMBEDDED / name, partial / name)
    report = evaluate_release(partial, data, runtime, recipe)
    curve = [
        {"tokens": row["tokens"], **row["evaluation"]} for row in read_log(folder) if "evaluation" in row
    ]
    earlier = read_json(Path(recipe.start) / HISTORY) if recipe.start else []
    history = [
        *earlier,
        {
            "recipe": with_trained_shape(recipe, Qwen2Config.from_pretrained(partial)),
            "tokens": result.tokens,
            "seconds": result.seconds,
            "tokens_per_second": result.tokens_per_second,
            "hardware": hardware_facts(runtime),
            "curve": curve,
            "corpus": read_json(data / CORPUS_FACTS),
        },
    ]
    write_json(partial / "report.json", report)
    write_json(partial / HISTORY, history)
    write_text(partial / "README.md", base_card(partial))
    shutil.rmtree(folder / RELEASED, ignore_errors=True)
    partial.rename(folder / RELEASED)


def evaluate_release(model_folder: Path, data: Path, runtime: Runtime, recipe: BaseRecipe) -> BaseModelReport:
    """Evaluate the model in `model_folder` on the held-out files of `data`."""
    model, tokenizer = load_causal_lm(str(model_folder), runtime, seed=recipe.data_seed)
    return evaluate_base_model(
        model,
        tokenizer,
        load_evaluation_text(data),
        runtime,
        seed=recipe.data_seed,
        window=recipe.window,
        functions=recipe.functions,
    )


def with_trained_shape(recipe: BaseRecipe, config: Qwen2Config) -> BaseRecipe:
    """Return the recipe for the history, with the shape that the model got from an earlier phase."""
    return dataclasses.replace(
        recipe,
        start="earlier stretch" if recipe.start else "",  # never a local path
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        mlp_width=config.intermediate_size,
    )


@torch.no_grad()
def _in_bfloat16(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Copy the model in bfloat16, and give chat tokens the embeddings of the tokens they resemble.

    Chat tokens don't occur in training, so a frozen output head could never emit them otherwise.
    """
    copy = Qwen2ForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict({name: value.to(torch.bfloat16) for name, value in model.state_dict().items()})
    table = copy.get_input_embeddings().weight
    for token, known in LIKE.items():
        table[tokenizer.convert_tokens_to_ids(token)] = table[tokenizer.convert_tokens_to_ids(known)]
    return copy
