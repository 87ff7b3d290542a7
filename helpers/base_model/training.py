"""The embedded base model, from training text to a folder with weights and card, in one command.

Three steps, each found again when it is there: the text as token arrays, the training (resumable
at every checkpoint, shared by processes that a launcher starts), and the report on held-out files.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from helpers.base_model.card import base_card
from helpers.base_model.change_pairs import KINDS, SEPARATOR, change_pairs
from helpers.base_model.corpus import load_base_corpus
from helpers.base_model.evaluation import BaseModelReport, copied_tokens, draw_functions, evaluate_base_model
from helpers.base_model.windows import MixedWindows, offsets_path, tokenize_to
from helpers.errors import SuiteError
from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import Runtime, can_compile, detect_runtime, hardware_facts
from helpers.models.causal_lm import load_causal_lm
from helpers.models.cheaper_forms import scores_are_small
from helpers.models.token_loss import MAX_LOGITS
from helpers.records import SourceFile
from helpers.run.workspace import Workspace, read_json, read_jsonl, write_json, write_jsonl, write_text
from helpers.train.from_scratch import (
    Optimizer,
    PretrainingSettings,
    Schedule,
    next_token_loss,
    pretrain,
    rank_and_world_size,
)
from helpers.train.step_log import read_log

EMBEDDED = Path(__file__).parents[1] / "models" / "tiny_code_lm"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
START = "start"  # in a stretch's folder: the model that it goes on from
HISTORY = "training.json"  # beside the weights: every stretch of training that led to them
LIKE = {"<|im_end|>": "<|endoftext|>", "<|im_start|>": "<|file_sep|>"}  # never seen in training
WATCHED_FILES = 30  # held-out files scored during training
WATCHED_FUNCTIONS = 40  # of them, copied during training; none of those that the report copies
COUNTED_BYTES = 30_000_000  # of training text, that the 5-gram model counts
WORKERS = 2


class BaseRecipeError(SuiteError, ValueError):
    """A recipe that does not exist or does not fit what lies there."""


@dataclass(frozen=True)
class BaseRecipe:
    """One way to train the base model."""

    name: str
    steps: int
    rows_per_step: int
    micro_batch: int
    start: str = ""  # folder of weights to go on from; "" begins at random
    layers: int = 8
    width: int = 320
    heads: int = 5
    key_value_heads: int = 1
    mlp_width: int = 864
    window: int = 512
    decay: float = 0.45  # share of all steps, at the end
    warmup: int = 100
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer("muon", learning_rate=4e-3, muon_learning_rate=0.02)
    )
    bytes_per_source: int | None = None
    pairs_per_function: int = 1
    pair_share: float = 0.35
    question_weight: float = 1.0  # of the loss on a pair's first half
    answer_weight: float = 1.0  # and on its second
    start_share: float = 0.0  # of the starting weights in the mean that is kept; the rest: the trained ones
    held_out: int = 150
    near: int = 60  # held-out files of the training packages
    functions: int = 200  # copied and repaired for the report
    data_seed: int = 1  # of the files that are taken and held out, and of the report's draws
    seed: int = 1  # of the weights and the order of windows; another for every stretch
    compile: bool = False  # where there is a compiler
    max_logits: int = MAX_LOGITS  # elements of the logits held at once; 2**29 take about 6 GiB


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # one data-centre GPU: 131,072 tokens a step, half a billion in all. The shape is what two CPU
        # cores adapt within the time of a run.
        BaseRecipe(
            "base", steps=4_000, rows_per_step=256, micro_batch=128, layers=6, width=256, heads=4,
            key_value_heads=2, mlp_width=768, pairs_per_function=2, question_weight=0.5, answer_weight=3.0,
            compile=True, max_logits=2**29,
        ),
        # two CPU cores: goes on from the embedded weights
        BaseRecipe(
            "stretch", steps=2_700, rows_per_step=24, micro_batch=4, start=str(EMBEDDED), warmup=40,
            bytes_per_source=6_000_000, pair_share=0.5, question_weight=0.5, answer_weight=6.0, seed=6,
            decay=0.9, start_share=0.6, compile=True,
            optimizer=Optimizer(
                "muon", learning_rate=8e-4, muon_learning_rate=0.004, warm_momentum=(0.85, 100)
            ),
        ),
        BaseRecipe(
            "smoke", steps=6, rows_per_step=4, micro_batch=2, layers=2, width=64, heads=2, mlp_width=96,
            window=128, warmup=2, bytes_per_source=20_000, held_out=6, near=2, functions=4,
        ),
    )
}  # fmt: skip


def train_base_model(name: str, *, out: Path, resume: bool, steps: int | None = None) -> Path:
    """Train recipe `name` below `out/runs/base/<name>`; returns the folder of the finished model.

    Args:
        resume: go on with what lies there; otherwise begin anew (token arrays are kept, they depend
            on nothing that training does).
        steps: other than the recipe's; the decay keeps its share.

    Raises:
        BaseRecipeError: for an unknown recipe.
    """
    if name not in RECIPES:
        raise BaseRecipeError(f"no recipe {name!r} for code; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps=steps)
    root = out / "runs" / "base"
    folder = root / name
    rank, _ = rank_and_world_size()
    if rank == 0:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        _data(root, recipe)
        keep_start(recipe, folder)
    wait_for_first()
    if recipe.start:
        recipe = dataclasses.replace(recipe, start=str(folder / START))
    data = _data(root, recipe)
    runtime = detect_runtime(deterministic=False)
    result = _train(recipe, data, folder, runtime)
    if rank == 0:
        _export(recipe, data, folder, runtime, result)
        shown = read_json(folder / "model" / "report.json")
        print(json.dumps({k: v for k, v in shown.items() if k != "samples"}, indent=1))
    return folder / "model"


def keep_start(recipe: BaseRecipe, folder: Path) -> None:
    """Copy what a stretch begins with into its `folder`, once.

    The finished model takes the place that the stretch began from; resumed after that, it would go on
    from itself, and tell its history twice.
    """
    if recipe.start and not (folder / START).is_dir():
        partial = folder / f"{START}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(recipe.start, partial)
        partial.rename(folder / START)


def wait_for_first() -> None:
    """Let the other processes of a launch wait until the first has prepared the data."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _data(root: Path, recipe: BaseRecipe) -> Path:
    """The folder with token arrays, held-out files and what is known of the sources."""
    inputs = [recipe.bytes_per_source, recipe.pairs_per_function, recipe.held_out, recipe.near]
    inputs += [recipe.data_seed, KINDS]

    def build(folder: Path) -> None:
        corpus = load_base_corpus(
            seed=recipe.data_seed, bytes_per_source=recipe.bytes_per_source, held_out=recipe.held_out,
            near=recipe.near,
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
        order = np.random.default_rng(recipe.data_seed).permutation(len(corpus.train))
        texts = [corpus.train[i].text for i in order]
        tokenize_to(folder / "plain.npy", texts, tokenizer, total=len(texts))
        pairs = change_pairs(
            corpus.train, recipe.data_seed, per_function=recipe.pairs_per_function, processes=WORKERS
        )
        tokenize_to(folder / "pairs.npy", (text for _, text in pairs), tokenizer, total=len(pairs))
        write_jsonl(folder / "held_out.jsonl", corpus.held_out)
        write_jsonl(folder / "near.jsonl", corpus.near)
        counted, counted_bytes = [], 0
        for text in texts:
            if counted_bytes < COUNTED_BYTES:
                counted.append({"text": text})
                counted_bytes += len(text.encode())
        write_jsonl(folder / "counted.jsonl", counted)
        kinds: dict[str, int] = {}
        for kind, _ in pairs:
            kinds[kind] = kinds.get(kind, 0) + 1
        write_json(
            folder / "corpus.json",
            {
                "sources": corpus.sources,
                "held_out_sources": corpus.held_out_sources,
                "rejected": corpus.rejected,
                "pairs": kinds,
                "counted_bytes": counted_bytes,
                "plain_tokens": len(np.load(folder / "plain.npy", mmap_mode="r")),
                "pair_tokens": len(np.load(folder / "pairs.npy", mmap_mode="r")),
            },
        )

    return Workspace(root, "base").stage(f"data-{recipe.name}", inputs, build)


def _train(recipe: BaseRecipe, data: Path, folder: Path, runtime: Runtime):
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    model = _model(recipe, tokenizer, runtime)
    _choose_attention(model, recipe, runtime)
    pairs = data / "pairs.npy"
    windows = MixedWindows(
        plain=np.load(data / "plain.npy", mmap_mode="r"),
        pairs=np.load(pairs, mmap_mode="r"),
        pair_offsets=np.load(offsets_path(pairs)),
        window=recipe.window,
        rows_per_step=recipe.rows_per_step,
        micro_batch=recipe.micro_batch,
        pair_share=recipe.pair_share,
        seed=recipe.seed,
        separator=tokenizer.convert_tokens_to_ids(SEPARATOR),
        question_weight=recipe.question_weight,
        answer_weight=recipe.answer_weight,
    )
    files = read_jsonl(data / "held_out.jsonl", SourceFile)
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
    result = pretrain(model, windows, settings, runtime, folder, evaluate=evaluate, loss_function=loss)
    if rank_and_world_size()[0] == 0:
        partial = folder / "weights.partial"
        shutil.rmtree(partial, ignore_errors=True)
        if recipe.start_share:
            mean_with_start(model, _model(recipe, tokenizer, runtime), recipe.start_share)
        _finished(model, tokenizer).save_pretrained(partial)
        shutil.rmtree(folder / "weights", ignore_errors=True)
        partial.rename(folder / "weights")
    return result


def _model(recipe: BaseRecipe, tokenizer, runtime: Runtime) -> PreTrainedModel:
    """Random or earlier weights in float32; autocast does the rest."""
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
    """Plain products of whole score matrices on a CPU, where the fused kernel is the slower one."""
    shape = model.config  # the model's own, since an earlier stretch may have another than the recipe
    layers, heads = shape.num_hidden_layers, shape.num_attention_heads
    if runtime.device.type == "cpu" and scores_are_small(layers, heads, recipe.micro_batch, recipe.window):
        model.set_attn_implementation("eager")


@torch.no_grad()
def mean_with_start(model: PreTrainedModel, start: PreTrainedModel, share: float) -> None:
    """Move `model` back towards `start` by `share`: what one stretch gains without what it loses.

    Weights along one course of training can be averaged (Wortsman et al. 2022, "Robust fine-tuning of
    zero-shot models").
    """
    for trained, first in zip(model.parameters(), start.parameters(), strict=True):
        trained.lerp_(first.to(trained), share)


@torch.no_grad()
def _finished(model: PreTrainedModel, tokenizer) -> PreTrainedModel:
    """A copy in bfloat16, in which the chat's tokens begin and end as those that they resemble.

    They do not occur in training; a frozen output head could never emit them otherwise.
    """
    copy = Qwen2ForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict({name: value.to(torch.bfloat16) for name, value in model.state_dict().items()})
    table = copy.get_input_embeddings().weight
    for token, known in LIKE.items():
        table[tokenizer.convert_tokens_to_ids(token)] = table[tokenizer.convert_tokens_to_ids(known)]
    return copy


def _export(recipe: BaseRecipe, data: Path, folder: Path, runtime: Runtime, result) -> None:
    """Weights, tokenizer, report, history and card in `folder/model`, replaced whole."""
    partial = folder / "model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / "weights", partial)
    for name in TOKENIZER_FILES:
        shutil.copy(EMBEDDED / name, partial / name)
    report = report_on(partial, data, runtime, recipe)
    curve = [
        {"tokens": row["tokens"], **row["evaluation"]} for row in read_log(folder) if "evaluation" in row
    ]
    earlier = read_json(Path(recipe.start) / HISTORY) if recipe.start else []
    history = [
        *earlier,
        {
            "recipe": as_trained(recipe, Qwen2Config.from_pretrained(partial)),
            "tokens": result.tokens,
            "seconds": result.seconds,
            "tokens_per_second": result.tokens_per_second,
            "hardware": hardware_facts(runtime),
            "curve": curve,
            "corpus": read_json(data / "corpus.json"),
        },
    ]
    write_json(partial / "report.json", report)
    write_json(partial / HISTORY, history)
    write_text(partial / "README.md", base_card(partial))
    shutil.rmtree(folder / "model", ignore_errors=True)
    partial.rename(folder / "model")


def as_trained(recipe: BaseRecipe, config: Qwen2Config) -> BaseRecipe:
    """The recipe as a history tells it: of the model's own shape, which an earlier stretch had chosen."""
    return dataclasses.replace(
        recipe,
        start="earlier stretch" if recipe.start else "",  # never a path of this machine
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        mlp_width=config.intermediate_size,
    )


def report_on(model_folder: Path, data: Path, runtime: Runtime, recipe: BaseRecipe) -> BaseModelReport:
    """Figures of the model in `model_folder` on the held-out files of `data`."""
    model, tokenizer = load_causal_lm(str(model_folder), runtime, seed=recipe.data_seed)
    return evaluate_base_model(
        model,
        tokenizer,
        read_jsonl(data / "held_out.jsonl", SourceFile),
        read_jsonl(data / "near.jsonl", SourceFile),
        [row["text"] for row in read_jsonl(data / "counted.jsonl")],
        runtime,
        seed=recipe.data_seed,
        window=recipe.window,
        functions=recipe.functions,
    )
