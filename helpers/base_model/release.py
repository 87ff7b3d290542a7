"""Turn a trained base model into the folder that ships: weights, tokenizer, report, history and card."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import jinja2
import torch
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from helpers.base_model.base_recipes import EMBEDDED, BaseRecipe
from helpers.base_model.evaluation import evaluate_base_model
from helpers.base_model.token_arrays import CORPUS_FACTS, load_evaluation_text
from helpers.escaping import cell, code_block, inline
from helpers.machine.hardware import Runtime, hardware_facts
from helpers.models.causal_lm import load_causal_lm
from helpers.run.workspace import read_json, write_json, write_text
from helpers.train.checkpoints import written_whole
from helpers.train.from_scratch import PretrainingResult
from helpers.train.step_log import read_log

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
WEIGHTS = "weights"  # in a run's folder: the trained model alone
RELEASED = "model"  # in a run's folder: everything that ships
HISTORY = "training.json"  # beside the weights: every phase of training that led to them
SHARE_LABELS = {
    "copy_teacher_forced": "next token of a copy, given the true tokens before it",
    "copy_exact": "copied exactly, without help",
    "repair_exact": "repaired exactly, after one planted one-token fault",
    "repair_unchanged": "returned with the fault",
}
# Token that does not occur in training -> token whose embedding it gets.
LIKE = {"<|im_end|>": "<|endoftext|>", "<|im_start|>": "<|file_sep|>"}


def save_weights(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save the trained model as `folder/weights`, replacing an earlier one as a whole."""
    with written_whole(folder / WEIGHTS) as partial:
        _in_bfloat16(model, tokenizer).save_pretrained(partial)


def write_release(
    recipe: BaseRecipe, data: Path, folder: Path, runtime: Runtime, result: PretrainingResult
) -> None:
    """Evaluate `folder/weights`, and write everything that ships to `folder/model`, replaced as a whole."""
    curve = [
        {"tokens": row["tokens"], **row["evaluation"]} for row in read_log(folder) if "evaluation" in row
    ]
    earlier = read_json(Path(recipe.start) / HISTORY) if recipe.start else []
    with written_whole(folder / RELEASED) as partial:
        shutil.copytree(folder / WEIGHTS, partial)
        for name in TOKENIZER_FILES:
            shutil.copy(EMBEDDED / name, partial / name)
        model, tokenizer = load_causal_lm(str(partial), runtime, seed=recipe.data_seed)
        report = evaluate_base_model(model, tokenizer, load_evaluation_text(data), runtime, recipe)
        phase = {
            "recipe": with_trained_shape(recipe, Qwen2Config.from_pretrained(partial)),
            "tokens": result.tokens,
            "seconds": result.seconds,
            "tokens_per_second": result.tokens_per_second,
            "hardware": hardware_facts(runtime),
            "curve": curve,
            "corpus": read_json(data / CORPUS_FACTS),
        }
        write_json(partial / "report.json", report)
        write_json(partial / HISTORY, [*earlier, phase])
        write_text(partial / "README.md", base_card(partial))


def base_card(folder: Path) -> str:
    """Write the README of the model in `folder` from its config, weights, report.json and training.json."""
    report, history = read_json(folder / "report.json"), read_json(folder / HISTORY)
    weights = folder / "model.safetensors"
    with safe_open(weights, "pt") as tensors:
        shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118 (not a dict)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters |= {"cell": cell, "inline": inline, "code_block": code_block}
    corpus = history[-1]["corpus"]
    return environment.get_template("base_card.md.j2").render(
        report=report,
        history=history,
        corpus=corpus,
        config=read_json(folder / "config.json"),
        parameters=sum(map(math.prod, shapes)),
        size=weights.stat().st_size,
        shares=[(label, report[name]) for name, label in SHARE_LABELS.items()],
        held_out=", ".join(source["name"] for source in corpus["held_out_sources"]),
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

    Chat tokens do not occur in training. Without this, a model with a frozen output head could not emit them.
    """
    copy = Qwen2ForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict({name: value.to(torch.bfloat16) for name, value in model.state_dict().items()})
    table = copy.get_input_embeddings().weight
    for token, known in LIKE.items():
        table[tokenizer.convert_tokens_to_ids(token)] = table[tokenizer.convert_tokens_to_ids(known)]
    return copy
